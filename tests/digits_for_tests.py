"""A part of MNIST: enough for what most builds of the tests show, in a fraction of the time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgecnn import data
from edgecnn.data import Dataset, Splits, mnist_digits

N_TRAIN, N_REST = 6_000, 1_000


def fewer(splits: Splits, n_train: int, n_rest: int) -> Splits:
    """The first pictures of each part."""

    def first(part: Dataset, n: int) -> Dataset:
        return replace(part, images_nhwc=part.images_nhwc[:n], labels=part.labels[:n])

    return replace(
        splits,
        train=first(splits.train, n_train),
        validation=first(splits.validation, n_rest),
        test=first(splits.test, n_rest),
    )


def use_fewer(patch: pytest.MonkeyPatch, n_train: int = N_TRAIN, n_rest: int = N_REST) -> None:
    """Until the patch ends, `data: mnist` has so many pictures in this process."""
    whole: Callable[[], Splits] = mnist_digits.load
    patch.setattr(mnist_digits, "load", lambda: fewer(whole(), n_train, n_rest))


def write_npz(path: Path, n_images: int) -> None:
    """The first training digits, as a user's own arrays: for builds in other processes."""
    train = data.load("mnist").train
    np.savez(path, images=train.images_nhwc[:n_images], labels=train.labels[:n_images])
