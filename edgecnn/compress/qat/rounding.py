"""Rounding that gradients pass through."""

from __future__ import annotations

import torch


def round_through(values: torch.Tensor) -> torch.Tensor:
    """Rounded, halves to even; the gradient is that of the values themselves."""
    return values + (values.round() - values).detach()


def scaled_gradient(values: torch.Tensor, factor: float) -> torch.Tensor:
    """`values`, whose gradient is multiplied by `factor`."""
    return (values - values * factor).detach() + values * factor


def fake_quantize(
    values: torch.Tensor, scale: torch.Tensor, zero_point: int, low: int, high: int
) -> torch.Tensor:
    """`values` in whole steps of `scale`, clipped to `low`..`high`, as floats again.

    What is clipped has no gradient; `scale`, a float or [channels, 1, ...], has that of "Learned step size
    quantization", equation 3.
    """
    steps = (values / scale).clamp(low - zero_point, high - zero_point)
    return round_through(steps) * scale
