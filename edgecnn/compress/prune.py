"""Structured pruning: the least important channels are cut out, along with all that depends on them.

torch-pruning's dependency graph finds what belongs together: the filters of a convolution, its bias,
and the input channels of every layer that reads it (behind a flatten: the columns; behind a concat: the
channels at its place; what is added to it: the same channels).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch_pruning
from torch import nn
from torch.nn import functional

# Importance comes from this many training images; more changed the choice of channels little.
N_JUDGED_IMAGES = 5_120
_JUDGED_AT_ONCE = 256


def widths_at_step(start: dict[str, int], target: dict[str, int], step: int, n_steps: int) -> dict[str, int]:
    """The widths after `step` of `n_steps` (1-based): the same ratio is removed in every step."""
    return {
        layer: max(target[layer], round(start[layer] * (target[layer] / start[layer]) ** (step / n_steps)))
        for layer in start
    }


def prune(
    model: nn.Module,
    widths: dict[str, int],
    criterion: str,
    images_nchw: torch.Tensor,
    labels: torch.Tensor,
    seed: int,
) -> None:
    """Removes output channels of the layers named in `widths` until each has that many, in place.

    `criterion` is "magnitude" (norm of the weights), "taylor" (weight x gradient of the loss on float32
    `images_nchw` [n, c, h, w] with `labels` [n]) or "random". Raises ValueError where a layer is to grow.
    Source of the Taylor criterion: P. Molchanov et al., "Importance estimation for neural network
    pruning", 2019.
    """
    layers = dict(model.named_modules())
    if criterion == "taylor":
        _accumulate_gradients(model, images_nchw, labels)
    score = _importance(criterion, seed)
    graph = torch_pruning.DependencyGraph().build_dependency(model, example_inputs=images_nchw[:1])
    for name, width in widths.items():
        layer = layers[name]
        n_channels = int(layer.weight.shape[0])
        if width > n_channels:
            raise ValueError(f"pruning cannot widen {name} from {n_channels} to {width} channels")
        if width == n_channels:
            continue
        remove = (
            torch_pruning.prune_conv_out_channels
            if isinstance(layer, nn.Conv2d)
            else torch_pruning.prune_linear_out_channels
        )
        importance = score(graph.get_pruning_group(layer, remove, idxs=list(range(n_channels))))
        # A stable sort, so that equal channels fall in the same order everywhere.
        least = torch.argsort(importance, stable=True)[: n_channels - width]
        graph.get_pruning_group(layer, remove, idxs=sorted(least.tolist())).prune()
    model.zero_grad(set_to_none=True)


def _importance(criterion: str, seed: int) -> Callable[[object], torch.Tensor]:
    """A function from a pruning group to the importance of each of its channels: float [channels]."""
    if criterion == "taylor":
        return torch_pruning.importance.GroupTaylorImportance()
    if criterion == "magnitude":
        return torch_pruning.importance.GroupMagnitudeImportance(p=2)
    generator = torch.Generator().manual_seed(seed)
    return lambda group: torch.rand(len(group[0].idxs), generator=generator)  # type: ignore[index]


def _accumulate_gradients(model: nn.Module, images_nchw: torch.Tensor, labels: torch.Tensor) -> None:
    # Dropout would make the choice of channels a matter of luck.
    model.eval()
    model.zero_grad(set_to_none=True)
    for images, targets in zip(images_nchw.split(_JUDGED_AT_ONCE), labels.split(_JUDGED_AT_ONCE), strict=True):
        functional.cross_entropy(model(images), targets, reduction="sum").backward()
