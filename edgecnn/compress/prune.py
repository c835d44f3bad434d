"""Structured pruning: the least important channels are cut out, along with all that depends on them.

torch-pruning's dependency graph finds what belongs together: the filters of a convolution, its bias,
and the input channels of every layer that reads it (behind a flatten: the columns; behind a concat: the
channels at its place; what is added to it: the same channels).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch_pruning
from torch import nn
from torch.nn import functional

# Importance comes from this many training images; more changed the choice of channels little.
N_JUDGED_IMAGES = 5_120
# Of large pictures fewer, so that they stay within half a gigabyte.
N_JUDGED_VALUES = 2**27
_JUDGED_AT_ONCE = 256


def n_judged(values_a_picture: int) -> int:
    """How many training images the importance of channels comes from."""
    return max(_JUDGED_AT_ONCE, min(N_JUDGED_IMAGES, N_JUDGED_VALUES // values_a_picture))


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
        remove = _remover(layer)
        importance = score(graph.get_pruning_group(layer, remove, idxs=list(range(n_channels))))
        # A stable sort, so that equal channels fall in the same order everywhere.
        least = torch.argsort(importance, stable=True)[: n_channels - width]
        graph.get_pruning_group(layer, remove, idxs=sorted(least.tolist())).prune()
    model.zero_grad(set_to_none=True)


def channel_importance(
    model: nn.Module, layers: Iterable[str], criterion: str, images_nchw: torch.Tensor, labels: torch.Tensor
) -> dict[str, torch.Tensor]:
    """By layer, what each of its output channels is worth by `criterion` (see `prune`): float [channels]."""
    by_name = dict(model.named_modules())
    if criterion == "taylor":
        _accumulate_gradients(model, images_nchw, labels)
    score = _importance(criterion, seed=0)
    graph = torch_pruning.DependencyGraph().build_dependency(model, example_inputs=images_nchw[:1])
    worth = {}
    for name in layers:
        channels = list(range(by_name[name].weight.shape[0]))
        worth[name] = score(graph.get_pruning_group(by_name[name], _remover(by_name[name]), idxs=channels))
    model.zero_grad(set_to_none=True)
    return {name: values.detach().cpu() for name, values in worth.items()}


def cut(model: nn.Module, widths: dict[str, int], input_shape: tuple[int, int, int]) -> None:
    """Makes the layers of `model` as narrow as `widths` say, whatever channels go: weights are loaded after it.

    Channels that depend on one another are cut together; `input_shape` is (channels, height, width).
    """
    images = torch.zeros(2, *input_shape, device=next(model.parameters()).device)
    prune(model, widths, "magnitude", images, torch.zeros(2, dtype=torch.int64), seed=0)


def prunable_layers(model: nn.Module, images_nchw: torch.Tensor) -> tuple[str, ...]:
    """The names of the convolutions and linear layers of a network of unknown make whose channels may go.

    Not those that decide the outputs (the layer that runs last, and what its outputs are added to), nor those
    that a grouped convolution reads or is: what is left of it must divide into its groups. Of a depthwise one
    channels may go, since its groups go with them.
    """
    last = _last_run(model.eval(), images_nchw)
    graph = torch_pruning.DependencyGraph().build_dependency(model, example_inputs=images_nchw)
    free = []
    for name, layer in model.named_modules():
        if not isinstance(layer, (nn.Conv2d, nn.Linear)) or layer not in graph.module2node:
            continue
        group = graph.get_pruning_group(layer, _remover(layer), idxs=[0])
        coupled = {id(dependency.target.module) for dependency, _ in group if _is_output(dependency)}
        touched = (dependency.target.module for dependency, _ in group)
        if id(last) not in coupled and not any(map(_is_grouped, touched)):
            free.append(name)
    return tuple(free)


def _last_run(model: nn.Module, images_nchw: torch.Tensor) -> nn.Module | None:
    """The convolution or linear layer that runs last."""
    ran: list[nn.Module] = []
    layers = [layer for layer in model.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    hooks = [layer.register_forward_hook(lambda one, *_: ran.append(one)) for layer in layers]
    try:
        with torch.no_grad():
            model(images_nchw)
    finally:
        for hook in hooks:
            hook.remove()
    return ran[-1] if ran else None


def _remover(layer: nn.Module) -> Callable[..., object]:
    """torch-pruning's function that takes output channels out of `layer`."""
    is_convolution = isinstance(layer, nn.Conv2d)
    return torch_pruning.prune_conv_out_channels if is_convolution else torch_pruning.prune_linear_out_channels


def _is_output(dependency: torch_pruning.dependency.Dependency) -> bool:
    """Whether it takes away output channels of its target, not only inputs."""
    return "out_channels" in dependency.handler.__name__


def _is_grouped(layer: nn.Module) -> bool:
    """A convolution in groups of more than one channel."""
    return isinstance(layer, nn.Conv2d) and 1 < layer.groups < layer.out_channels


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
