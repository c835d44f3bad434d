"""The networks that a recipe can name, one file an architecture. This module itself stays free of torch."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class PublishedWeights:
    """Weights from ImageNet: `local` are names under which they may lie in a data folder, with the sha256 of
    each; otherwise `url` is fetched, whose name carries the first digits of its sha256, as torch hub's do.
    """

    url: str
    local: dict[str, str]

    @property
    def file_name(self) -> str:
        return self.url.rsplit("/", 1)[-1]

    @property
    def sha256_prefix(self) -> str:
        return self.file_name.rsplit("-", 1)[-1].removesuffix(".pth")


@dataclass(frozen=True)
class ModelInfo:
    """What a recipe must know of a network before torch is loaded.

    `path` is "module:class"; `widths` are the default output channels (or features) of every layer
    but the last, by layer name, in order; `input_size` is the height and width of the picture it takes,
    None where that may be any. `options` are the settings it has besides widths. `round_to`: pruning by a
    ratio leaves a multiple of so many channels. `bypassed` names the pairs of layers that must have equally
    many channels with the option `simple_bypass`. `published` are its weights from ImageNet, if there are any.
    `least_size` is the smallest height or width by stem: of fewer pixels nothing is left between the layers.
    `last` is the name of the layer that gives the logits.
    """

    path: str
    widths: dict[str, int]
    input_size: tuple[int, int] | None
    last: str = ""
    options: tuple[str, ...] = ()
    round_to: int = 1
    bypassed: tuple[tuple[str, str], ...] = ()
    published: PublishedWeights | None = None
    least_size: dict[str, int] = field(default_factory=dict)


def _squeezenet(
    class_name: str,
    published: PublishedWeights,
    first: int,
    fires: dict[int, tuple[int, int]],
    least_size: dict[str, int],
) -> ModelInfo:
    """`first`: channels of the first convolution; `fires`: by position in the network, the squeezed channels
    and those of each of the two expanding convolutions.
    """
    widths = {"features.0": first}
    for position, (squeezed, expanded) in fires.items():
        sizes = {"squeeze": squeezed, "expand1x1": expanded, "expand3x3": expanded}
        widths |= {f"features.{position}.{part}": size for part, size in sizes.items()}
    positions = list(fires)
    bypassed = tuple(
        (f"features.{before}.{part}", f"features.{around}.{part}")
        for before, around in zip(positions[::2], positions[1::2], strict=True)
        for part in ("expand1x1", "expand3x3")
    )
    return ModelInfo(
        f"edgecnn.models.squeezenet:{class_name}",
        widths,
        input_size=None,
        last="classifier.1",
        options=("stem", "simple_bypass"),
        # Vector units work on 8 or 16 values at once.
        round_to=8,
        bypassed=bypassed,
        published=published,
        least_size=least_size,
    )


TORCH_HUB = "https://download.pytorch.org/models"
MODELS = {
    "lenet5": ModelInfo(
        "edgecnn.models.lenet5:LeNet5",
        widths={"conv1": 6, "conv2": 16, "fc1": 120, "fc2": 84},
        input_size=(28, 28),
        last="fc3",
    ),
    "lenet5_caffe": ModelInfo(
        "edgecnn.models.lenet5_caffe:LeNet5Caffe",
        widths={"conv1": 20, "conv2": 50, "fc1": 500},
        input_size=(28, 28),
        last="fc2",
        options=("conv_relu",),
    ),
    "lenet5_global": ModelInfo(
        "edgecnn.models.lenet5_global:LeNet5Global",
        widths={"conv1": 16, "conv2": 32, "conv3": 64},
        input_size=(28, 28),
        last="fc",
        options=("kernel_sizes",),
    ),
    "squeezenet1_0": _squeezenet(
        "SqueezeNet10",
        PublishedWeights(f"{TORCH_HUB}/squeezenet1_0-b66bff10.pth", {}),
        first=96,
        fires={
            3: (16, 64),
            4: (16, 64),
            5: (32, 128),
            7: (32, 128),
            8: (48, 192),
            9: (48, 192),
            10: (64, 256),
            12: (64, 256),
        },
        least_size={"imagenet": 21, "small": 4},
    ),
    "squeezenet1_1": _squeezenet(
        "SqueezeNet11",
        PublishedWeights(
            f"{TORCH_HUB}/squeezenet1_1-b8a52dc0.pth",
            {
                "squeezenet1_1_imagenet.safetensors": (
                    "31467029eb96ecd481d2d35f45847dfc84b758849a2cf22bff564d03746bbfd3"
                )
            },
        ),
        first=64,
        fires={
            3: (16, 64),
            4: (16, 64),
            6: (32, 128),
            7: (32, 128),
            9: (48, 192),
            10: (48, 192),
            11: (64, 256),
            12: (64, 256),
        },
        least_size={"imagenet": 17, "small": 4},
    ),
}
# What the user brings: a class in a Python file, with its arguments; a float ONNX file.
BROUGHT = {"python": ModelInfo("", {}, None, options=("args",)), "onnx": ModelInfo("", {}, None)}
ALL_MODELS = {**MODELS, **BROUGHT}
# Below it the published stem leaves almost nothing of a picture: 32 pixels become 1.
SMALLEST_FOR_IMAGENET_STEM = 64


def fitting_stem(height: int, width: int) -> str:
    """The stem that pictures of this size need, where a recipe names none."""
    return "small" if min(height, width) < SMALLEST_FOR_IMAGENET_STEM else "imagenet"


def build_model(
    name: str,
    *,
    in_channels: int,
    n_classes: int,
    widths: dict[str, int] | None = None,
    seed: int = 0,
    options: dict[str, Any] | None = None,
) -> nn.Module:
    """A network `name` (a key of MODELS), initialized from `seed`, with `widths` (default: those of MODELS) and
    `options` (default: those of the network itself).

    It takes float32 [batch, in_channels, height, width] and returns logits [batch, n_classes].
    """
    import torch

    torch.manual_seed(seed)
    info = MODELS[name]
    module, class_name = info.path.split(":")
    network: Any = getattr(importlib.import_module(module), class_name)
    model: nn.Module = network(
        in_channels=in_channels,
        n_classes=n_classes,
        widths={**info.widths, **(widths or {})},
        **(options or {}),
    )
    return model


def widths_of(model: nn.Module, name: str) -> dict[str, int]:
    """The output channels that each layer of MODELS[name].widths has in `model`, which may have been pruned;
    of a network that the user brought, those of every convolution and linear layer.
    """
    layers = dict(model.named_modules())
    named = MODELS[name].widths if name in MODELS else channel_layers(model)
    return {layer: int(layers[layer].weight.shape[0]) for layer in named}


def channel_layers(model: nn.Module) -> list[str]:
    """The names of the 2-D convolutions and linear layers of `model`, in the order in which it holds them."""
    from torch import nn

    return [name for name, layer in model.named_modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
