"""The training loop: uint8 pictures on the device, augmented in batches; seeded, checkpointed, resumable."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from edgecnn.data import Dataset
from edgecnn.errors import DivergedError
from edgecnn.ondevice.manifest import Preprocessing
from edgecnn.progress import Progress, Silent
from edgecnn.training import checkpoint
from edgecnn.training.augment import augment
from edgecnn.training.distill import Teacher, distillation_loss
from edgecnn.training.layers import layers_of
from edgecnn.training.mix import Targets, mixed

# The share of the steps in which the one-cycle schedule climbs, and where it starts and ends, as shares
# of the highest learning rate (L. Smith and N. Topin, "Super-convergence", 2018; torch's defaults).
WARMUP_SHARE = 0.3
START_SHARE = 1 / 25
END_SHARE = 1 / 250_000

# Of pictures that are judged at once: 1,000 of MNIST, 111 of 224 x 224 in colour.
LARGEST_BATCH, LARGEST_BATCH_VALUES = 1_000, 2**24

Tensors = Sequence[torch.Tensor]


@dataclass(frozen=True)
class Settings:
    """Everything that decides a run but the network and the pictures."""

    epochs: int
    batch_size: int
    optimizer: str
    learning_rate: float
    schedule: str
    weight_decay: float
    label_smoothing: float
    augment: tuple[str, ...]
    seed: int
    mixup: float = 0.0
    cutmix: float = 0.0
    freeze_epochs: int = 0
    layer_decay: float = 1.0
    ema: float = 0.0
    precision: str = "float32"


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training images gave. Accuracies are fractions 0..1."""

    epoch: int
    train_loss: float
    train_accuracy: float
    validation_accuracy: float


class Pictures:
    """A split on the device: `images` uint8 [n, c, h, w], `labels` int64 [n]; batches come normalized.

    On a CPU the images are those of the split, not a copy: a large data set lies in memory once. Batches lie
    `channels_last` in memory: convolutions and, above all, pooling are faster that way. A network that takes
    views of its tensors may need it otherwise.
    """

    def __init__(
        self,
        split: Dataset,
        preprocessing: Preprocessing,
        torch_device: torch.device,
        *,
        channels_last: bool = True,
    ) -> None:
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        # torch has no tensors that cannot be written to.
        images_nhwc = split.images_nhwc if split.images_nhwc.flags.writeable else split.images_nhwc.copy()
        self._images_nhwc = torch.from_numpy(images_nhwc).to(torch_device)
        self.images = self._images_nhwc.permute(0, 3, 1, 2)
        self.labels = torch.from_numpy(split.labels).to(torch_device)
        # (x / 255 - mean) / std as one subtraction and one product.
        mean, std = (
            torch.tensor(values, device=torch_device).reshape(1, -1, 1, 1) * 255
            for values in (preprocessing.mean, preprocessing.std)
        )
        self._offset, self._factor = mean, 1 / std

    def __len__(self) -> int:
        return len(self.labels)

    def normalized(self, images: torch.Tensor) -> torch.Tensor:
        """float32 [n, c, h, w] of uint8 images: what `ondevice.preprocess` gives, up to rounding."""
        values = images.float().sub_(self._offset).mul_(self._factor)
        return self._laid_out(values)

    def _laid_out(self, images: torch.Tensor) -> torch.Tensor:
        images = images.contiguous(memory_format=self.memory_format)
        # Of one channel both layouts are the same numbers; the strides, which convolutions go by, are not.
        plain = self.memory_format is torch.contiguous_format
        return images.flatten(1).view(images.shape) if plain else images

    def batches(self, settings: Settings, generator: torch.Generator) -> Iterator[tuple[torch.Tensor, Targets]]:
        """One shuffled epoch: float32 images [batch, c, h, w], normalized, augmented and mixed, and their
        labels.
        """
        order = torch.randperm(len(self), generator=generator).to(self.labels.device)
        for chosen in order.split(batch_sizes(len(self), settings.batch_size)):
            images = self.normalized(self._images_nhwc[chosen].permute(0, 3, 1, 2))
            images, targets = mixed(
                augment(images, settings.augment, generator),
                self.labels[chosen],
                settings.mixup,
                settings.cutmix,
                generator,
            )
            yield self._laid_out(images), targets


def batch_sizes(n_images: int, batch_size: int) -> list[int]:
    """How many images each batch of an epoch has. None has one alone: batch norms have no spread to go by."""
    sizes = [batch_size] * (n_images // batch_size)
    rest = n_images - sum(sizes)
    if rest == 1 and sizes:
        sizes[-1] += 1
    elif rest:
        sizes.append(rest)
    return sizes


def learning_rate_share(schedule: str, step: int, n_steps: int) -> float:
    """The learning rate at `step` of `n_steps`, as a share of its highest: one_cycle or cosine."""
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * step / n_steps))
    peak = max(1.0, WARMUP_SHARE * n_steps)
    low, progress = (
        (START_SHARE, 1 - step / peak) if step < peak else (END_SHARE, (step - peak) / max(1.0, n_steps - peak))
    )
    return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * progress))


def laid_out(model: nn.Module, memory_format: torch.memory_format) -> nn.Module:
    """`model` itself, its weights in memory as `memory_format` says."""
    # torch's type stubs do not know this form of `to`.
    return cast(nn.Module, model.to(memory_format=memory_format))  # type: ignore[call-overload]


def moving_average(decay: float) -> Callable[[Tensors, Tensors, torch.Tensor | int], None]:
    """What torch's AveragedModel does after a step: average = d * average + (1 - d) * weights.

    After n steps d is at most (1 + n) / (10 + n): otherwise a short run would be judged by the weights that it
    began with, pruned and not yet trained (as in TensorFlow's ExponentialMovingAverage with num_updates).
    """

    @torch.no_grad()
    def update(averages: Tensors, weights: Tensors, n_steps: torch.Tensor | int) -> None:
        n = int(n_steps)
        torch._foreach_lerp_(list(averages), list(weights), 1 - min(decay, (1 + n) / (10 + n)))

    return update


def make_optimizer(model: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """Weight decay is for weights: biases and norms (one dimension) are left alone.

    Each group's `share` is its part of the learning rate: with `layer_decay`, less for each layer that is
    nearer the picture. Fused: one pass over all parameters. Of a network as small as LeNet-5, torch's default
    of some ten operations a parameter takes an eighth of the step.
    """
    layers = list(layers_of(model).values())
    # A norm learns as the layer before it does.
    weighted = [any(p.ndim > 1 for p in layer.parameters(recurse=False)) for layer in layers]
    depths = np.maximum(np.cumsum(weighted) - 1, 0)
    shares = [settings.layer_decay ** int(depths[-1] - depth) for depth in depths]
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for decayed in (True, False):
        for layer, share in zip(layers, shares, strict=True):
            parameters = [p for p in layer.parameters(recurse=False) if (p.ndim > 1) is decayed]
            groups.setdefault((share, decayed), []).extend(parameters)
    described = [
        {"params": parameters, "share": share, "weight_decay": settings.weight_decay if decayed else 0.0}
        for (share, decayed), parameters in groups.items()
        if parameters
    ]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(described, lr=settings.learning_rate, momentum=0.9, nesterov=True, fused=True)
    return torch.optim.AdamW(described, lr=settings.learning_rate, fused=True)


def train(
    model: nn.Module,
    training: Pictures,
    validation: Pictures,
    settings: Settings,
    *,
    checkpoints: Path | None = None,
    teacher: Teacher | None = None,
    progress: Progress | None = None,
    title: str = "train",
) -> list[Epoch]:
    """Trains `model` in place and returns one `Epoch` a pass.

    With `checkpoints`, the state is saved there after every epoch, and a run that was cut off goes on
    from it, with the same result bit for bit. Raises DivergedError where the loss is no longer finite.
    """
    progress = progress or Silent()
    laid_out(model, training.memory_format)
    if teacher:
        # It only answers, but pools at a tenth of the speed where its tensors lie otherwise than the images.
        laid_out(teacher.model, training.memory_format)
    run = Run(model, settings, teacher, progress)
    history = run.resume(checkpoints)
    steps_an_epoch = len(batch_sizes(len(training), settings.batch_size))
    progress.start(title, total=settings.epochs * steps_an_epoch)
    progress.advance(len(history) * steps_an_epoch)
    for epoch in range(len(history) + 1, settings.epochs + 1):
        loss, accuracy = run.one_epoch(training, epoch, steps_an_epoch)
        history.append(Epoch(epoch, loss, accuracy, evaluate(run.judged, validation)))
        if checkpoints:
            checkpoint.save(checkpoints, run.state(history))
    run.finish()
    # Export writes the graph of the layout that it finds.
    laid_out(model, torch.contiguous_format)
    progress.finish(f"validation {history[-1].validation_accuracy:.2%}")
    return history


class Run:
    """What changes during a training: network, optimizer, average of the weights, random numbers."""

    def __init__(
        self, model: nn.Module, settings: Settings, teacher: Teacher | None, progress: Progress
    ) -> None:
        self.model, self.settings, self.teacher, self.progress = model, settings, teacher, progress
        self.optimizer = make_optimizer(model, settings)
        self.generator = torch.Generator().manual_seed(settings.seed)
        # What the user has frozen in a network of their own stays so.
        self.held = list(layers_of(model).values())[:-1] if settings.freeze_epochs else []
        self.thawing = [p for layer in self.held for p in layer.parameters(recurse=False) if p.requires_grad]
        self.average = AveragedModel(model, multi_avg_fn=moving_average(settings.ema)) if settings.ema else None

    @property
    def judged(self) -> nn.Module:
        """The network that the run would give if it ended now."""
        return self.average.module if self.average else self.model

    def finish(self) -> None:
        self._freeze(False)
        if self.average:
            self.model.load_state_dict(self.average.module.state_dict())

    def one_epoch(self, training: Pictures, epoch: int, steps_an_epoch: int) -> tuple[float, float]:
        """Mean loss and accuracy over one shuffled pass. Mixed pictures count by their larger part."""
        settings = self.settings
        # Dropout draws from torch's own generator; so seeded, a run that is cut off goes on with the same bits.
        torch.manual_seed(settings.seed + epoch)
        self.model.train()
        self._freeze(epoch <= settings.freeze_epochs)
        total_loss, n_right, n_seen = 0.0, 0, 0
        for step, (images, targets) in enumerate(training.batches(settings, self.generator)):
            self.set_rate((epoch - 1) * steps_an_epoch + step, settings.epochs * steps_an_epoch)
            logits, loss_now = self.step(images, targets)
            if not math.isfinite(loss_now):
                raise DivergedError(
                    f"training diverged: the loss is {loss_now} in epoch {epoch}, step {step}",
                    fix="lower train.learning_rate (a tenth is a good next try)",
                )
            total_loss += loss_now * len(images)
            n_right += int((logits.argmax(1) == targets.main).sum())
            n_seen += len(images)
            figures = f"loss {total_loss / n_seen:.3f}  accuracy {n_right / n_seen:.2%}"
            self.progress.advance(1, f"epoch {epoch}/{settings.epochs}  {figures}")
        return total_loss / n_seen, n_right / n_seen

    def _freeze(self, frozen: bool) -> None:
        """All layers but the last are no longer trained, statistics of norms included, or all are again."""
        for parameter in self.thawing:
            parameter.requires_grad_(not frozen)
        if frozen:
            for layer in self.held:
                layer.eval()

    def set_rate(self, step: int, n_steps: int) -> None:
        """The learning rate of every layer for `step` of `n_steps`, counted from 0."""
        share = learning_rate_share(self.settings.schedule, step, n_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * share * group["share"]

    def step(self, images: torch.Tensor, targets: Targets) -> tuple[torch.Tensor, float]:
        """Learns from one batch [n, c, h, w]; the logits [n, classes] before it, and the mean loss."""
        with self._multiplied(images.device):
            logits = self.model(images).float()
            taught = self.teacher.logits(images).float() if self.teacher else None
        loss = targets.loss(logits, self.settings.label_smoothing)
        if self.teacher and taught is not None:
            loss = distillation_loss(loss, logits, taught, self.teacher)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        if self.average:
            self.average.update_parameters(self.model)
        return logits, loss.item()

    def _multiplied(self, device: torch.device) -> torch.autocast:
        """With bfloat16, convolutions and products round to it; weights and the optimizer stay float32."""
        return torch.autocast(device.type, torch.bfloat16, enabled=self.settings.precision == "bfloat16")

    def state(self, history: list[Epoch]) -> checkpoint.Checkpoint:
        optimizer_state = {
            f"{index}.{name}": value
            for index, values in self.optimizer.state_dict()["state"].items()
            for name, value in values.items()
            if isinstance(value, torch.Tensor)
        }
        tensors = {
            **checkpoint.prefixed("model", self.model.state_dict()),
            **checkpoint.prefixed("optimizer", optimizer_state),
            **(checkpoint.prefixed("average", self.average.state_dict()) if self.average else {}),
            "generator": self.generator.get_state(),
        }
        facts = {"epoch": len(history), "history": [asdict(epoch) for epoch in history]}
        return checkpoint.Checkpoint(tensors, facts)

    def resume(self, folder: Path | None) -> list[Epoch]:
        """Puts the saved state into place; returns the epochs it stands for, [] where there is none."""
        saved = checkpoint.load(folder) if folder else None
        if saved is None:
            return []
        self.model.load_state_dict(checkpoint.unprefixed("model", saved.tensors))
        if self.average:
            self.average.load_state_dict(checkpoint.unprefixed("average", saved.tensors))
        state: dict[int, dict[str, Any]] = {}
        for name, tensor in checkpoint.unprefixed("optimizer", saved.tensors).items():
            index, _, key = name.partition(".")
            state.setdefault(int(index), {})[key] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        for parameter, values in self.optimizer.state.items():
            # In memory they must lie as the parameter does: the fused optimizer walks them side by side.
            values.update({k: torch.empty_like(parameter).copy_(v) for k, v in values.items() if v.ndim})
        self.generator.set_state(saved.tensors["generator"])
        return [Epoch(**epoch) for epoch in saved.facts["history"]]


@torch.inference_mode()
def evaluate(model: nn.Module, pictures: Pictures) -> float:
    """The accuracy of `model` on `pictures`, 0..1."""
    model.eval()
    n_right = 0
    n_at_once = max(1, min(LARGEST_BATCH, LARGEST_BATCH_VALUES // pictures.images[0].numel()))
    for images, labels in zip(pictures.images.split(n_at_once), pictures.labels.split(n_at_once), strict=True):
        n_right += int((model(pictures.normalized(images)).argmax(1) == labels).sum())
    return n_right / len(pictures)
