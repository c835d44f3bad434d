"""Augmentation of whole batches on the device: one affine warp a picture, no per-image Python."""

from __future__ import annotations

import math

import torch
from torch.nn import functional

# How far each goes, for a picture of any size. Wide enough to help, too narrow to turn a 6 into a 9.
MAX_SHIFT = 0.08  # of the picture's height and width
MAX_ROTATION_DEG = 12.0
MAX_SCALE = 0.12
AUGMENTATIONS = ("shift", "rotate", "scale", "flip")


def augment(images_nchw: torch.Tensor, names: tuple[str, ...], generator: torch.Generator) -> torch.Tensor:
    """float32 `images_nchw` [n, c, h, w], each warped by its own random affine map (bilinear, edges repeated).

    `names` are of AUGMENTATIONS; the random numbers come from `generator` alone (a CPU one), so that a run
    can be repeated on any device.
    """
    if not names:
        return images_nchw
    n = len(images_nchw)

    def uniform(limit: float) -> torch.Tensor:
        return (torch.rand(n, generator=generator) * 2 - 1) * limit

    angle = uniform(math.radians(MAX_ROTATION_DEG)) if "rotate" in names else torch.zeros(n)
    zoom = 1 + uniform(MAX_SCALE) if "scale" in names else torch.ones(n)
    # affine_grid's coordinates run from -1 to 1: a shift by a share of the picture is twice that share.
    shift_x, shift_y = (uniform(2 * MAX_SHIFT) if "shift" in names else torch.zeros(n) for _ in range(2))
    mirror = torch.ones(n)
    if "flip" in names:
        mirror = 1 - 2 * torch.randint(0, 2, (n,), generator=generator).float()
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    theta = torch.stack(
        [
            torch.stack([cos * mirror, -sin, shift_x], dim=1),
            torch.stack([sin * mirror, cos, shift_y], dim=1),
        ],
        dim=1,
    ).to(images_nchw.device)
    grid = sampling_grid(theta, *images_nchw.shape[2:])
    return functional.grid_sample(images_nchw, grid, padding_mode="border", align_corners=False)


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
