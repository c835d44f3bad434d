"""Data sets as uint8 NHWC arrays with their splits; MNIST ships inside the package."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import cast

import numpy as np

from edgecnn.ondevice.manifest import Preprocessing


@dataclass(frozen=True)
class Dataset:
    """One split: `images_nhwc` uint8 [n, height, width, channels], `labels` int64 [n] in 0..n_classes-1."""

    images_nhwc: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    split: str

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Splits:
    """The three parts of a data set. The test part serves for nothing but the final figures."""

    train: Dataset
    validation: Dataset
    test: Dataset


@dataclass(frozen=True)
class DatasetInfo:
    """What a recipe must know of a data set before it is loaded.

    `module` has `load() -> Splits` and `SHA256`, which stands for the contents: it goes into the hash of
    everything that is trained on them.
    """

    module: str
    preprocessing: Preprocessing
    class_names: tuple[str, ...]


DATASETS = {
    "mnist": DatasetInfo(
        module="edgecnn.data.mnist_digits",
        # Mean and standard deviation of the 60,000 training images.
        preprocessing=Preprocessing(height=28, width=28, channels=1, mean=(0.1307,), std=(0.3081,)),
        class_names=tuple("0123456789"),
    ),
}


def load(name: str) -> Splits:
    """The splits of the data set `name` (a key of DATASETS). Raises DataError for files that are not intact."""
    return cast(Splits, importlib.import_module(DATASETS[name].module).load())


def contents_sha256(name: str) -> str:
    """The hash that stands for the contents of the data set `name`; known without loading them."""
    return cast(str, importlib.import_module(DATASETS[name].module).SHA256)


def calibration_images(train: Dataset, n_images: int, seed: int) -> np.ndarray:
    """`n_images` different images of the training part, drawn with `seed`: uint8 [n_images, h, w, c]."""
    if train.split != "train":
        raise ValueError(f"calibration images come from the train split, not from {train.split}")
    chosen = np.random.default_rng(seed).choice(len(train), size=min(n_images, len(train)), replace=False)
    return train.images_nhwc[np.sort(chosen)]
