"""Caffe's LeNet (20-50-500-10, 431,080 parameters): the one that the compression literature reports on."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn
from torch.nn import functional


class LeNet5Caffe(nn.Module):
    """28x28 pictures, no padding, logits out. Only the dense layer has an activation, as in Caffe's file; with
    `conv_relu` the convolutions have one, too, as in the code of several papers that compress it.

    Sources: Caffe's examples/mnist/lenet_train_test.prototxt; S. Han et al., "Learning both weights and
    connections for efficient neural networks", 2015, table 3; with ReLU: the code of C. Louizos et al.,
    "Learning sparse neural networks through L0 regularization", 2018.
    """

    def __init__(
        self, in_channels: int, n_classes: int, widths: dict[str, int], conv_relu: bool = False
    ) -> None:
        super().__init__()
        self.activation = functional.relu if conv_relu else nn.Identity()
        self.conv1 = nn.Conv2d(in_channels, widths["conv1"], kernel_size=5)
        self.conv2 = nn.Conv2d(widths["conv1"], widths["conv2"], kernel_size=5)
        # 28 -> convolution 24 -> pool 12 -> convolution 8 -> pool 4
        self.fc1 = nn.Linear(widths["conv2"] * 4 * 4, widths["fc1"])
        self.fc2 = nn.Linear(widths["fc1"], n_classes)

    def forward(self, images_nchw: torch.Tensor) -> torch.Tensor:
        """Logits [batch, n_classes] of float32 `images_nchw` [batch, in_channels, 28, 28]."""
        x = functional.max_pool2d(self.activation(self.conv1(images_nchw)), 2)
        x = functional.max_pool2d(self.activation(self.conv2(x)), 2)
        x = torch.flatten(x, 1)
        x = functional.relu(self.fc1(x))
        return cast(torch.Tensor, self.fc2(x))
