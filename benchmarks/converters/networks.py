"""The three networks that every converter gets: torch modules, and what is known of them without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Network:
    """`max_int8_share`: our int8 file over the smallest of the others; `learning_rate`: see `inputs`."""

    title: str
    input_shape: tuple[int, int, int]
    """Channels, height, width."""
    max_int8_share: float
    learning_rate: float


NETWORKS = {
    "lenet5": Network("LeNet-5", (1, 28, 28), 0.90, 2e-3),
    "lenet5_caffe": Network("Caffe LeNet", (1, 28, 28), 1.0, 1e-3),
    "squeezenet1_1": Network("SqueezeNet 1.1, 32 px, 10 classes", (3, 32, 32), 0.95, 3e-4),
}
N_CLASSES = 10


def build(name: str, seed: int = 0) -> nn.Module:
    """The network `name` of NETWORKS in float32, on NCHW pictures, with weights drawn from `seed`."""
    if name == "squeezenet1_1":
        return _squeezenet(seed)
    from edgecnn.models import build_model

    return build_model(name, in_channels=1, n_classes=N_CLASSES, seed=seed)


FIRE_MODULES = {
    # name: input channels, squeezed channels, channels of each of the two expanding convolutions
    "fire2": (64, 16, 64),
    "fire3": (128, 16, 64),
    "fire4": (128, 32, 128),
    "fire5": (256, 32, 128),
    "fire6": (256, 48, 192),
    "fire7": (384, 48, 192),
    "fire8": (384, 64, 256),
    "fire9": (512, 64, 256),
}
POOLED_BEFORE = ("fire2", "fire4", "fire6")


def _squeezenet(seed: int) -> nn.Module:
    """SqueezeNet 1.1 (F. Iandola et al., 2016, and its official revision) with a classifier of 10 classes."""
    import torch
    from torch import nn

    class Fire(nn.Module):
        def __init__(self, n_in: int, squeezed: int, expanded: int) -> None:
            super().__init__()
            self.squeeze = nn.Conv2d(n_in, squeezed, 1)
            self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
            self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.squeeze(x).relu()
            return torch.cat([self.expand1x1(x).relu(), self.expand3x3(x).relu()], 1)

    torch.manual_seed(seed)
    model = nn.Sequential()
    model.add_module("conv1", nn.Conv2d(3, 64, 3, stride=2))
    model.add_module("relu1", nn.ReLU())
    for name, channels in FIRE_MODULES.items():
        if name in POOLED_BEFORE:
            model.add_module(f"pool_{name}", nn.MaxPool2d(3, 2, ceil_mode=True))
        model.add_module(name, Fire(*channels))
    model.add_module("conv10", nn.Conv2d(512, N_CLASSES, 1))
    model.add_module("relu10", nn.ReLU())
    model.add_module("average", nn.AdaptiveAvgPool2d(1))
    model.add_module("flatten", nn.Flatten())
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)
    return model
