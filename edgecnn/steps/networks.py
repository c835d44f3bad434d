"""The stages that make and change the network: train, prune, finetune. Each leaves weights and a float ONNX."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecnn import data, files
from edgecnn.data import Source, Splits, weights
from edgecnn.errors import MissingExtraError
from edgecnn.progress import Progress
from edgecnn.recipe import FinetuneStep, PruneStep, Recipe
from edgecnn.stages import Stage, StageStore

if TYPE_CHECKING:
    import torch
    from torch import nn

    from edgecnn.training.loop import Pictures, Settings

ONNX_FILE = "network.onnx"
WEIGHTS_FILE = "network.safetensors"
TRAINING_PACKAGES = ("torch", "safetensors", "onnxscript", "torch_pruning")
CODE = (
    "edgecnn.data",
    "edgecnn.models",
    "edgecnn.ondevice.manifest",
    "edgecnn.training",
    "edgecnn.compress.prune",
    "edgecnn.export.onnx",
    "edgecnn.steps.networks",
)


@dataclass
class Workshop:
    """What the stages of one build share: the recipe, the store, and the pictures, loaded when first needed."""

    recipe: Recipe
    store: StageStore
    progress: Progress
    data_folders: tuple[Path, ...] = ()

    @cached_property
    def source(self) -> Source:
        """The data of the recipe, found but not read."""
        return source_of(self.recipe, self.data_folders)

    @cached_property
    def splits(self) -> Splits:
        return data.read(self.source, self.recipe.preprocessing, self.progress)

    @cached_property
    def torch_device(self) -> torch.device:
        """Prepares torch for repeatable work with the recipe's thread count, and picks the device.

        Raises MissingExtraError where a package of the extra `train` is not installed.
        """
        for package in TRAINING_PACKAGES:
            if importlib.util.find_spec(package) is None:
                raise MissingExtraError(package, extra="train", needed_for="training")
        # Before torch is loaded: its idle threads sleep instead of spinning. Spinning is faster on a machine
        # that does nothing else, and many times slower on one that does.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        from edgecnn.training.device import prepare

        return prepare(self.recipe.train.threads)

    @cached_property
    def pictures(self) -> dict[str, Pictures]:
        from edgecnn.training.loop import Pictures

        return {
            part.split: Pictures(part, self.recipe.preprocessing, self.torch_device)
            for part in (self.splits.train, self.splits.validation)
        }


def source_of(recipe: Recipe, data_folders: tuple[Path, ...] = ()) -> Source:
    """The data of `recipe`, looked for in `data_folders` first. Raises DataError."""
    return data.find(recipe.data.name, recipe.data.options(recipe.seed), data_folders)


def network_stages(shop: Workshop) -> tuple[Stage, ...]:
    """The train stage, then one stage for each prune and finetune step of the recipe, in order."""
    dense = _train_stage(shop)
    stages = [dense]
    for position, step in enumerate(shop.recipe.compress, start=1):
        if isinstance(step, PruneStep):
            stages.append(_prune_stage(shop, step, position, stages[-1]))
        elif isinstance(step, FinetuneStep):
            stages.append(_finetune_stage(shop, step, position, stages[-1], dense))
    return tuple(stages)


def _stage(
    shop: Workshop,
    name: str,
    inputs: dict[str, Any],
    make: Callable[[Path], tuple[nn.Module, list[dict[str, Any]]]],
    needs: tuple[Stage, ...] = (),
) -> Stage:
    """A stage whose `make` gives a trained network and its history."""
    recipe = shop.recipe

    def work(folder: Path) -> dict[str, Any]:
        model, history = make(folder)
        return _keep(shop, folder, model, history)

    shared = {
        "seed": recipe.seed,
        "data": shop.source.sha256,
        "preprocessing": asdict(recipe.preprocessing),
        "model": recipe.model.model_dump(mode="json"),
        "train": recipe.train.model_dump(mode="json"),
        # They decide the bits of weights and graph.
        **{tool: installed_version(tool) for tool in ("torch", "onnx", "onnxscript")},
    }
    return Stage(name, {**shared, **inputs}, work, needs, CODE)


def _train_stage(shop: Workshop) -> Stage:
    recipe = shop.recipe
    start = weights.find(recipe.model.name, recipe.model.weights, shop.data_folders)

    def make(folder: Path) -> tuple[nn.Module, list[dict[str, Any]]]:
        model = _fresh(shop, recipe.model.layer_widths)
        if start:
            _begin_from(shop, start.path(shop.progress), model)
        return model, _train(shop, model, _train_settings(shop.recipe), folder / "checkpoint", "train")

    return _stage(shop, "train", {"weights": start.sha256} if start else {}, make)


def _begin_from(shop: Workshop, path: Path, model: nn.Module) -> None:
    from edgecnn.training.weights import put_into, read_weights

    kept = put_into(model, read_weights(path), where=str(path))
    if kept:
        shop.progress.say(f"weights of {path.name}, but for {', '.join(kept)}: for another number of classes")


def _prune_stage(shop: Workshop, step: PruneStep, position: int, source: Stage) -> Stage:
    spec = step.prune
    name = f"{position}-prune"

    def make(folder: Path) -> tuple[nn.Module, list[dict[str, Any]]]:
        from edgecnn.compress.prune import N_JUDGED_IMAGES, prune, widths_at_step
        from edgecnn.models import widths_of

        recipe = shop.recipe
        model = load_network(shop, source)
        start = widths_of(model, recipe.model.name)
        target = spec.kept(recipe.model.name, start)
        train = shop.pictures["train"]
        judged, labels = train.normalized(train.images[:N_JUDGED_IMAGES]), train.labels[:N_JUDGED_IMAGES]
        history: list[dict[str, Any]] = []
        for k in range(1, spec.steps + 1):
            prune(
                model,
                widths_at_step(start, target, k, spec.steps),
                spec.criterion,
                judged,
                labels,
                recipe.seed,
            )
            if spec.finetune_epochs:
                settings = _finetune_settings(
                    recipe, spec.finetune_epochs, recipe.train.learning_rate, position, k
                )
                title = f"prune {k}/{spec.steps}"
                history += _train(shop, model, settings, folder / f"checkpoint-{k}", title)
        return model, history

    return _stage(
        shop,
        name,
        {"prune": spec.model_dump(mode="json"), "torch-pruning": installed_version("torch-pruning")},
        make,
        (source,),
    )


def _finetune_stage(shop: Workshop, step: FinetuneStep, position: int, source: Stage, dense: Stage) -> Stage:
    spec = step.finetune
    needs = (source, dense) if spec.teacher and dense is not source else (source,)

    def make(folder: Path) -> tuple[nn.Module, list[dict[str, Any]]]:
        from edgecnn.training.distill import Teacher

        model = load_network(shop, source)
        teacher = None
        if spec.teacher:
            teacher = Teacher(load_network(shop, dense), spec.temperature, spec.teacher_weight)
        settings = _finetune_settings(shop.recipe, spec.epochs, spec.learning_rate, position, 0)
        return model, _train(shop, model, settings, folder / "checkpoint", "finetune", teacher)

    return _stage(shop, f"{position}-finetune", {"finetune": spec.model_dump(mode="json")}, make, needs)


def load_network(shop: Workshop, stage: Stage) -> nn.Module:
    """The network that a finished stage left, on the build's device."""
    from edgecnn.training.checkpoint import load_weights

    model = _fresh(shop, shop.store.facts(stage)["widths"])
    load_weights(shop.store.folder(stage) / WEIGHTS_FILE, model)
    return model


def _fresh(shop: Workshop, widths: dict[str, int]) -> nn.Module:
    """A network of the recipe's kind with the recipe's seed, on the build's device."""
    torch_device = shop.torch_device
    from edgecnn.models import build_model

    recipe = shop.recipe
    return build_model(
        recipe.model.name,
        seed=recipe.seed,
        in_channels=recipe.preprocessing.channels,
        n_classes=len(shop.source.class_names),
        widths=widths,
        options=recipe.model_options,
    ).to(torch_device)


def _train(
    shop: Workshop, model: nn.Module, settings: Settings, checkpoints: Path, title: str, teacher: Any = None
) -> list[dict[str, Any]]:
    from edgecnn.training.loop import train

    history = train(
        model,
        shop.pictures["train"],
        shop.pictures["validation"],
        settings,
        checkpoints=checkpoints,
        teacher=teacher,
        progress=shop.progress,
        title=title,
    )
    return [{"title": title, **asdict(epoch)} for epoch in history]


def _train_settings(recipe: Recipe) -> Settings:
    from edgecnn.training.loop import Settings

    return Settings(**recipe.train.model_dump(exclude={"threads"}), seed=recipe.seed)


def _finetune_settings(
    recipe: Recipe, epochs: int, learning_rate: float, position: int, round_: int
) -> Settings:
    """The settings of `train` with other epochs and learning rate; every run draws its own random numbers.

    What is fine-tuned was trained here: no layer is frozen, and all learn at the same rate.
    """
    return replace(
        _train_settings(recipe),
        epochs=epochs,
        learning_rate=learning_rate,
        seed=recipe.seed + 1000 * position + round_,
        freeze_epochs=0,
        layer_decay=1.0,
    )


def _keep(shop: Workshop, folder: Path, model: nn.Module, history: list[dict[str, Any]]) -> dict[str, Any]:
    """Leaves weights and the float ONNX model in `folder`; returns widths, accuracy and history."""
    import onnx

    from edgecnn.export.onnx import export_onnx
    from edgecnn.models import widths_of
    from edgecnn.training.checkpoint import save_weights
    from edgecnn.training.loop import evaluate

    pre = shop.recipe.preprocessing
    save_weights(folder / WEIGHTS_FILE, model)
    with files.replacing(folder / ONNX_FILE) as temporary:
        onnx.save(export_onnx(model, (pre.channels, pre.height, pre.width)), temporary)
    for checkpoints in folder.glob("checkpoint*"):
        shutil.rmtree(checkpoints)
    return {
        "widths": widths_of(model, shop.recipe.model.name),
        "validation_accuracy": evaluate(model, shop.pictures["validation"]),
        "history": history,
    }


def installed_version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
