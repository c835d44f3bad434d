"""Augmentation of whole batches on the device: one warp a picture, no Python for each."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch.nn import functional

# How far each goes, for a picture of any size. Wide enough to help, too narrow to turn a 6 into a 9.
MAX_SHIFT = 0.08  # of the picture's height and width
MAX_ROTATION_DEG = 12.0
MAX_SCALE = 0.12
# Elastic distortion: how far each of the nodes of a coarse grid is moved, and their number along a side. On 28
# pixels that is near the smoothed fields of Simard et al. 2003 (some 1.4 pixels at distances of 6), but milder.
MAX_ELASTIC = 0.06  # of the picture's height and width
ELASTIC_NODES = 5
# Random-resized crops: at least this share of the picture's area, and how far its sides may be stretched.
MIN_CROP_AREA = 0.5
MAX_CROP_ASPECT = 4 / 3
# Colour jitter, in standard deviations of the normalized picture and as shares.
MAX_BRIGHTNESS, MAX_CONTRAST, MAX_SATURATION = 0.3, 0.3, 0.3
WARPS = ("shift", "rotate", "scale", "flip", "crop", "elastic")


def augment(images_nchw: torch.Tensor, names: tuple[str, ...], generator: torch.Generator) -> torch.Tensor:
    """float32 `images_nchw` [n, c, h, w], normalized, each changed by its own random numbers.

    `names` are of WARPS, or "color"; the random numbers come from `generator` alone (a CPU one), so that a run
    can be repeated on any device.
    """
    if set(names) & set(WARPS):
        theta = random_maps(len(images_nchw), names, generator).to(images_nchw.device)
        height, width = images_nchw.shape[2:]
        grid = sampling_grid(theta, height, width)
        if "elastic" in names:
            grid = grid + elastic_field(len(images_nchw), height, width, generator).to(grid.device)
        images_nchw = functional.grid_sample(images_nchw, grid, padding_mode="border", align_corners=False)
    return jitter(images_nchw, generator) if "color" in names else images_nchw


def random_maps(n: int, names: tuple[str, ...], generator: torch.Generator) -> torch.Tensor:
    """`n` random affine maps [n, 2, 3] from the warped picture to the given one, in -1 to 1."""

    def uniform(limit: float) -> torch.Tensor:
        return (torch.rand(n, generator=generator) * 2 - 1) * limit

    angle = uniform(math.radians(MAX_ROTATION_DEG)) if "rotate" in names else torch.zeros(n)
    zoom = 1 + uniform(MAX_SCALE) if "scale" in names else torch.ones(n)
    # A shift by a share of the picture is twice that share in these coordinates.
    shift_x, shift_y = (uniform(2 * MAX_SHIFT) if "shift" in names else torch.zeros(n) for _ in range(2))
    mirror = torch.ones(n)
    if "flip" in names:
        mirror = 1 - 2 * torch.randint(0, 2, (n,), generator=generator).float()
    zoom_x = zoom_y = zoom
    if "crop" in names:
        area = 1 - torch.rand(n, generator=generator) * (1 - MIN_CROP_AREA)
        stretch = torch.exp(uniform(math.log(MAX_CROP_ASPECT) / 2))
        crop_x, crop_y = (area.sqrt() * stretch).clamp(max=1), (area.sqrt() / stretch).clamp(max=1)
        shift_x, shift_y = shift_x + uniform(1) * (1 - crop_x), shift_y + uniform(1) * (1 - crop_y)
        zoom_x, zoom_y = zoom * crop_x, zoom * crop_y
    cos, sin = torch.cos(angle), torch.sin(angle)
    return torch.stack(
        [
            torch.stack([cos * zoom_x * mirror, -sin * zoom_y, shift_x], dim=1),
            torch.stack([sin * zoom_x * mirror, cos * zoom_y, shift_y], dim=1),
        ],
        dim=1,
    )


def elastic_field(n: int, height: int, width: int, generator: torch.Generator) -> torch.Tensor:
    """How far each pixel of `n` pictures is moved, in -1 to 1 across a picture: [n, height, width, 2].

    A coarse grid of random moves, between which bicubic interpolation is smooth.

    Source: P. Simard et al., "Best practices for convolutional neural networks applied to visual document
    analysis", 2003, section 2 (there a random field is smoothed by a Gaussian).
    """
    # A move by a share of the picture is twice that share in these coordinates.
    nodes = torch.rand(2 * n, ELASTIC_NODES**2, generator=generator) * 2 - 1
    moves = 2 * MAX_ELASTIC * nodes @ _between_nodes(height, width)
    return moves.view(n, 2, height, width).permute(0, 2, 3, 1)


@cache
def _between_nodes(height: int, width: int) -> torch.Tensor:
    """What each node of the coarse grid adds to each pixel: [nodes, height * width]."""
    each_alone = torch.eye(ELASTIC_NODES**2).view(-1, 1, ELASTIC_NODES, ELASTIC_NODES)
    spread = functional.interpolate(each_alone, (height, width), mode="bicubic", align_corners=True)
    return spread.view(ELASTIC_NODES**2, height * width)


def jitter(images_nchw: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Brightness, contrast and saturation of each picture changed at random."""

    def uniform(limit: float) -> torch.Tensor:
        numbers = torch.rand(len(images_nchw), 1, 1, 1, generator=generator)
        return ((numbers * 2 - 1) * limit).to(images_nchw.device)

    brightness, contrast, saturation = uniform(MAX_BRIGHTNESS), uniform(MAX_CONTRAST), uniform(MAX_SATURATION)
    if images_nchw.shape[1] > 1:
        grey = images_nchw.mean(dim=1, keepdim=True)
        images_nchw = torch.lerp(grey, images_nchw, 1 + saturation)
    return images_nchw * (1 + contrast) + brightness


def sampling_grid(theta: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Where each pixel of the warped pictures comes from: [n, height, width, 2] of affine maps [n, 2, 3].

    The same numbers as `functional.affine_grid(align_corners=False)`, by one matrix product for the whole
    batch instead of one a picture: on a CPU that was most of the time of augmentation.
    """
    n = len(theta)
    y, x = ((torch.arange(size, device=theta.device) * 2 + 1) / size - 1 for size in (height, width))
    pixels = torch.stack(
        [x.repeat(height), y.repeat_interleave(width), torch.ones(height * width, device=theta.device)]
    )
    # Not made contiguous: grid_sample reads it as it lies.
    return (theta.reshape(2 * n, 3) @ pixels).view(n, 2, height, width).permute(0, 2, 3, 1)
