"""Structured pruning: the least important channels are cut out, along with all that depends on them.

torch-pruning's dependency graph finds what belongs together: the filters of a convolution, its bias,
and the input channels of every layer that reads it (behind a flatten: the columns; behind a concat: the
channels at its place; what is added to it: the same channels).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable

import torch
import torch_pruning
from torch import nn
from torch.nn import functional

from edgecnn.errors import ModelError

# Importance comes from this many training images; more changed the choice of channels little.
N_JUDGED_IMAGES = 5_120
# Of large pictures fewer, so that they stay within half a gigabyte.
N_JUDGED_VALUES = 2**27
_JUDGED_AT_ONCE = 256
# The Hessian criterion takes a backward pass for each picture: of this many.
N_HESSIAN_IMAGES = 1_024

# From a pruning group to the importance of its channels: float [channels].
Score = Callable[[object], torch.Tensor | None]
SCORES = {
    "taylor": torch_pruning.importance.GroupTaylorImportance,
    "hessian": torch_pruning.importance.GroupHessianImportance,
    "magnitude": functools.partial(torch_pruning.importance.GroupMagnitudeImportance, p=2),
    "batchnorm": torch_pruning.importance.BNScaleImportance,
}


def n_judged(values_a_picture: int) -> int:
    """How many training images the importance of channels comes from."""
    return max(_JUDGED_AT_ONCE, min(N_JUDGED_IMAGES, N_JUDGED_VALUES // values_a_picture))


def widths_at_step(
    start: dict[str, int], target: dict[str, int], step: int, n_steps: int, schedule: str = "uniform"
) -> dict[str, int]:
    """The widths after `step` of `n_steps` (1-based), by `schedule`.

    "uniform" removes the same share of what is left in every step. "cubic" removes much at first, when the
    network has channels to spare, and little at the end: of all that go, 1 - (1 - step / n_steps)^3 are gone
    (M. Zhu and S. Gupta, "To prune, or not to prune", 2017).
    """
    done = step / n_steps

    def width(first: int, last: int) -> float:
        if schedule == "cubic":
            return last + (first - last) * (1 - done) ** 3
        return float(first * (last / first) ** done)

    return {layer: max(target[layer], round(width(start[layer], target[layer]))) for layer in start}


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
    `images_nchw` [n, c, h, w] with `labels` [n]), "hessian" (weight^2 x diagonal of the loss's Hessian, on the
    same), "batchnorm" (scale of the BatchNorm behind the channels) or "random". Raises ValueError where a
    layer is to grow, ModelError where "batchnorm" finds no BatchNorm behind a layer.
    Sources: P. Molchanov et al., "Importance estimation for neural network pruning", 2019 (taylor);
    Y. LeCun et al., "Optimal brain damage", 1989 (hessian); Z. Liu et al., "Learning efficient convolutional
    networks through network slimming", 2017 (batchnorm).
    """
    layers = dict(model.named_modules())
    _accumulate(model, criterion, images_nchw, labels)
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
        importance = _scored(score, name, graph.get_pruning_group(layer, remove, idxs=list(range(n_channels))))
        # A stable sort, so that equal channels fall in the same order everywhere.
        least = torch.argsort(importance, stable=True)[: n_channels - width]
        graph.get_pruning_group(layer, remove, idxs=sorted(least.tolist())).prune()
    model.zero_grad(set_to_none=True)


def channel_importance(
    model: nn.Module, layers: Iterable[str], criterion: str, images_nchw: torch.Tensor, labels: torch.Tensor
) -> dict[str, torch.Tensor]:
    """By layer, what each of its output channels is worth by `criterion` (see `prune`): float [channels].

    Layers can be compared: the worth of a channel is the sum over its filter and over all that reads it, and
    not its share of its layer's mean, by which layers with many channels would seem worth most.
    """
    by_name = dict(model.named_modules())
    _accumulate(model, criterion, images_nchw, labels)
    score = _importance(criterion, seed=0, group_reduction="sum", normalizer=None)
    graph = torch_pruning.DependencyGraph().build_dependency(model, example_inputs=images_nchw[:1])
    worth = {}
    for name in layers:
        channels = list(range(by_name[name].weight.shape[0]))
        group = graph.get_pruning_group(by_name[name], _remover(by_name[name]), idxs=channels)
        worth[name] = _scored(score, name, group)
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
    result: Callable[..., object] = (
        torch_pruning.prune_conv_out_channels if is_convolution else torch_pruning.prune_linear_out_channels
    )
    return result


def _is_output(dependency: torch_pruning.dependency.Dependency) -> bool:
    """Whether it takes away output channels of its target, not only inputs."""
    return "out_channels" in dependency.handler.__name__


def _is_grouped(layer: nn.Module) -> bool:
    """A convolution in groups of more than one channel."""
    return isinstance(layer, nn.Conv2d) and 1 < layer.groups < layer.out_channels


def _scored(score: Score, layer: str, group: object) -> torch.Tensor:
    importance = score(group)
    if importance is None:
        raise ModelError(
            f"the criterion batchnorm needs a BatchNorm with scales behind {layer}, and there is none",
            where=layer,
            fix="prune with criterion: taylor, hessian or magnitude",
        )
    return importance


def _importance(criterion: str, seed: int, **scaling: str | None) -> Score:
    """A function from a pruning group to the importance of each of its channels: float [channels].

    `scaling` are torch-pruning's group_reduction and normalizer. It gives None for a group that holds nothing
    to judge by.
    """
    if criterion in SCORES:
        score: Score = SCORES[criterion](**scaling)
        return score
    generator = torch.Generator().manual_seed(seed)
    return lambda group: torch.rand(len(group[0].idxs), generator=generator)  # type: ignore[index]


def _accumulate(model: nn.Module, criterion: str, images_nchw: torch.Tensor, labels: torch.Tensor) -> None:
    """Leaves in the gradients of `model` what `criterion` multiplies the weights with, if anything."""
    if criterion == "taylor":
        _accumulate_gradients(model, images_nchw, labels)
    if criterion == "hessian":
        _accumulate_curvature(model, images_nchw[:N_HESSIAN_IMAGES], labels[:N_HESSIAN_IMAGES])


def _accumulate_gradients(model: nn.Module, images_nchw: torch.Tensor, labels: torch.Tensor) -> None:
    # Dropout would make the choice of channels a matter of luck.
    model.eval()
    model.zero_grad(set_to_none=True)
    for images, targets in zip(images_nchw.split(_JUDGED_AT_ONCE), labels.split(_JUDGED_AT_ONCE), strict=True):
        functional.cross_entropy(model(images), targets, reduction="sum").backward()


def _accumulate_curvature(model: nn.Module, images_nchw: torch.Tensor, labels: torch.Tensor) -> None:
    """The diagonal of the empirical Fisher matrix, which stands for the Hessian's: the mean over the images of
    the squared gradient of each one's loss. Where the library's importance finds gradients, it takes them as
    that; its own `accumulate_grad` (1.6.0) keeps the last image alone.
    """
    model.eval()
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    squares = [torch.zeros_like(weight) for weight in weights]
    for image, target in zip(images_nchw.split(1), labels.split(1), strict=True):
        loss = functional.cross_entropy(model(image), target)
        for square, gradient in zip(
            squares, torch.autograd.grad(loss, weights, allow_unused=True), strict=True
        ):
            if gradient is not None:
                square.addcmul_(gradient, gradient)
    for weight, square in zip(weights, squares, strict=True):
        weight.grad = square / len(images_nchw)
