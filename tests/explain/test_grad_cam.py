"""The map lights up where the object is: for a network that can be worked out by hand, and for trained ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgecnn.errors import ModelError
from edgecnn.explain.grad_cam import explain, look_inside
from edgecnn.models import build_model


class Edges(nn.Module):
    """Class 0 is how bright the picture is, class 1 how dark: two 1x1 filters, their means, no learning."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1, bias=False)
        self.head = nn.Linear(2, 2, bias=False)
        self.conv.weight.data = torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1)
        self.head.weight.data = torch.eye(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.conv(x)).mean(dim=(2, 3)))


def test_the_map_is_the_one_of_the_formula() -> None:
    image = np.zeros((1, 1, 4, 4), np.float32)
    image[0, 0, 1, 2], image[0, 0, 3, 0], image[0, 0, 0, 0] = 2.0, 1.0, -4.0
    bright, dark = (explain(Edges(), image, index) for index in (0, 1))
    # Class 0: gradient 1/16 where the first filter is positive, averaged; heat is bright / brightest.
    expected = np.zeros((4, 4))
    expected[1, 2], expected[3, 0] = 1.0, 0.5
    np.testing.assert_allclose(bright.heat, expected, atol=1e-6)
    np.testing.assert_allclose(dark.heat, np.eye(4) * [1, 0, 0, 0], atol=1e-6)
    assert (bright.layer, bright.map_size) == ("conv", (4, 4))
    logits = np.array([3 / 16, 4 / 16])
    np.testing.assert_allclose(bright.probabilities, np.exp(logits) / np.exp(logits).sum(), rtol=1e-6)


def test_a_class_that_nothing_speaks_for_has_an_empty_map() -> None:
    found = explain(Edges(), np.full((1, 1, 4, 4), -1, np.float32), 0)
    assert not found.heat.any() and np.isfinite(found.heat).all()


def planted(n: int, size: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Noise with one object at a random place: a ring is class 0, a cross is class 1. And its mask."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(n, 1, size, size, generator=generator) * 0.3
    masks = torch.zeros(n, size, size)
    labels = torch.randint(0, 2, (n,), generator=generator)
    cross, ring = torch.zeros(7, 7), torch.ones(7, 7)
    cross[3, :] = cross[:, 3] = 1
    ring[2:5, 2:5] = 0
    for image, mask, label in zip(images, masks, labels, strict=True):
        y, x = torch.randint(2, size - 9, (2,), generator=generator).tolist()
        image[0, y : y + 7, x : x + 7] += cross if label else ring
        mask[y : y + 7, x : x + 7] = 1
    return images, labels, masks


def test_a_trained_network_looks_at_the_object() -> None:
    images, labels, _ = planted(1024, 28, seed=0)
    model = build_model("lenet5", in_channels=1, n_classes=2, seed=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    model.train()
    for _ in range(15):
        for part in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[part]), labels[part]).backward()
            optimizer.step()
    seen, truth, masks = planted(40, 28, seed=1)
    model.eval()
    right = model(seen).argmax(1) == truth
    assert right.float().mean() > 0.9, "it has learnt the task"
    inside, n_warm = [], 0
    for image, label, mask in zip(seen[right], truth[right], masks[right], strict=True):
        heat = explain(model, image[None].numpy(), int(label)).heat
        if heat.any():
            n_warm += 1
            inside.append(float((heat * mask.numpy()).sum() / heat.sum()) / float(mask.mean()))
    assert n_warm >= 0.7 * int(right.sum())
    # 1.0 is what a map that knows nothing gets.
    assert np.median(inside) > 2.5, sorted(inside)


@pytest.mark.parametrize(
    ("name", "layer", "size"), [("lenet5", "conv2", (10, 10)), ("squeezenet1_1", "features.12", (7, 7))]
)
def test_the_map_is_of_the_last_layer_with_places(name: str, layer: str, size: tuple[int, int]) -> None:
    options = {"stem": "small"} if name != "lenet5" else {}
    model = build_model(name, in_channels=1, n_classes=10, options=options)
    found = explain(model, np.random.default_rng(0).random((1, 1, 28, 28), np.float32), 3)
    assert (found.layer, found.map_size) == (layer, size)
    assert found.heat.shape == (28, 28) and found.heat.dtype == np.float32


def test_what_the_layers_see() -> None:
    model = build_model("lenet5", in_channels=1, n_classes=10)
    image = np.random.default_rng(0).random((1, 1, 28, 28), np.float32)
    found = look_inside(model, image)
    np.testing.assert_array_equal(found.filters, model.conv1.weight.detach().numpy())
    assert {name: maps.shape for name, maps in found.feature_maps.items()} == {
        "conv1": (6, 28, 28),
        "conv2": (16, 10, 10),
    }
    expected = torch.relu(model.conv1(torch.from_numpy(image)))[0].detach().numpy()
    np.testing.assert_allclose(found.feature_maps["conv1"], expected, rtol=1e-5)


def test_a_network_without_places_is_told() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    with pytest.raises(ModelError, match="no feature map with places"):
        explain(flat, np.zeros((1, 1, 4, 4), np.float32), 0)
    with pytest.raises(ModelError, match="no convolution"):
        look_inside(flat, np.zeros((1, 1, 4, 4), np.float32))
