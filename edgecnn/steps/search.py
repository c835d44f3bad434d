"""The stage that searches: many pruned networks are trained briefly, quantized and judged on the validation
images, the best of them then in full. It leaves the chosen network, and the study of all trials.

The test part has no say: in the workshop of a search it cannot be read.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecnn.errors import DivergedError, TargetError
from edgecnn.models import ALL_MODELS
from edgecnn.progress import Silent
from edgecnn.recipe import Recipe, SearchSpec
from edgecnn.recipe.steps import QatStep, SearchStep
from edgecnn.records import Search, SearchTrial
from edgecnn.search import cost
from edgecnn.search import search as searching
from edgecnn.search.candidates import DIVERGED, Candidate, Extent, Trial, Widths, front
from edgecnn.search.strategy import Space
from edgecnn.search.study import Study
from edgecnn.search.workers import InThisProcess
from edgecnn.stages import TRIAL, Stage, StageStore
from edgecnn.steps.networks import (
    Workshop,
    finetune_settings,
    installed_version,
    load_network,
    make_network,
    network_stage,
    taught,
    teacher_of,
    teacher_stage,
    train_network,
    train_stage,
)
from edgecnn.steps.quantization import quantization_stages
from edgecnn.targets import open_target
from edgecnn.targets.record import BenchmarkJob
from edgecnn.targets.target import Target
from edgecnn.units import format_cost, format_share

if TYPE_CHECKING:
    import onnx
    from torch import nn

STUDY_FILE = "study.sqlite"
COSTS_FILE = "costs.json"
# For the shapes and types of a quantized graph, which do not depend on the numbers.
N_SHAPING_IMAGES = 2
# The bytes of a candidate are those that the converter writes, its latency what a target measures.
CODE = (
    "edgecnn.analysis",
    "edgecnn.compress",
    "edgecnn.confined",
    "edgecnn.export",
    "edgecnn.metrics",
    "edgecnn.ondevice",
    "edgecnn.records",
    "edgecnn.search",
    "edgecnn.steps.foreign",
    "edgecnn.steps.manifests",
    "edgecnn.steps.quantization",
    "edgecnn.steps.search",
    "edgecnn.targets",
)


def search_stage(shop: Workshop, spec: SearchSpec, position: int, dense: Stage) -> Stage:
    """The network of the best trial, as after pruning and fine-tuning, and the study beside it."""

    def make(folder: Path) -> tuple[nn.Module, list[dict[str, Any]]]:
        # Here, and not by the first trials, all at once.
        shop.store.run(teacher_stage(shop, spec, dense))
        best = _Search(shop, spec, position, dense, folder).run().best
        if best.diverged:
            raise DivergedError(
                "every whole training of the search diverged",
                fix="lower its learning_rate (a tenth is a good next try)",
            )
        trial = _stages(shop, spec, position, dense, best.candidate.widths, "final")[0]
        return load_network(shop, trial), shop.store.facts(trial)["history"]

    inputs = {
        "search": spec.model_dump(mode="json"),
        "compress": [step.model_dump(mode="json") for step in shop.recipe.compress[position:]],
        "targets": shop.recipe.targets if spec.minimize == "latency" else None,
        **{tool: installed_version(tool) for tool in ("torch-pruning", "onnxruntime", "neural-compressor")},
    }
    needs = taught(shop, spec, dense, dense)
    return network_stage(shop, f"{position}-search", inputs, make, needs, CODE)


def search_record(shop: Workshop, networks: tuple[Stage, ...]) -> Search | None:
    """What the finished search stage among `networks` found; None where there is none."""
    spec = next((step.search for step in shop.recipe.compress if isinstance(step, SearchStep)), None)
    if spec is None:
        return None
    dense, stage = networks[0], networks[-1]
    layers = shop.recipe.model.layer_widths
    chosen = shop.store.facts(stage)["widths"]
    return Search(
        minimize=spec.minimize,
        layers=tuple(layers),
        needed_accuracy=needed_accuracy(shop, spec, dense),
        chosen=tuple(chosen[layer] for layer in layers),
        trials=tuple(
            SearchTrial(
                extent=one.extent,
                origin=one.candidate.origin,
                widths=one.candidate.widths,
                cost=one.cost,
                accuracy=one.accuracy,
            )
            for one in Study(shop.store.folder(stage) / STUDY_FILE).trials()
        ),
    )


def needed_accuracy(shop: Workshop, spec: SearchSpec, dense: Stage) -> float:
    """What a network must reach on the validation images, 0..1."""
    accuracy: float = shop.store.facts(dense)["validation_accuracy"]
    return accuracy - spec.max_accuracy_drop


def said_of(spec: SearchSpec, trial: Trial) -> str:
    """A trial in a few words: 9.2 kB 99.41 %."""
    return f"{format_cost(spec.minimize, trial.cost)} {format_share(trial.accuracy)}"


class _Search:
    """One search, which goes on where an earlier one stopped: a trial that is done is not done again."""

    def __init__(self, shop: Workshop, spec: SearchSpec, position: int, dense: Stage, folder: Path) -> None:
        self.shop, self.spec, self.position, self.dense = shop.sealed(), spec, position, dense
        self.study = Study(folder / STUDY_FILE)
        # No latency is measured twice the same: a search that goes on must meet the costs that it began with.
        self.costs = folder / COSTS_FILE if spec.minimize == "latency" else None

    def run(self) -> searching.Found:
        shop, spec = self.shop, self.spec
        shop.progress.start("search", total=spec.trials + spec.finalists)
        found = searching.search(
            self._space(),
            self._evaluate,
            needed=needed_accuracy(shop, spec, self.dense),
            n_trials=spec.trials,
            n_finalists=spec.finalists,
            seed=shop.recipe.seed,
        )
        missed = "" if found.holds else ", less accurate than asked for"
        shop.progress.finish(f"{said_of(spec, found.best)} on validation{missed}")
        return found

    def _space(self) -> Space:
        from edgecnn.compress.prune import channel_importance, n_judged

        shop = self.shop
        model = load_network(shop, self.dense)
        train, layers = shop.pictures["train"], shop.recipe.model.layer_widths
        n_images = n_judged(train.images[0].numel())
        judged = train.normalized(train.images[:n_images])
        worth = channel_importance(model, layers, "taylor", judged, train.labels[:n_images])
        step = self.spec.round_to or ALL_MODELS[shop.recipe.model.name].round_to
        dense = tuple(layers.values())
        graph = cost.ScalableGraph(self._untrained, dense, tuple(cost.narrowed(dense, step)))
        return Space(
            dense,
            step,
            cost.Cost(graph, self._measure, self.costs),
            tuple(worth[layer].numpy() for layer in layers),
        )

    def _untrained(self, widths: Widths) -> onnx.ModelProto:
        """The graph that a network of `widths` ends as: its shapes count, not its numbers."""
        from edgecnn.export.onnx import export_onnx
        from edgecnn.training.layers import scatter_vectors

        shop, recipe = self.shop, self.shop.recipe
        by_layer = dict(zip(recipe.model.layer_widths, widths, strict=True))
        model = make_network(shop, by_layer, len(shop.source.class_names))
        # A file holds equal vectors once, such as the zeros that biases begin with: it would seem smaller.
        scatter_vectors(model, recipe.seed)
        pre = recipe.preprocessing
        graph = export_onnx(model, (pre.channels, pre.height, pre.width))
        return graph if self.spec.minimize == "macs" else quantized_untrained(shop, graph)

    def _measure(self, graph: onnx.ModelProto) -> float:
        if self.spec.minimize == "macs":
            return cost.macs(graph)
        weights = "packed" if self.shop.recipe.quantized_precision == "int4" else "as-is"
        tflite = cost.tflite(graph, weights=weights)
        return len(tflite) if self.spec.minimize == "size" else self._latency_ms(tflite)

    def _latency_ms(self, tflite: bytes) -> float:
        """The median on the recipe's first target."""
        target = self._target
        with tempfile.TemporaryDirectory(prefix="edgecnn-search-") as folder:
            path = Path(folder, "candidate.tflite")
            path.write_bytes(tflite)
            runtimes = target.runtimes_for("tflite")
            if not runtimes:
                raise TargetError(
                    "it has no runtime for .tflite files", where=target.name, fix=target.how_to_install
                )
            [record] = target.benchmark([BenchmarkJob(path, runtimes[0], 1)], rounds=1, min_total_s=0.2)
        return record.latency_ms.median

    @cached_property
    def _target(self) -> Target:
        return open_target(self.shop.recipe.targets[0])

    def _evaluate(self, candidates: Sequence[Candidate], extent: Extent) -> list[Trial]:
        """The trials of `candidates`, in their order. What is done already has left its stages; a training that
        diverged has left none, but its row in the study.
        """
        shop = self.shop
        rows = {(one.candidate.widths, one.extent): one for one in self.study.trials() if one.diverged}
        known = {one.widths: rows[one.widths, extent] for one in candidates if (one.widths, extent) in rows}
        open_ = [one for one in candidates if one.widths not in known]
        workers = shop.workers or InThisProcess()
        do = self._here if isinstance(workers, InThisProcess) else run_trial
        jobs = [self._job(one, extent) for one in open_]
        shop.progress.advance(len(known))
        for position, accuracy in workers.run(do, jobs, n_threads=shop.recipe.train.threads):
            trial = Trial(open_[position], extent, accuracy)
            known[trial.candidate.widths] = trial
            self.study.add(trial)
            shop.progress.advance(1, self._told())
        return [known[one.widths] for one in candidates]

    def _job(self, candidate: Candidate, extent: Extent) -> TrialJob:
        shop = self.shop
        folder = shop.store.root.parent.absolute()
        return TrialJob(
            shop.recipe, folder, Path.cwd(), shop.data_folders, self.position, candidate.widths, extent
        )

    def _here(self, job: TrialJob) -> float:
        # With the pictures that are read already.
        return trial_accuracy(self.shop.like(progress=Silent()), job)

    def _told(self) -> str:
        """The front as it is, where it comes near what is asked for."""
        needed = needed_accuracy(self.shop, self.spec, self.dense)
        best = sorted(front(self.study.trials()), key=lambda trial: abs(trial.accuracy - needed))[:3]
        told = sorted(best, key=lambda trial: trial.cost)
        return f"needs {format_share(needed)}: " + ", ".join(said_of(self.spec, trial) for trial in told)


@dataclass(frozen=True)
class TrialJob:
    """All that a worker must know to do one trial, whichever process it is."""

    recipe: Recipe
    build_folder: Path
    working_folder: Path
    """Where relative paths of the recipe begin."""
    data_folders: tuple[Path, ...]
    position: int
    widths: Widths
    extent: Extent


def run_trial(job: TrialJob) -> float:
    """`trial_accuracy` in a process of its own, which keeps the pictures for the next trial."""
    os.chdir(job.working_folder)
    return trial_accuracy(_workshop(job.recipe, job.build_folder, job.data_folders), job)


@lru_cache(maxsize=1)
def _workshop(recipe: Recipe, build_folder: Path, data_folders: tuple[Path, ...]) -> Workshop:
    return Workshop(recipe, StageStore(build_folder), Silent(), data_folders).sealed()


def trial_accuracy(shop: Workshop, job: TrialJob) -> float:
    """Prunes, trains and quantizes; the accuracy of the last network on the validation images, 0..1."""
    spec = next(step.search for step in shop.recipe.compress if isinstance(step, SearchStep))
    dense = train_stage(shop)
    stages = _stages(shop, spec, job.position, dense, job.widths, job.extent)
    try:
        for stage in stages:
            shop.store.run(stage)
    except DivergedError:  # some widths do: that says something of them, not of the search
        return DIVERGED
    accuracy: float = shop.store.facts(stages[-1])["validation_accuracy"]
    return accuracy


def _stages(
    shop: Workshop, spec: SearchSpec, position: int, dense: Stage, widths: Widths, extent: Extent
) -> tuple[Stage, ...]:
    """What a trial does, in order: one stage that prunes and trains, then those of the recipe that quantize."""
    epochs = spec.epochs if extent == "final" else spec.screen_epochs
    trial = _trial_stage(shop, spec, position, dense, widths, epochs)
    share = epochs / spec.epochs
    shorter = shop.like(recipe=_with_shorter_qat(shop.recipe, share))
    return (trial, *quantization_stages(shorter, (dense, trial)))


def _with_shorter_qat(recipe: Recipe, share: float) -> Recipe:
    """`recipe` with a qat step of `share` of its epochs."""
    steps = tuple(
        step.model_copy(
            update={"qat": step.qat.model_copy(update={"epochs": max(1, round(step.qat.epochs * share))})}
        )
        if isinstance(step, QatStep)
        else step
        for step in recipe.compress
    )
    return recipe.model_copy(update={"compress": steps})


def _trial_stage(
    shop: Workshop, spec: SearchSpec, position: int, dense: Stage, widths: Widths, epochs: int
) -> Stage:

    def make(folder: Path) -> tuple[nn.Module, list[dict[str, Any]]]:
        from edgecnn.compress.prune import n_judged, prune

        model = load_network(shop, dense)
        train = shop.pictures["train"]
        n_images = n_judged(train.images[0].numel())
        by_layer = dict(zip(shop.recipe.model.layer_widths, widths, strict=True))
        judged, labels = train.normalized(train.images[:n_images]), train.labels[:n_images]
        prune(model, by_layer, "taylor", judged, labels, shop.recipe.seed)
        settings = finetune_settings(shop.recipe, epochs, spec.learning_rate, position, 0)
        teacher = teacher_of(shop, spec, dense)
        return model, train_network(shop, model, settings, folder / "checkpoint", "trial", teacher)

    inputs = {
        "widths": list(widths),
        "epochs": epochs,
        **spec.model_dump(mode="json", include={"learning_rate", "teacher", "temperature", "teacher_weight"}),
        "torch-pruning": installed_version("torch-pruning"),
    }
    needs = taught(shop, spec, dense, dense)
    return network_stage(shop, f"{position}-{TRIAL}", inputs, make, needs, ("edgecnn.steps.search",))


def quantized_untrained(shop: Workshop, graph: onnx.ModelProto) -> onnx.ModelProto:
    """`graph` with the shapes and types that the recipe's quantization steps would leave."""
    recipe = shop.recipe
    if not recipe.quantize:
        return graph
    from edgecnn.compress.quantize import quantize
    from edgecnn.ondevice.manifest import TensorSpec
    from edgecnn.ondevice.preprocess import model_input

    pictures = shop.splits.train.images_nhwc[:N_SHAPING_IMAGES]
    images = model_input(pictures, recipe.preprocessing, "NCHW", TensorSpec("", (), "float32"))
    quantized = quantize(graph, images, recipe.quantize).model
    if not recipe.qat:
        return quantized
    from edgecnn.compress.qat import prepare, trained_model

    return trained_model(*prepare(graph, quantized, recipe.qat))
