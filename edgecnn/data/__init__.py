"""Data sets as uint8 NHWC arrays with their splits; MNIST ships inside the package.

Recipes need the names and sizes of data sets, and commands that only check or compare files need recipes:
numpy, which takes a good part of their time to start, is loaded where there are pictures.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from edgecnn.data import places
from edgecnn.ondevice.manifest import Preprocessing
from edgecnn.progress import Progress, Silent

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Of the pictures that most published weights were trained on (ImageNet), in the 0..1 scale.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Dataset:
    """One split: `images_nhwc` uint8 [n, height, width, channels], `labels` int64 [n] in 0..n_classes-1, or all
    -1 where the pictures have none.
    """

    images_nhwc: NDArray[Any]
    labels: NDArray[Any]
    class_names: tuple[str, ...]
    split: str

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def is_labelled(self) -> bool:
        return not (self.labels < 0).any()

    def labelled_by(self, classes: NDArray[Any]) -> Dataset:
        """These pictures, with `classes` for labels where they have none."""
        return self if self.is_labelled else replace(self, labels=classes.astype("int64"))


@dataclass(frozen=True)
class Splits:
    """The three parts of a data set. The test part serves for nothing but the final figures.

    `notes` is what the user should know of the data: broken files left out, few pictures. `fitted`: the
    pictures are as the `Preprocessing` asks for already.
    """

    train: Dataset
    validation: Dataset
    test: Dataset
    notes: tuple[str, ...] = ()
    fitted: bool = False


@dataclass(frozen=True)
class Options:
    """What a recipe says of its data besides their name and size. Shares are of all pictures, 0..1."""

    path: Path | None = None
    seed: int = 0
    validation_share: float = 0.1
    test_share: float = 0.2
    classes: Path | None = None


@dataclass(frozen=True)
class Source:
    """A data set that was found, and not read yet.

    `sha256` stands for its contents: it goes into the hash of everything that is made from them.
    `read` gives the splits, where it can at the size that the `Preprocessing` asks for, else at their own.
    """

    class_names: tuple[str, ...]
    sha256: str
    read: Callable[[Preprocessing, Progress], Splits]


@dataclass(frozen=True)
class DatasetInfo:
    """What a recipe must know of a kind of data before any file is touched.

    `module` has `find(options, folders) -> Source`. `preprocessing` has the size of the pictures as they are
    and the mean and deviation of the training part. Data that the user brings (`brought`) have a path, and any
    size; arrays have `any_channels`, while picture files are grey or in colour.
    """

    module: str
    preprocessing: Preprocessing
    brought: bool = False
    labelled: bool = True
    any_channels: bool = False


_GREY_28 = Preprocessing(height=28, width=28, channels=1, mean=(0.1307,), std=(0.3081,))
# The usual size for small colour classifiers on a board; a recipe names another with `size`.
_BROUGHT = Preprocessing(height=128, width=128, channels=3, mean=IMAGENET_MEAN, std=IMAGENET_STD)

DATASETS = {
    "mnist": DatasetInfo("edgecnn.data.mnist_digits", _GREY_28),
    "fashion-mnist": DatasetInfo(
        "edgecnn.data.fashion_mnist", replace(_GREY_28, mean=(0.2860,), std=(0.3530,))
    ),
    "cifar10": DatasetInfo(
        "edgecnn.data.cifar10",
        Preprocessing(
            height=32, width=32, channels=3, mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616)
        ),
    ),
    "folder": DatasetInfo("edgecnn.data.folder", _BROUGHT, brought=True),
    "npz": DatasetInfo("edgecnn.data.npz", _BROUGHT, brought=True, any_channels=True),
    "pictures": DatasetInfo("edgecnn.data.pictures", _BROUGHT, brought=True, labelled=False),
}


def find(name: str, options: Options | None = None, folders: Sequence[Path] = ()) -> Source:
    """The data set `name` (a key of DATASETS), looked for in `folders`, then where `places` says.

    Raises DataError where the user's own data are not as they must be. Nothing is downloaded yet.
    """
    module = importlib.import_module(DATASETS[name].module)
    return cast(Source, module.find(options or Options(), places.search_folders(folders)))


def load(
    name: str,
    options: Options | None = None,
    *,
    folders: Sequence[Path] = (),
    preprocessing: Preprocessing | None = None,
    progress: Progress | None = None,
) -> Splits:
    """The splits of the data set `name` at the size of `preprocessing` (default: as they are).

    Raises DataError for files that are missing and cannot be fetched, or are not intact.
    """
    source = find(name, options, folders)
    return read(source, preprocessing or DATASETS[name].preprocessing, progress)


def read(source: Source, preprocessing: Preprocessing, progress: Progress | None = None) -> Splits:
    """The splits of `source`, every picture fitted to the size of `preprocessing`.

    To their notes come those on few pictures and uneven classes.
    """
    from edgecnn.data.notes import on_size_and_balance
    from edgecnn.ondevice.preprocess import fit_images

    splits = source.read(preprocessing, progress or Silent())
    if splits.train.is_labelled:
        splits = replace(splits, notes=(*splits.notes, *on_size_and_balance(splits)))
    if splits.fitted:
        return splits

    def fitted(part: Dataset) -> Dataset:
        return replace(part, images_nhwc=fit_images(part.images_nhwc, preprocessing))

    return replace(
        splits, train=fitted(splits.train), validation=fitted(splits.validation), test=fitted(splits.test)
    )


def split_off_validation(
    train: tuple[NDArray[Any], NDArray[Any]],
    test: tuple[NDArray[Any], NDArray[Any]],
    class_names: tuple[str, ...],
    n_validation: int,
) -> Splits:
    """Splits of (images, labels) pairs: the last `n_validation` of the training pictures are for validation."""
    images, labels = train
    at = len(labels) - n_validation

    def part(images: NDArray[Any], labels: NDArray[Any], split: str) -> Dataset:
        return Dataset(images, labels.astype("int64"), class_names, split)

    return Splits(
        train=part(images[:at], labels[:at], "train"),
        validation=part(images[at:], labels[at:], "validation"),
        test=part(*test, "test"),
    )


def calibration_images(train: Dataset, n_images: int, seed: int) -> NDArray[Any]:
    """`n_images` different images of the training part, drawn with `seed`: uint8 [n_images, h, w, c]."""
    import numpy as np

    if train.split != "train":
        raise ValueError(f"calibration images come from the train split, not from {train.split}")
    chosen = np.random.default_rng(seed).choice(len(train), size=min(n_images, len(train)), replace=False)
    return train.images_nhwc[np.sort(chosen)]
