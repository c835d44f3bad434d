"""Grad-CAM: which parts of a picture speak for a class, by the last feature map that still has places.

Source: R. Selvaraju et al., "Grad-CAM: Visual explanations from deep networks via gradient-based
localization", 2017, equations 1 and 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from edgecnn.errors import ModelError
from edgecnn.explain import places


@dataclass(frozen=True)
class Explanation:
    """What was found for one picture and class.

    `heat`: float32 [height, width] of the picture, 0..1, 1 at the strongest place; all 0 where nothing in the
    picture speaks for the class. `layer` is the name of the feature map, `map_size` its height and width.
    `probabilities` are those of the float network, float64 [n_classes].
    """

    heat: NDArray[Any]
    layer: str
    map_size: tuple[int, int]
    probabilities: NDArray[Any]


@dataclass(frozen=True)
class Layers:
    """What the layers see: `filters` of the first convolution, float32 [n, channels, height, width]; for one
    picture the feature maps behind it and at the last place, each float32 [channels, height, width], by layer.
    """

    filters: NDArray[Any]
    feature_maps: dict[str, NDArray[Any]]


def explain(model: nn.Module, image_nchw: NDArray[Any], class_index: int) -> Explanation:
    """What in the normalized picture, float32 [1, channels, height, width], speaks for `class_index`.

    Raises ModelError where the network has no feature map with places before its last layer.
    """
    image, maps = _tensor(model, image_nchw), _Maps(model)
    with maps.recorded():
        logits = model(image)
    name, last = maps.last_spatial()
    (gradient,) = torch.autograd.grad(logits[0, class_index], last, allow_unused=True)
    gradient = torch.zeros_like(last) if gradient is None else gradient
    # Equation 1: a channel's weight is its mean gradient. Equation 2: the weighted sum, positive part only.
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    seen = functional.relu((weights * functional.relu(last.detach())).sum(dim=1))[0].double().cpu().numpy()
    rows, columns = places.centres(model, image_nchw.shape[1:], _map_of(name))
    heat = places.spread(seen, rows, columns, image_nchw.shape[2:])
    strongest = float(heat.max())
    return Explanation(
        heat=heat / np.float32(strongest) if strongest > 0 else heat,
        layer=name,
        map_size=(int(last.shape[2]), int(last.shape[3])),
        probabilities=torch.softmax(logits[0].detach().double(), dim=0).cpu().numpy(),
    )


def look_inside(model: nn.Module, image_nchw: NDArray[Any]) -> Layers:
    """The first convolution's filters, and the feature maps behind it and at the last place for one picture.

    Raises ModelError for a network without a convolution.
    """
    maps = _Maps(model)
    with torch.no_grad(), maps.recorded():
        model(_tensor(model, image_nchw))
    convolutions = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d)}
    if not convolutions:
        raise ModelError("the network has no convolution: there are no filters to show")
    first = next(iter(convolutions))
    last, _ = maps.last_spatial()
    filters = convolutions[first].weight.detach().cpu().numpy()
    shown = {name: maps.by_name[name][0].relu().cpu().numpy() for name in dict.fromkeys((first, last))}
    return Layers(np.asarray(filters, np.float32), shown)


def _map_of(layer: str) -> Callable[[nn.Module, torch.Tensor], torch.Tensor]:
    """A function that runs a network and gives what its module `layer` puts out."""

    def run(model: nn.Module, images_nchw: torch.Tensor) -> torch.Tensor:
        maps = _Maps(model)
        with maps.recorded():
            model(images_nchw)
        return maps.by_name[layer]

    return run


def _tensor(model: nn.Module, image_nchw: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(image_nchw).to(next(model.parameters()).device)


class _Maps:
    """The outputs of all modules in the order in which they run, up to the layer that decides the outputs."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model.eval()
        self._ran: list[tuple[str, nn.Module, torch.Tensor]] = []

    @contextmanager
    def recorded(self) -> Iterator[None]:
        hooks = [
            module.register_forward_hook(
                lambda one, _, output, name=name: self._ran.append((name, one, output))
            )
            for name, module in self._model.named_modules()
            if name and not isinstance(module, (nn.Dropout, nn.Dropout2d, nn.Identity))
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    @property
    def by_name(self) -> dict[str, torch.Tensor]:
        return {name: output for name, _, output in self._ran}

    def last_spatial(self) -> tuple[str, torch.Tensor]:
        """The last output [1, channels, height, width] with more than one place before the last layer that has
        weights: in SqueezeNet the classifier's convolution is that layer, in LeNet a linear one.
        """
        layers = (nn.Conv2d, nn.Linear)
        deciding = [place for place, (_, module, _) in enumerate(self._ran) if isinstance(module, layers)]
        before = self._ran[: deciding[-1]] if deciding else []
        for _, _, output in reversed(before):
            if isinstance(output, torch.Tensor) and output.ndim == 4 and output.shape[2] * output.shape[3] > 1:
                # Named by the first module that gave it: a container, or what does nothing, hands it on.
                name = next(name for name, _, earlier in before if earlier is output)
                return name, output
        raise ModelError("the network has no feature map with places: there is nothing that Grad-CAM can show")
