"""The whole flow on one screen: recipe -> network -> files -> measurements -> report."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from edgecnn import build_folder, gate, recipe_file
from edgecnn.progress import Progress, Silent
from edgecnn.recipe import Recipe
from edgecnn.records import Artifact, FloatParity, Measurement, ParityRecord, Report, StageFigures
from edgecnn.report import remarks
from edgecnn.stages import Planned, Stage, StageStore
from edgecnn.steps.artifacts import export_stage
from edgecnn.steps.measurements import (
    measure_stages,
    record_for,
    with_times,
)
from edgecnn.steps.networks import Workshop, network_stages
from edgecnn.steps.quantization import quantize_stage
from edgecnn.targets import TARGETS


def build(
    recipe_path: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    overrides: tuple[str, ...] = (),
    force: bool = False,
    data_folders: tuple[Path, ...] = (),
    progress: Progress | None = None,
) -> Report:
    """Builds the recipe into `output` (default: artifacts/<recipe name>) and returns what was found out.

    Stages whose inputs did not change are not done again, unless `force`. `overrides` are such as
    "train.epochs=3"; `data_folders` are searched for data sets and published weights first. A missed budget
    does not raise: see `Report.passed`. Raises EdgeCNNError.
    """
    loaded = recipe_file.load(Path(recipe_path), overrides)
    progress = progress or Silent()
    folder = build_folder.path_for(loaded.recipe, output)
    build_folder.check_source(folder, loaded, Path(recipe_path))
    with build_folder.claimed(folder, loaded.recipe):
        plan = _Plan(Workshop(loaded.recipe, StageStore(folder), progress, data_folders))
        store = plan.shop.store
        if force:
            store.forget(plan.stages)
        for stage in plan.stages:
            if not store.run(stage):
                progress.say(f"{stage.name}: unchanged")
        report = plan.report()
        build_folder.publish(folder, store.folder(plan.export), report, loaded)
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
    return shop.store.plan(_Plan(shop).stages, force=force)


class _Plan:
    """The stages of one build, in order, and the report that they add up to."""

    def __init__(self, shop: Workshop) -> None:
        self.shop = shop
        recipe = shop.recipe
        self.networks = network_stages(shop)
        self.quantized = (
            quantize_stage(shop, recipe.quantize, len(recipe.compress), self.networks[-1])
            if recipe.quantize
            else None
        )
        self.export = export_stage(shop, self.networks, self.quantized)
        self.measured = [
            measure_stages(shop, name, TARGETS[name]().probe(), self.export) for name in recipe.targets
        ]

    @property
    def compression(self) -> tuple[Stage, ...]:
        """The stages that make the network what it is."""
        return (*self.networks, *((self.quantized,) if self.quantized else ()))

    @property
    def stages(self) -> tuple[Stage, ...]:
        return (*self.compression, self.export, *(stage for pair in self.measured for stage in pair))

    def report(self) -> Report:
        recipe, store = self.shop.recipe, self.shop.store
        artifacts = tuple(
            self._measured(Artifact.model_validate(record)) for record in store.facts(self.export)["artifacts"]
        )
        evaluated = [store.facts(evaluate) for evaluate, _ in self.measured]
        notes = [*store.facts(self.export)["notes"]]
        if self.quantized:
            notes = [*store.facts(self.quantized)["notes"], *notes]
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
            verdicts=gate.judge(recipe.budget, artifacts),
            notes=(*notes, *remarks.on_speed(artifacts)),
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
