"""Rounding that gradients pass through."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

# No scale of a file is smaller, or negative.
LEAST_SCALE = 1e-9


class LearnedScale(nn.Module):
    """A scale that is trained as a multiple of the one that it begins with.

    Adam's steps are of the learning rate's size, whatever the gradient's. To a scale of some hundredths that is
    a large part of it: scales would wander, and activations end with a quarter of their 256 steps.
    """

    def __init__(self, first: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("first", first)
        self.multiple = nn.Parameter(torch.ones_like(first))

    def forward(self) -> torch.Tensor:
        result: torch.Tensor = _Multiple.apply(self.multiple, self.first)  # type: ignore[no-untyped-call]
        return result


class _Multiple(torch.autograd.Function):
    """Plain gradient descent moves the product as it would move the scale itself."""

    @staticmethod
    def forward(ctx: Any, multiple: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(first)
        return (multiple * first).clamp_(min=LEAST_SCALE)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (first,) = ctx.saved_tensors
        return gradient / first, None


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
    limits = low - zero_point, high - zero_point
    result: torch.Tensor = _FakeQuantize.apply(values, scale, *limits)  # type: ignore[no-untyped-call]
    return result


class _FakeQuantize(torch.autograd.Function):
    """In few passes over the tensor: one for each operation, and its gradient, would be most of a training step
    of a small network.
    """

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, scale: torch.Tensor, low: int, high: int) -> torch.Tensor:
        result = (values / scale).round_().clamp_(low, high).mul_(scale)
        ctx.save_for_backward(values, scale, result)
        ctx.limits = (low, high)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None, None]:
        values, scale, result = ctx.saved_tensors
        low, high = ctx.limits
        if scale.numel() == 1:
            # The gradient of clamp(values, low * scale, high * scale), in one pass.
            limits = low * float(scale), high * float(scale)
            passed = torch.ops.aten.hardtanh_backward(gradient, values, *limits)
            product = (_dot(gradient, result) - _dot(passed, values)).reshape(scale.shape)
        else:
            passed = gradient * ((values > low * scale) & (values < high * scale))
            product = (gradient * result - passed * values).sum_to_size(scale.shape)
        # Inside, the scale's share is round(v / s) - v / s; outside it is the limit, which is the result's.
        return passed, product / scale, None, None


def _dot(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """The sum of the products, images taken in the order of `channels_last`, as they mostly lie in memory."""
    if one.ndim == 4:
        one, other = one.permute(0, 2, 3, 1), other.permute(0, 2, 3, 1)
    return torch.dot(one.reshape(-1), other.reshape(-1))
