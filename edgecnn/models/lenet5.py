"""LeNet-5 as it is used today: ReLU and max-pooling in the shape of LeCun et al. 1998, 61,706 parameters."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn
from torch.nn import functional


class LeNet5(nn.Module):
    """28x28 pictures, padding 2 in the first convolution (the 1998 network saw 32x32), logits out.

    Source: Y. LeCun et al., "Gradient-based learning applied to document recognition", 1998, figure 2.
    """

    def __init__(self, in_channels: int, n_classes: int, widths: dict[str, int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, widths["conv1"], kernel_size=5, padding=2)
        self.conv2 = nn.Conv2d(widths["conv1"], widths["conv2"], kernel_size=5)
        # 28 -> pool 14 -> convolution 10 -> pool 5
        self.fc1 = nn.Linear(widths["conv2"] * 5 * 5, widths["fc1"])
        self.fc2 = nn.Linear(widths["fc1"], widths["fc2"])
        self.fc3 = nn.Linear(widths["fc2"], n_classes)

    def forward(self, images_nchw: torch.Tensor) -> torch.Tensor:
        """Logits [batch, n_classes] of float32 `images_nchw` [batch, in_channels, 28, 28]."""
        x = functional.max_pool2d(functional.relu(self.conv1(images_nchw)), 2)
        x = functional.max_pool2d(functional.relu(self.conv2(x)), 2)
        x = torch.flatten(x, 1)
        x = functional.relu(self.fc1(x))
        x = functional.relu(self.fc2(x))
        return cast(torch.Tensor, self.fc3(x))
