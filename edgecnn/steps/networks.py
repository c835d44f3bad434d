"""The stages that make and change the network: train, prune, finetune. Each leaves weights and a float ONNX."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from edgecnn import data, files
from edgecnn.data import DATASETS, Dataset, Source, Splits, notes
from edgecnn.errors import DataError, EdgeCNNError, MissingExtraError
from edgecnn.models import ALL_MODELS, own_code, weights
from edgecnn.models.own_code import OwnCode
from edgecnn.models.weights import Weights
from edgecnn.progress import Progress
from edgecnn.recipe import FinetuneStep, PruneStep, Recipe, Scaling
from edgecnn.recipe.model_spec import ModelSpec
from edgecnn.recipe.steps import LearningSpec
from edgecnn.stages import TEACHER, Stage, StageStore
from edgecnn.steps import own_model

if TYPE_CHECKING:
    import torch
    from torch import nn

    from edgecnn.search.workers import Workers
    from edgecnn.training.distill import Teacher
    from edgecnn.training.loop import Pictures, Settings

ONNX_FILE = "network.onnx"
WEIGHTS_FILE = "network.safetensors"
TRAINING_PACKAGES = ("torch", "safetensors", "onnxscript", "torch_pruning")
CODE = (
    "edgecnn.data",
    "edgecnn.models",
    "edgecnn.ondevice.manifest",
    "edgecnn.ondevice.preprocess",
    "edgecnn.training",
    "edgecnn.compress.prune",
    "edgecnn.export.onnx",
    "edgecnn.steps.networks",
    "edgecnn.steps.own_model",
)


@dataclass
class Workshop:
    """What the stages of one build share: the recipe, the store, and the pictures, loaded when first needed."""

    recipe: Recipe
    store: StageStore
    progress: Progress
    data_folders: tuple[Path, ...] = ()
    allow_code: bool = False
    workers: Workers | None = None
    """Who does the trials of a search; None: this process."""

    def like(self, **changes: Any) -> Workshop:
        """This workshop with `changes`, which must leave the pictures alone: those read already are shared."""
        other = replace(self, **changes)
        shared = ("source", "splits", "torch_device", "pictures")
        other.__dict__.update({name: self.__dict__[name] for name in shared if name in self.__dict__})
        return other

    def sealed(self) -> Workshop:
        """This workshop without the test part of its pictures: for whatever chooses."""
        closed = self.like()
        closed.__dict__["splits"] = replace(self.splits, test=cast(Dataset, _Sealed(len(self.splits.test))))
        return closed

    @cached_property
    def own_code(self) -> OwnCode | None:
        """The user's own network, where the recipe names one; found, not run. Raises ModelError."""
        spec = self.recipe.model
        return own_code.find(spec.path) if spec.name == "python" and spec.path else None

    @cached_property
    def source(self) -> Source:
        """The data of the recipe, found but not read."""
        return source_of(self.recipe, self.data_folders)

    @cached_property
    def splits(self) -> Splits:
        """The pictures. What is to be known of them is told once, when they are read."""
        splits = data.read(self.source, self.recipe.preprocessing, self.progress)
        for note in splits.notes:
            self.progress.say(note)
        if self.recipe.lacks_folds and notes.is_small(splits):
            self.progress.say(notes.on_folds(notes.n_pictures(splits)))
        return splits

    @property
    def is_labelled(self) -> bool:
        return DATASETS[self.recipe.data.name].labelled

    @cached_property
    def weights(self) -> Weights | None:
        """Those that the recipe's network starts from, found but not read."""
        return weights.find(self.recipe.model.name, self.recipe.model.weights, self.data_folders)

    @cached_property
    def torch_device(self) -> torch.device:
        """Prepares torch for repeatable work with the recipe's thread count, and picks the device.

        Raises MissingExtraError where a package of the extra `train` is not installed.
        """
        require_training_packages()
        # Before torch is loaded: its idle threads sleep instead of spinning. Spinning is faster on a machine
        # that does nothing else, and many times slower on one that does.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        from edgecnn.training.device import prepare

        return prepare(self.recipe.train.threads)

    @cached_property
    def pictures(self) -> dict[str, Pictures]:
        return {part.split: self.on_device(part) for part in (self.splits.train, self.splits.validation)}

    def on_device(self, part: Dataset) -> Pictures:
        """A part of the data, ready to train on."""
        from edgecnn.training.loop import Pictures

        # The user's network may take views that want the channels first.
        ours = self.own_code is None
        return Pictures(part, self.recipe.preprocessing, self.torch_device, channels_last=ours)


class _Sealed:
    """In the place of the test part: how many pictures it has may be known, nothing else."""

    def __init__(self, n_images: int) -> None:
        self._n_images = n_images

    def __len__(self) -> int:
        return self._n_images

    def __getattr__(self, name: str) -> Any:
        raise EdgeCNNError(
            f"a choice looked at the test images ({name}): what it chose would be chosen on them",
            fix="this is a fault of edgecnn: what chooses must judge on the validation images",
        )


def require_training_packages(needed_for: str = "training") -> None:
    """Raises MissingExtraError where a package of the extra `train` is not installed."""
    for package in TRAINING_PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, extra="train", needed_for=needed_for)


def source_of(recipe: Recipe, data_folders: tuple[Path, ...] = ()) -> Source:
    """The data of `recipe`, looked for in `data_folders` first. Raises DataError."""
    return data.find(recipe.data.name, recipe.data.options(recipe.seed), data_folders)


def network_stage(
    shop: Workshop,
    name: str,
    inputs: dict[str, Any],
    make: Callable[[Path], tuple[nn.Module, list[dict[str, Any]]]],
    needs: tuple[Stage, ...] = (),
    code: tuple[str, ...] = (),
) -> Stage:
    """A stage whose `make` gives a trained network and its history; CODE and `code` decide the result."""
    recipe = shop.recipe

    def work(folder: Path) -> dict[str, Any]:
        with own_code.blamed(shop.own_code, f"{recipe.model.path} failed"):
            model, history = make(folder)
            return _keep(shop, folder, model, history)

    return Stage(name, {**training_inputs(shop), **inputs}, work, needs, (*CODE, *code))


def training_inputs(shop: Workshop) -> dict[str, Any]:
    """What decides the result of every training of a build."""
    recipe = shop.recipe
    return {
        "seed": recipe.seed,
        "data": shop.source.sha256,
        "preprocessing": asdict(recipe.preprocessing),
        "model": recipe.model.model_dump(mode="json"),
        "train": recipe.train.model_dump(mode="json"),
        **({"own code": shop.own_code.sha256} if shop.own_code else {}),
        # It decodes and resizes the pictures, where they are not taken as they are.
        **({"pillow": installed_version("pillow")} if recipe.data.is_fitted else {}),
        # They decide the bits of weights and graph.
        **{tool: installed_version(tool) for tool in ("torch", "onnx", "onnxscript")},
    }


def train_stage(shop: Workshop, name: str = "train") -> Stage:
    def make(folder: Path) -> tuple[nn.Module, list[dict[str, Any]]]:
        model = start_network(shop, shop.progress)
        if not shop.recipe.train.epochs:
            return model, []
        return model, train_network(shop, model, train_settings(shop.recipe), folder / "checkpoint", name)

    return network_stage(shop, name, {"weights": shop.weights.sha256} if shop.weights else {}, make)


def start_network(shop: Workshop, progress: Progress) -> nn.Module:
    """The dense network before any training: with the recipe's weights, or random ones."""
    model = _fresh(shop, shop.recipe.model.layer_widths)
    if shop.own_code:
        own_model.check(shop, shop.own_code, model)
    if shop.weights:
        _begin_from(shop, shop.weights.path(progress), model, progress)
    return model


def _begin_from(shop: Workshop, path: Path, model: nn.Module, progress: Progress) -> None:
    """Raises DataError where a layer would stay random that nothing trains."""
    from edgecnn.training.weights import put_into, read_weights

    kept = put_into(model, read_weights(path), where=str(path))
    if kept and not shop.recipe.train.epochs:
        raise DataError(
            f"the weights are for another number of classes than {len(shop.source.class_names)}, and with "
            f"train.epochs 0 their place ({', '.join(kept)}) would stay random",
            where=str(path),
            fix="name as many classes as the weights have, or train",
        )
    if kept:
        progress.say(f"weights of {path.name}, but for {', '.join(kept)}: for another number of classes")


def prune_stage(shop: Workshop, step: PruneStep, position: int, source: Stage) -> Stage:
    spec = step.prune
    name = f"{position}-prune"

    def make(folder: Path) -> tuple[nn.Module, list[dict[str, Any]]]:
        from edgecnn.compress.prune import n_judged, prune, widths_at_step
        from edgecnn.models import widths_of

        recipe = shop.recipe
        model = load_network(shop, source)
        train = shop.pictures["train"]
        n_images = n_judged(train.images[0].numel())
        judged, labels = train.normalized(train.images[:n_images]), train.labels[:n_images]
        start = widths_of(model, recipe.model.name)
        if shop.own_code:
            start = own_model.prunable_widths(shop.own_code, model, start, judged[:2])
        target = spec.kept(recipe.model.name, start)
        history: list[dict[str, Any]] = []
        for k in range(1, spec.steps + 1):
            prune(
                model,
                widths_at_step(start, target, k, spec.steps, spec.schedule),
                spec.criterion,
                judged,
                labels,
                recipe.seed,
            )
            if shop.own_code:
                own_model.check_pruned(shop, shop.own_code, model)
            if spec.finetune_epochs:
                settings = finetune_settings(
                    recipe, spec.finetune_epochs, recipe.train.learning_rate, position, k
                )
                title = f"prune {k}/{spec.steps}"
                history += train_network(shop, model, settings, folder / f"checkpoint-{k}", title)
        return model, history

    return network_stage(
        shop,
        name,
        {"prune": spec.model_dump(mode="json"), "torch-pruning": installed_version("torch-pruning")},
        make,
        (source,),
    )


def finetune_stage(shop: Workshop, step: FinetuneStep, position: int, source: Stage, dense: Stage) -> Stage:
    spec = step.finetune

    def make(folder: Path) -> tuple[nn.Module, list[dict[str, Any]]]:
        model = load_network(shop, source)
        settings = finetune_settings(shop.recipe, spec.epochs, spec.learning_rate, position, 0)
        checkpoints = folder / "checkpoint"
        return model, train_network(
            shop, model, settings, checkpoints, "finetune", teacher_of(shop, spec, dense)
        )

    inputs = {"finetune": spec.model_dump(mode="json")}
    return network_stage(shop, f"{position}-finetune", inputs, make, taught(shop, spec, dense, source))


def taught(shop: Workshop, spec: LearningSpec, dense: Stage, *sources: Stage) -> tuple[Stage, ...]:
    """What a training of the network of `sources` needs: these, and the teacher that `spec` asks for."""
    teacher = (teacher_stage(shop, spec, dense),) if spec.teacher else ()
    return tuple(dict.fromkeys((*sources, *teacher)))


def teacher_stage(shop: Workshop, spec: LearningSpec, dense: Stage) -> Stage:
    """The dense network, or another one, trained as the recipe says: once, however many steps learn from it."""
    return train_stage(_teaching(shop, spec.teacher), TEACHER) if isinstance(spec.teacher, ModelSpec) else dense


def _teaching(shop: Workshop, teacher: ModelSpec) -> Workshop:
    """The workshop of `teacher`, with the same pictures, normalized as for the network that learns."""
    recipe = shop.recipe
    if recipe.model.weights == "imagenet" and ALL_MODELS[teacher.name].published and not teacher.weights:
        teacher = teacher.model_copy(update={"weights": "imagenet"})
    seen = recipe.preprocessing
    data_spec = recipe.data.model_copy(update={"normalization": Scaling(mean=seen.mean, std=seen.std)})
    return shop.like(recipe=recipe.model_copy(update={"model": teacher, "data": data_spec}))


def teacher_of(shop: Workshop, spec: LearningSpec, dense: Stage) -> Teacher | None:
    """The teacher that `spec` asks for, if it does; one that is not trained yet is trained now."""
    if not spec.teacher:
        return None
    from edgecnn.training.distill import Teacher

    assert shop.pictures  # Read now, they are shared.
    stage = teacher_stage(shop, spec, dense)
    shop.store.run(stage)
    teaching = _teaching(shop, spec.teacher) if isinstance(spec.teacher, ModelSpec) else shop
    return Teacher(load_network(teaching, stage), spec.temperature, spec.teacher_weight)


def load_network(shop: Workshop, stage: Stage) -> nn.Module:
    """The network that a finished stage left, on the build's device."""
    from edgecnn.training.checkpoint import load_weights

    model = _fresh(shop, shop.store.facts(stage)["widths"])
    load_weights(shop.store.folder(stage) / WEIGHTS_FILE, model)
    return model


def _fresh(shop: Workshop, widths: dict[str, int]) -> nn.Module:
    return make_network(shop, widths, len(shop.source.class_names))


def make_network(shop: Workshop, widths: dict[str, int], n_classes: int) -> nn.Module:
    """A network of the recipe's kind with the recipe's seed, on the build's device."""
    torch_device = shop.torch_device
    from edgecnn.models import build_model

    recipe = shop.recipe
    if shop.own_code:
        return own_model.make(shop, shop.own_code, widths).to(torch_device)
    return build_model(
        recipe.model.name,
        seed=recipe.seed,
        in_channels=recipe.preprocessing.channels,
        n_classes=n_classes,
        widths=widths,
        options=recipe.model_options,
    ).to(torch_device)


def train_network(
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


def train_settings(recipe: Recipe) -> Settings:
    from edgecnn.training.loop import Settings

    return Settings(**recipe.train.model_dump(exclude={"threads"}), seed=recipe.seed)


def finetune_settings(
    recipe: Recipe, epochs: int, learning_rate: float, position: int, round_: int
) -> Settings:
    """The settings of `train` with other epochs and learning rate; every run draws its own random numbers.

    What is fine-tuned was trained here: no layer is frozen, and all learn at the same rate.
    """
    return replace(
        train_settings(recipe),
        epochs=epochs,
        learning_rate=learning_rate,
        seed=recipe.seed + 1000 * position + round_,
        freeze_epochs=0,
        layer_decay=1.0,
    )


def _keep(shop: Workshop, folder: Path, model: nn.Module, history: list[dict[str, Any]]) -> dict[str, Any]:
    """Leaves weights and the float ONNX model in `folder`; returns widths, accuracy, history, notes of the
    data.
    """
    import onnx

    from edgecnn.export.onnx import export_onnx
    from edgecnn.models import widths_of
    from edgecnn.training.checkpoint import save_weights
    from edgecnn.training.loop import evaluate

    pre = shop.recipe.preprocessing
    save_weights(folder / WEIGHTS_FILE, model)
    with files.replacing(folder / ONNX_FILE) as temporary:
        onnx.save(export_onnx(model, (pre.channels, pre.height, pre.width)), temporary)
    return {
        "widths": widths_of(model, shop.recipe.model.name),
        "validation_accuracy": evaluate(model, shop.pictures["validation"]) if shop.is_labelled else None,
        "history": history,
        "torch_device": str(shop.torch_device),
        # For the report of a build that has no need to read the pictures.
        "data_notes": list(shop.splits.notes),
        "n_pictures": notes.n_pictures(shop.splits),
    }


def installed_version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def told_accuracy(accuracy: float | None) -> str:
    return "" if accuracy is None else f", validation {accuracy:.2%}"
