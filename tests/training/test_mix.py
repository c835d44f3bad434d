"""Mixup and CutMix: what a picture becomes, and that its labels are asked for by the shares it has."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from edgecnn.training.mix import Targets, mixed

LABELS = torch.arange(6)
# Picture k is filled with k.
IMAGES = LABELS.float().reshape(6, 1, 1, 1).expand(6, 3, 8, 10).clone()


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_nothing_is_mixed_unless_asked_for() -> None:
    images, targets = mixed(IMAGES, LABELS, 0, 0, generator(0))
    assert images is IMAGES
    assert targets.others is None and torch.equal(targets.main, LABELS)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), alpha=st.floats(0.1, 2))
def test_mixup_is_the_weighted_mean_of_two_pictures(seed: int, alpha: float) -> None:
    images, targets = mixed(IMAGES, LABELS, alpha, 0, generator(seed))
    assert targets.others is not None
    expected = targets.share * targets.labels + (1 - targets.share) * targets.others
    torch.testing.assert_close(images[:, 0, 0, 0], expected.float())
    assert images.std(dim=(1, 2, 3)).max() < 1e-6  # all of a picture is mixed alike


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10_000), alpha=st.floats(0.1, 2))
def test_cutmix_pastes_a_rectangle_and_knows_its_share(seed: int, alpha: float) -> None:
    images, targets = mixed(IMAGES, LABELS, 0, alpha, generator(seed))
    assert targets.others is not None
    for image, label, other in zip(images, targets.labels, targets.others, strict=True):
        assert set(image.unique().tolist()) <= {float(label), float(other)}
        if label != other:
            assert (image == label).float().mean() == pytest.approx(targets.share, abs=1e-6)


def test_the_pictures_given_are_left_alone() -> None:
    before = IMAGES.clone()
    mixed(IMAGES, LABELS, 0, 1, generator(3))
    assert torch.equal(IMAGES, before)


def test_with_both_a_batch_is_mixed_by_one_of_them() -> None:
    kinds = set()
    for seed in range(20):
        images, _ = mixed(IMAGES, LABELS, 1, 1, generator(seed))
        kinds.add(bool((images == images.round()).all()))
    assert kinds == {True, False}


def test_the_loss_asks_for_both_labels_by_their_shares() -> None:
    logits = torch.randn(6, 6, generator=generator(1))
    others = LABELS.flip(0)
    expected = 0.3 * functional.cross_entropy(logits, LABELS) + 0.7 * functional.cross_entropy(logits, others)
    targets = Targets(LABELS, others, 0.3)
    torch.testing.assert_close(targets.loss(logits, 0.0), expected)
    assert torch.equal(targets.main, others)
