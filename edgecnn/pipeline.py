"""The whole flow on one screen: recipe -> network -> files -> measurements -> report."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgecnn import build_folder, gate, provenance, recipe_file
from edgecnn.data.notes import FEW_PICTURES, on_folds
from edgecnn.progress import Progress, Silent
from edgecnn.provenance import BuildLock, Checked, GitState
from edgecnn.recipe import Recipe
from edgecnn.records import (
    Artifact,
    BoardParity,
    FloatParity,
    LayerSensitivity,
    Measurement,
    ParityRecord,
    Report,
    StageFigures,
    Tuning,
)
from edgecnn.report import remarks
from edgecnn.search.workers import Workers
from edgecnn.stages import Planned, Stage, StageStore
from edgecnn.steps.analysis import ANALYSIS_FILE, analysis_stage
from edgecnn.steps.artifacts import export_stage
from edgecnn.steps.compression import network_stages
from edgecnn.steps.folds import folds_notes, folds_stage
from edgecnn.steps.given_onnx import given_stage
from edgecnn.steps.manifests import tool_versions
from edgecnn.steps.measurements import (
    measure_stages,
    record_for,
    with_times,
)
from edgecnn.steps.networks import Workshop
from edgecnn.steps.own_model import refuse_code
from edgecnn.steps.quantization import quantization_stages
from edgecnn.steps.search import search_record
from edgecnn.targets import open_target


def build(
    recipe_path: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    overrides: tuple[str, ...] = (),
    force: bool = False,
    allow_code: bool = False,
    data_folders: tuple[Path, ...] = (),
    workers: Workers | None = None,
    progress: Progress | None = None,
) -> Report:
    """Builds the recipe into `output` (default: artifacts/<recipe name>) and returns what was found out.

    Stages whose inputs did not change are not done again, unless `force`. `overrides` are such as
    "train.epochs=3"; with `allow_code` a recipe whose network is a Python file may run it; `data_folders` are
    searched for data sets and published weights first; `workers` do the trials of a search. A missed budget
    does not raise: see `Report.passed`. Raises EdgeCNNError.
    """
    loaded = recipe_file.load(Path(recipe_path), overrides)
    refuse_code(loaded.recipe, allow_code=allow_code)
    progress = progress or Silent()
    folder = build_folder.path_for(loaded.recipe, output)
    build_folder.check_source(folder, loaded, Path(recipe_path))
    with build_folder.claimed(folder, loaded.recipe):
        shop = Workshop(loaded.recipe, StageStore(folder), progress, data_folders, allow_code, workers)
        plan = BuildPlan(shop)
        store = shop.store
        if force:
            store.forget(plan.stages)
            store.forget_trials()
        for stage in plan.stages:
            if not store.run(stage):
                progress.say(f"{stage.name}: unchanged")
        report = plan.report()
        analysis = (store.folder(plan.analysis) / ANALYSIS_FILE).read_text(encoding="utf-8")
        repository = provenance.git_state(Path(recipe_path).resolve().parent)
        build_folder.publish(
            folder,
            store.folder(plan.export),
            report,
            analysis,
            loaded,
            lambda outputs: plan.lock(outputs, repository),
        )
    return report


def plan(
    recipe_path: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    overrides: tuple[str, ...] = (),
    force: bool = False,
    data_folders: tuple[Path, ...] = (),
) -> list[Planned]:
    """What `build` with the same arguments would run, and why. Nothing is written."""
    loaded = recipe_file.load(Path(recipe_path), overrides)
    folder = build_folder.path_for(loaded.recipe, output)
    build_folder.check(folder, loaded.recipe)
    shop = Workshop(loaded.recipe, StageStore(folder), Silent(), data_folders)
    return shop.store.plan(BuildPlan(shop).stages, force=force)


@dataclass(frozen=True)
class Rebuilt:
    """A build, made again: its model files against the first ones, and what went in that was not the same."""

    files: list[Checked]
    differences: list[str]

    @property
    def is_same(self) -> bool:
        return all(one.status == "ok" for one in self.files)


def rebuild(
    folder: Path,
    *,
    allow_code: bool = False,
    data_folders: tuple[Path, ...] = (),
    progress: Progress | None = None,
) -> Rebuilt:
    """Builds the recipe that lies in a build folder once more, elsewhere, and compares the model files.

    Raises EdgeCNNError, UsageError where `folder` holds no finished build.
    """
    lock = provenance.read(folder)
    with tempfile.TemporaryDirectory(prefix="edgecnn-rebuild-") as temporary:
        again = Path(temporary) / "again"
        build(
            folder / build_folder.RECIPE,
            again,
            allow_code=allow_code,
            data_folders=data_folders,
            progress=progress,
        )
        made = provenance.read(again)
        # Reports hold times, which are never twice the same.
        wanted = {name: sha256 for name, sha256 in lock.outputs.items() if name not in build_folder.ABOUT}
        compared = provenance.check(again, lock.model_copy(update={"outputs": wanted}))
    return Rebuilt(compared, provenance.differences(lock, made))


class BuildPlan:
    """The stages of one build, in order, and the report that they add up to."""

    def __init__(self, shop: Workshop) -> None:
        self.shop = shop
        recipe = shop.recipe
        self.networks = (given_stage(shop),) if recipe.model.name == "onnx" else network_stages(shop)
        self.quantizations = quantization_stages(shop, self.networks)
        self.folds = folds_stage(shop, recipe.data.folds) if recipe.data.folds else None
        self.export = export_stage(shop, self.networks, self.quantizations)
        self.measured = [
            measure_stages(shop, target, target.probe(), self.export)
            for target in map(open_target, recipe.targets)
        ]
        (evaluate, _), *_ = self.measured
        quantized = self.quantizations[-1] if self.quantizations else None
        self.analysis = analysis_stage(shop, self.networks, quantized, self.export, evaluate)

    @property
    def compression(self) -> tuple[Stage, ...]:
        """The stages that make the network what it is."""
        return (*self.networks, *self.quantizations)

    @property
    def stages(self) -> tuple[Stage, ...]:
        # Behind what it needs, each: that is where the teachers come in.
        trained = {(one.name, one.key): one for stage in self.compression for one in (*stage.needs, stage)}
        folds = (self.folds,) if self.folds else ()
        measured = (stage for pair in self.measured for stage in pair)
        return (*trained.values(), *folds, self.export, *measured, self.analysis)

    def report(self) -> Report:
        recipe, store = self.shop.recipe, self.shop.store
        artifacts = tuple(
            self._measured(Artifact.model_validate(record)) for record in store.facts(self.export)["artifacts"]
        )
        evaluated = [store.facts(evaluate) for evaluate, _ in self.measured]
        notes = [*store.facts(self.export)["notes"]]
        notes = [*(note for stage in self.quantizations for note in store.facts(stage)["notes"]), *notes]
        if self.folds:
            notes = [*folds_notes(store.facts(self.folds)), *notes]
        trained = store.facts(self.networks[0])
        # No note of the data's: they are kept with the network, which is the same with folds and without.
        if recipe.lacks_folds and trained["n_pictures"] < FEW_PICTURES:
            notes = [on_folds(trained["n_pictures"]), *notes]
        notes = [*trained.get("data_notes", ()), *notes]
        search = search_record(self.shop, self.networks)
        return Report(
            recipe=_recipe_facts(recipe),
            # As it was when the files were timed.
            environment=store.facts(self.measured[0][1])["environment"],
            artifacts=artifacts,
            stages=self._ledger(),
            parity=tuple(ParityRecord.model_validate(r) for facts in evaluated for r in facts["parity"]),
            float_parity=tuple(
                FloatParity.model_validate(r) for facts in evaluated for r in facts["float_parity"]
            ),
            board_parity=tuple(
                BoardParity.model_validate(r) for facts in evaluated for r in facts["board_parity"]
            ),
            search=search,
            tuning=self._tuning(),
            sensitivity=tuple(
                LayerSensitivity.model_validate(r) for r in store.facts(self.analysis)["sensitivity"]
            ),
            verdicts=gate.judge(recipe.budget, artifacts),
            notes=(*remarks.on_search(search), *notes, *remarks.on_speed(artifacts)),
        )

    def _tuning(self) -> Tuning | None:
        """What the quantize stage tried, where it was told to."""
        if not self.quantizations:
            return None
        found = self.shop.store.facts(self.quantizations[0])["tuning"]
        return Tuning.model_validate(found) if found else None

    def lock(self, outputs: dict[str, str], git: GitState | None) -> BuildLock:
        """What went into the build; `outputs` are the sha256 of the files that came out, by name."""
        shop, recipe = self.shop, self.shop.recipe
        environment = shop.store.facts(self.measured[0][1])["environment"]
        return BuildLock(
            recipe=recipe.name,
            recipe_sha256=recipe.sha256,
            seed=recipe.seed,
            data=recipe.data.name,
            data_sha256=shop.source.sha256,
            weights_sha256=shop.weights.sha256 if shop.weights else None,
            threads=recipe.train.threads,
            torch_device=shop.store.facts(self.networks[0]).get("torch_device"),
            machine={key: str(environment.get(key)) for key in ("cpu_model", "kernel", "python")},
            tools=tool_versions(),
            git=git,
            stages={stage.name: stage.key for stage in self.stages},
            outputs=outputs,
        )

    def _measured(self, artifact: Artifact) -> Artifact:
        store = self.shop.store
        measurements = [
            with_times(measured, record_for(measured, artifact.sha256, store.facts(benchmark)["records"]))
            for evaluate, benchmark in self.measured
            for record in store.facts(evaluate)["measurements"][artifact.key]
            for measured in [Measurement.model_validate(record)]
        ]
        return artifact.model_copy(update={"measurements": tuple(measurements)})

    def _ledger(self) -> tuple[StageFigures, ...]:
        rows = self.shop.store.facts(self.export)["ledger"]
        records = [self.shop.store.done(stage) or {} for stage in self.compression]
        return tuple(
            StageFigures(
                **row, validation_accuracy=done["facts"]["validation_accuracy"], seconds=done["seconds"]
            )
            for row, done in zip(rows, records, strict=True)
        )


def _recipe_facts(recipe: Recipe) -> dict[str, Any]:
    return {**recipe.model_dump(mode="json"), "sha256": recipe.sha256}
