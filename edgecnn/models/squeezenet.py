"""SqueezeNet 1.0 and 1.1, with torchvision's names of layers, so that its checkpoints load.

Source: F. Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model
size", 2016, table 1 and figure 2; 1.1 is the authors' own revision, with the same accuracy for 2.4 times
less work.
"""

from __future__ import annotations

from typing import ClassVar, cast

import torch
from torch import nn
from torch.nn import functional

DROPOUT = 0.5


class Fire(nn.Module):
    """1x1 squeeze, then 1x1 and 3x3 expand side by side, joined; with `bypass` the input is added."""

    def __init__(
        self, n_in: int, squeezed: int, expanded_1x1: int, expanded_3x3: int, *, bypass: bool = False
    ) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(n_in, squeezed, kernel_size=1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded_1x1, kernel_size=1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded_3x3, kernel_size=3, padding=1)
        self.bypass = bypass

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        squeezed = functional.relu(self.squeeze(x))
        sides = [functional.relu(expand(squeezed)) for expand in (self.expand1x1, self.expand3x3)]
        joined = torch.cat(sides, dim=1)
        return joined + x if self.bypass else joined


class GlobalAverage(nn.Module):
    """The mean over height and width, which stay as 1 x 1.

    The same as AdaptiveAvgPool2d(1), which torch's exporter writes as a heap of index arithmetic where the
    weights lie channels last.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=(2, 3), keepdim=True)


class SqueezeNet(nn.Module):
    """Pictures of any size, logits out. `stem` "imagenet" is the published network; "small" is for pictures of
    28 or 32 pixels: the first convolution is 3x3 with stride 1 and the last pooling is left out, so that they
    shrink 4 times, not 16. `simple_bypass` adds its input to every second Fire module.
    """

    first_kernel: ClassVar[int]
    layout: ClassVar[str]
    """What follows the first convolution and its ReLU, P: pooling, F: Fire. Layers are named by position."""

    def __init__(
        self,
        in_channels: int,
        n_classes: int,
        widths: dict[str, int],
        stem: str = "imagenet",
        simple_bypass: bool = False,
    ) -> None:
        super().__init__()
        small = stem == "small"
        n_in = widths["features.0"]
        first = (
            nn.Conv2d(in_channels, n_in, kernel_size=3, padding=1)
            if small
            else nn.Conv2d(in_channels, n_in, kernel_size=self.first_kernel, stride=2)
        )
        features: list[nn.Module] = [first, nn.ReLU()]
        last_pooling = self.layout.rindex("P")
        for place, kind in enumerate(self.layout):
            if kind == "P":
                # A layer that does nothing keeps the names of those behind it.
                left_out = small and place == last_pooling
                features.append(nn.Identity() if left_out else nn.MaxPool2d(3, stride=2, ceil_mode=True))
                continue
            prefix = f"features.{len(features)}"
            squeezed, *expanded = (widths[f"{prefix}.{part}"] for part in ("squeeze", "expand1x1", "expand3x3"))
            bypass = simple_bypass and self.layout[:place].count("F") % 2 == 1
            features.append(Fire(n_in, squeezed, *expanded, bypass=bypass))
            n_in = sum(expanded)
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(
            nn.Dropout(DROPOUT), nn.Conv2d(n_in, n_classes, kernel_size=1), nn.ReLU(), GlobalAverage()
        )
        self._initialize()

    def _initialize(self) -> None:
        """As in the authors' Caffe files: the classifier starts near zero, all else as ReLU wants it."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
                nn.init.zeros_(cast(torch.Tensor, module.bias))
        nn.init.normal_(cast(torch.Tensor, self.classifier[1].weight), std=0.01)

    def forward(self, images_nchw: torch.Tensor) -> torch.Tensor:
        """Logits [batch, n_classes] of float32 `images_nchw` [batch, in_channels, height, width]."""
        return torch.flatten(self.classifier(self.features(images_nchw)), 1)


class SqueezeNet10(SqueezeNet):
    first_kernel = 7
    layout = "PFFFPFFFFPF"


class SqueezeNet11(SqueezeNet):
    first_kernel = 3
    layout = "PFFPFFPFFFF"
