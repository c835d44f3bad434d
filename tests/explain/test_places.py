"""The cells of a feature map lie where arithmetic says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgecnn.explain.places import centres, spread
from edgecnn.models import build_model


def found(model: nn.Module, layer: str, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    def run(copied: nn.Module, images: torch.Tensor) -> torch.Tensor:
        seen: list[torch.Tensor] = []
        hook = copied.get_submodule(layer).register_forward_hook(lambda _, __, output: seen.append(output))
        copied(images)
        hook.remove()
        return seen[-1]

    return centres(model, shape, run)


def test_lenet_looks_at_the_inner_part() -> None:
    model = build_model("lenet5", in_channels=1, n_classes=10)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    rows, columns = found(model, "conv2", (1, 28, 28))
    # Pooled in twos, then 5 x 5 without padding: cell i begins 2 i + 4 pixels in and is 2 wide.
    np.testing.assert_allclose(rows, 2 * np.arange(10) + 5, atol=0.01)
    np.testing.assert_allclose(columns, rows)
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items()), (
        "a copy is changed"
    )


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU6())
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.end = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return self.end(nn.functional.avg_pool2d(x + self.depthwise(x), 2))


def test_sums_strides_norms_and_sides_of_different_length() -> None:
    model = Residual()
    model.stem[1].running_mean.fill_(3.0)
    rows, columns = found(model, "end", (3, 16, 32))
    # Stride 2 with padding 1 looks at every second pixel, from the first on; two of them are averaged.
    np.testing.assert_allclose(rows, 4 * np.arange(4) + 1.5, atol=0.01)
    np.testing.assert_allclose(columns, 4 * np.arange(8) + 1.5, atol=0.01)


def test_what_cannot_be_found_divides_the_picture_evenly() -> None:
    class Reversed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x.flip(2))

    rows, _ = found(Reversed(), "conv", (1, 4, 4))
    np.testing.assert_allclose(rows, [0.5, 1.5, 2.5, 3.5])


def test_heat_is_highest_at_its_place() -> None:
    values = np.zeros((2, 2))
    values[1, 0] = 1
    heat = spread(values, np.array([3.0, 7.0]), np.array([2.5, 8.0]), (10, 12))
    assert heat.shape == (10, 12)
    assert heat[7, 2] == pytest.approx(1) and heat[9, 0] == pytest.approx(1)
    assert heat[4, 2] == pytest.approx((4.5 - 3) / 4) and heat[2, 2] == 0 and heat[9, 11] == 0
