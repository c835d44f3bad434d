"""The training loop: uint8 pictures on the device, augmented in batches; seeded, checkpointed, resumable."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional

from edgecnn.data import Dataset
from edgecnn.errors import EdgeCNNError
from edgecnn.ondevice.manifest import Preprocessing
from edgecnn.progress import Progress, Silent
from edgecnn.training import checkpoint
from edgecnn.training.augment import augment
from edgecnn.training.distill import Teacher, distillation_loss

# The share of the steps in which the one-cycle schedule climbs, and where it starts and ends, as shares
# of the highest learning rate (L. Smith and N. Topin, "Super-convergence", 2018; torch's defaults).
WARMUP_SHARE = 0.3
START_SHARE = 1 / 25
END_SHARE = 1 / 250_000


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


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training images gave. Accuracies are fractions 0..1."""

    epoch: int
    train_loss: float
    train_accuracy: float
    validation_accuracy: float


class Pictures:
    """A split on the device: `images` uint8 [n, c, h, w], `labels` int64 [n]; batches come normalized."""

    def __init__(self, split: Dataset, preprocessing: Preprocessing, torch_device: torch.device) -> None:
        images_nchw = torch.from_numpy(split.images_nhwc.transpose(0, 3, 1, 2).copy())
        self.images = images_nchw.to(torch_device)
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
        return images.float().sub_(self._offset).mul_(self._factor)

    def batches(
        self, batch_size: int, augmentations: tuple[str, ...], generator: torch.Generator
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """One shuffled epoch: float32 images [batch, c, h, w], normalized and augmented, and their labels.

        The images lie channels-last in memory: convolutions and, above all, pooling are faster that way.
        """
        order = torch.randperm(len(self), generator=generator).to(self.labels.device)
        for chosen in order.split(batch_size):
            images = augment(self.normalized(self.images[chosen]), augmentations, generator)
            yield images.contiguous(memory_format=torch.channels_last), self.labels[chosen]


def learning_rate_share(schedule: str, step: int, n_steps: int) -> float:
    """The learning rate at `step` of `n_steps`, as a share of its highest: one_cycle or cosine."""
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * step / n_steps))
    peak = max(1.0, WARMUP_SHARE * n_steps)
    low, progress = (
        (START_SHARE, 1 - step / peak) if step < peak else (END_SHARE, (step - peak) / max(1.0, n_steps - peak))
    )
    return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * progress))


def channels_last(model: nn.Module) -> nn.Module:
    """`model` itself, its weights laid out as `Pictures.batches` lays out the images."""
    # torch's type stubs do not know this form of `to`.
    return cast(nn.Module, model.to(memory_format=torch.channels_last))  # type: ignore[call-overload]


def make_optimizer(model: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """Weight decay is for weights: biases and norms (one dimension) are left alone.

    Fused: one pass over all parameters. Of a network as small as LeNet-5, torch's default of some ten
    operations a parameter takes an eighth of the step.
    """
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=0.9, nesterov=True, fused=True)
    return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)


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
    from it, with the same result bit for bit. Raises EdgeCNNError where the loss is no longer finite.
    """
    progress = progress or Silent()
    channels_last(model)
    optimizer = make_optimizer(model, settings)
    generator = torch.Generator().manual_seed(settings.seed)
    history = _resume(checkpoints, model, optimizer, generator)
    steps_an_epoch = math.ceil(len(training) / settings.batch_size)
    progress.start(title, total=settings.epochs * steps_an_epoch)
    progress.advance(len(history) * steps_an_epoch)
    for epoch in range(len(history) + 1, settings.epochs + 1):
        first_step = (epoch - 1) * steps_an_epoch
        # Dropout draws from torch's own generator; so seeded, a run that is cut off goes on with the same bits.
        torch.manual_seed(settings.seed + epoch)

        def set_rate(step: int, first_step: int = first_step) -> None:
            share = learning_rate_share(settings.schedule, first_step + step, settings.epochs * steps_an_epoch)
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * share

        loss, accuracy = _one_epoch(
            model, training, settings, optimizer, set_rate, generator, teacher, progress, epoch
        )
        history.append(Epoch(epoch, loss, accuracy, evaluate(model, validation)))
        if checkpoints:
            checkpoint.save(checkpoints, _state(history, model, optimizer, generator))
    # Export writes the graph of the layout that it finds.
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    progress.finish(f"validation {history[-1].validation_accuracy:.2%}")
    return history


def _one_epoch(
    model: nn.Module,
    training: Pictures,
    settings: Settings,
    optimizer: torch.optim.Optimizer,
    set_rate: Callable[[int], None],
    generator: torch.Generator,
    teacher: Teacher | None,
    progress: Progress,
    epoch: int,
) -> tuple[float, float]:
    """Mean loss and accuracy over one shuffled pass."""
    model.train()
    total_loss, n_right, n_seen = 0.0, 0, 0
    for step, (images, labels) in enumerate(training.batches(settings.batch_size, settings.augment, generator)):
        set_rate(step)
        logits = model(images)
        loss = functional.cross_entropy(logits, labels, label_smoothing=settings.label_smoothing)
        if teacher:
            loss = distillation_loss(loss, logits, images, teacher)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        loss_now = loss.item()
        if not math.isfinite(loss_now):
            raise EdgeCNNError(
                f"training diverged: the loss is {loss_now} in epoch {epoch}, step {step}",
                fix="lower train.learning_rate (a tenth is a good next try)",
            )
        total_loss += loss_now * len(labels)
        n_right += int((logits.argmax(1) == labels).sum())
        n_seen += len(labels)
        progress.advance(
            1,
            f"epoch {epoch}/{settings.epochs}  loss {total_loss / n_seen:.3f}  accuracy {n_right / n_seen:.2%}",
        )
    return total_loss / n_seen, n_right / n_seen


@torch.inference_mode()
def evaluate(model: nn.Module, pictures: Pictures) -> float:
    """The accuracy of `model` on `pictures`, 0..1."""
    model.eval()
    n_right = 0
    for images, labels in zip(pictures.images.split(1000), pictures.labels.split(1000), strict=True):
        n_right += int((model(pictures.normalized(images)).argmax(1) == labels).sum())
    return n_right / len(pictures)


def _state(
    history: list[Epoch], model: nn.Module, optimizer: torch.optim.Optimizer, generator: torch.Generator
) -> checkpoint.Checkpoint:
    optimizer_state = {
        f"{index}.{name}": value
        for index, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
        if isinstance(value, torch.Tensor)
    }
    tensors = {
        **checkpoint.prefixed("model", model.state_dict()),
        **checkpoint.prefixed("optimizer", optimizer_state),
        "generator": generator.get_state(),
    }
    facts = {"epoch": len(history), "history": [asdict(epoch) for epoch in history]}
    return checkpoint.Checkpoint(tensors, facts)


def _resume(
    folder: Path | None, model: nn.Module, optimizer: torch.optim.Optimizer, generator: torch.Generator
) -> list[Epoch]:
    """Puts the saved state into place; returns the epochs it stands for, [] where there is none."""
    saved = checkpoint.load(folder) if folder else None
    if saved is None:
        return []
    model.load_state_dict(checkpoint.unprefixed("model", saved.tensors))
    state: dict[int, dict[str, Any]] = {}
    for name, tensor in checkpoint.unprefixed("optimizer", saved.tensors).items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    for parameter, values in optimizer.state.items():
        # In memory they must lie as the parameter does: the fused optimizer walks them side by side.
        values.update({k: torch.empty_like(parameter).copy_(v) for k, v in values.items() if v.ndim})
    generator.set_state(saved.tensors["generator"])
    return [Epoch(**epoch) for epoch in saved.facts["history"]]
