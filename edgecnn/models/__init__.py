"""The networks that a recipe can name, one file an architecture. This module itself stays free of torch."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class ModelInfo:
    """What a recipe must know of a network before torch is loaded.

    `path` is "module:class"; `widths` are the default output channels (or features) of every layer
    but the last, by layer name, in order; `input_size` is the height and width of the picture it takes.
    """

    path: str
    widths: dict[str, int]
    input_size: tuple[int, int]


MODELS = {
    "lenet5": ModelInfo(
        "edgecnn.models.lenet5:LeNet5",
        widths={"conv1": 6, "conv2": 16, "fc1": 120, "fc2": 84},
        input_size=(28, 28),
    ),
    "lenet5_caffe": ModelInfo(
        "edgecnn.models.lenet5_caffe:LeNet5Caffe",
        widths={"conv1": 20, "conv2": 50, "fc1": 500},
        input_size=(28, 28),
    ),
}


def build_model(
    name: str, *, in_channels: int, n_classes: int, widths: dict[str, int] | None = None, seed: int = 0
) -> nn.Module:
    """A network `name` (a key of MODELS), initialized from `seed`, with `widths` (default: those of MODELS).

    It takes float32 [batch, in_channels, height, width] and returns logits [batch, n_classes].
    """
    import torch

    torch.manual_seed(seed)
    info = MODELS[name]
    module, class_name = info.path.split(":")
    network: Any = getattr(importlib.import_module(module), class_name)
    model: nn.Module = network(
        in_channels=in_channels, n_classes=n_classes, widths={**info.widths, **(widths or {})}
    )
    return model


def widths_of(model: nn.Module, name: str) -> dict[str, int]:
    """The output channels that each layer of MODELS[name].widths has in `model`, which may have been pruned."""
    layers = dict(model.named_modules())
    return {layer: int(layers[layer].weight.shape[0]) for layer in MODELS[name].widths}
