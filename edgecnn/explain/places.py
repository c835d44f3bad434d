"""Where in the picture each cell of a feature map lies.

Without padding a map does not reach the border (LeNet-5's 10 x 10 cells look at the inner 22 of 28 pixels), so
that stretching it over the picture would show heat beside what caused it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

# So small that bounded activations (ReLU6, hard swish) are still straight lines.
_UNIT = 1e-2


def centres(
    model: nn.Module,
    image_shape: tuple[int, ...],
    map_of: Callable[[nn.Module, torch.Tensor], torch.Tensor],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The rows and the columns, in pixels, of the middles of the cells of a feature map.

    `map_of(model, images)` gives the map [n, channels, height, width] for images of `image_shape` (channels,
    height, width). Each convolution of a copy is made to pass on what is at its middle; pictures whose values
    are their own coordinates, each way round, so come out as the coordinates. Where a network does more than
    that lets through, the cells are taken to divide the picture evenly.
    """
    channels, height, width = image_shape
    rows = (torch.arange(height) + 0.5).reshape(-1, 1).expand(height, width)
    columns = (torch.arange(width) + 0.5).reshape(1, -1).expand(height, width)
    ones = torch.ones(height, width)
    pictures = torch.stack([ones, rows / height, 1 - rows / height, columns / width, 1 - columns / width])
    device = next(model.parameters()).device
    probe = (_UNIT * pictures[:, None]).expand(-1, channels, -1, -1).contiguous().to(device)
    with torch.no_grad():
        ones, down, up, right, left = map_of(_passing(model), probe).double().mean(dim=1).cpu().numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        # The largest of a window is at its end; from the other side, at its beginning: the middle is between.
        found = ((down - up) / ones + 1) / 2 * height, ((right - left) / ones + 1) / 2 * width
    found_rows, found_columns = found[0].mean(axis=1), found[1].mean(axis=0)
    return _or_even(found_rows, height), _or_even(found_columns, width)


def _passing(model: nn.Module) -> nn.Module:
    """A copy whose convolutions give the mean of the channels at their middle, and whose norms do nothing."""
    copied = copy.deepcopy(model).eval()
    for module in copied.modules():
        if isinstance(module, nn.Conv2d):
            weight = module.weight.data.zero_()
            weight[:, :, module.kernel_size[0] // 2, module.kernel_size[1] // 2] = 1 / weight.shape[1]
            if module.bias is not None:
                module.bias.data.zero_()
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            if module.affine:
                module.reset_parameters()
    return copied


def _or_even(places: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    fits = np.isfinite(places).all() and (np.diff(places) > 0).all() and places[0] >= 0 and places[-1] <= size
    return places if fits else (np.arange(len(places)) + 0.5) * size / len(places)


def spread(
    values: NDArray[np.floating[Any]],
    rows: NDArray[np.float64],
    columns: NDArray[np.float64],
    size: tuple[int, ...],
) -> NDArray[np.float32]:
    """`values` [map height, map width], which lie at `rows` and `columns`, over a picture of `size` (height,
    width): linear between the cells, and as the outermost cell beyond them.
    """
    by_row = _weights(rows, size[0])
    by_column = _weights(columns, size[1])
    return (by_row @ values @ by_column.T).astype(np.float32)


def _weights(places: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """What share each of `places` has in each of `size` pixels: [size, n_places]."""
    pixels = np.arange(size) + 0.5
    return np.stack([np.interp(pixels, places, cell) for cell in np.eye(len(places))], axis=1)
