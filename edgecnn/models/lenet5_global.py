"""LeNet-5 with its C5 as the convolution that it was in 1998, and a global average in place of F6.

Most of LeNet-5's parameters are those of C5 once it is a dense layer, one weight for each pixel that it sees.
As a convolution with an average behind it, it has one for each pixel of its kernel: what a small file has
bytes for then goes into channels.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import nn
from torch.nn import functional


class LeNet5Global(nn.Module):
    """28x28 pictures, logits out: convolution and pooling twice, a third convolution,
    a global average, a linear layer. `kernel_sizes`: of the three convolutions. The batch norms are for
    training; in the files they are part of the convolutions.

    Sources: Y. LeCun et al., "Gradient-based learning applied to document recognition", 1998, section II-B (C5
    is a convolution, whose maps are single pixels only because of the size of its input);
    M. Lin et al., "Network in network", 2014, section 3.2 (the global average).
    """

    def __init__(
        self,
        in_channels: int,
        n_classes: int,
        widths: dict[str, int],
        kernel_sizes: tuple[int, int, int] = (5, 5, 3),
    ) -> None:
        super().__init__()
        first, second, third = kernel_sizes
        conv1, conv2, conv3 = (widths[name] for name in ("conv1", "conv2", "conv3"))
        self.conv1 = nn.Conv2d(in_channels, conv1, first, padding=first // 2, bias=False)
        self.norm1 = nn.BatchNorm2d(conv1)
        self.conv2 = nn.Conv2d(conv1, conv2, second, bias=False)
        self.norm2 = nn.BatchNorm2d(conv2)
        self.conv3 = nn.Conv2d(conv2, conv3, third, padding=third // 2, bias=False)
        self.norm3 = nn.BatchNorm2d(conv3)
        self.fc = nn.Linear(conv3, n_classes)

    def forward(self, images_nchw: torch.Tensor) -> torch.Tensor:
        """Logits [batch, n_classes] of float32 `images_nchw` [batch, in_channels, height, width]."""
        x = functional.max_pool2d(functional.relu(self.norm1(self.conv1(images_nchw))), 2)
        x = functional.max_pool2d(functional.relu(self.norm2(self.conv2(x))), 2)
        x = functional.relu(self.norm3(self.conv3(x)))
        x = torch.flatten(x.mean(dim=(2, 3), keepdim=True), 1)
        return cast(torch.Tensor, self.fc(x))
