"""The user's own arrays in an .npz file: x_train, y_train, x_test, y_test, or images, labels."""

from __future__ import annotations

import hashlib
import json
import math
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.data import Dataset, Options, Source, Splits
from edgecnn.data.content_hashes import content_hashes
from edgecnn.data.drawn import SPLITS, draw_splits
from edgecnn.data.duplicates import duplicate_notes
from edgecnn.errors import DataError
from edgecnn.ondevice.manifest import Preprocessing

# By split, the names of images and labels; those of Keras first. A split that is not there is drawn.
ARRAYS = {
    "train": (("x_train", "y_train"), ("images", "labels")),
    "validation": (("x_val", "y_val"), ("x_validation", "y_validation")),
    "test": (("x_test", "y_test"),),
}
EXAMPLE = 'numpy.savez("data.npz", images=images, labels=labels, class_names=["cat", "dog"])'
MOST_UNPACKED_BYTES = 4 * 2**30
"""Of one array of a file that is smaller: a few kB can be packed zeros without end."""


def find(options: Options, folders: tuple[Path, ...]) -> Source:
    """The arrays in the file at `options.path`. Labels and names are read; images when the splits are."""
    if options.path is None:
        raise ValueError("npz needs a path")
    path = options.path.expanduser().absolute()
    if not path.is_file():
        raise DataError(
            "there is no such .npz file",
            where=str(path),
            fix=f"the path of a recipe's data begins where edgecnn runs: {Path.cwd()}",
        )
    file = NpzFile(path)
    class_names = file.class_names()
    (content,) = content_hashes(path.parent, [path.name])
    decisive = [content, options.validation_share, options.test_share, options.seed]
    sha256 = hashlib.sha256(json.dumps(decisive).encode()).hexdigest()
    return Source(class_names, sha256, lambda pre, _: file.read(pre, options, class_names))


class NpzFile:
    """An .npz file with its faults told. Nothing is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names = self._names()
        self.pairs = {
            split: pair
            for split, pairs in ARRAYS.items()
            for pair in reversed(pairs)
            if set(pair) <= self.names
        }
        if "train" not in self.pairs:
            raise self._fault(
                f"no arrays to train on; it holds {', '.join(sorted(self.names)) or 'nothing'}",
                f"save x_train and y_train (x_test, y_test), or images and labels: {EXAMPLE}",
            )

    def class_names(self) -> tuple[str, ...]:
        """Those of `class_names`, else the numbers of the labels."""
        labels = [self._labels(pair[1]) for pair in self.pairs.values()]
        if any(part.min() < 0 for part in labels):
            raise self._fault("a label is negative", "number the classes from 0")
        n_classes = max(int(part.max()) for part in labels) + 1
        names = tuple(str(n) for n in range(n_classes))
        if "class_names" in self.names:
            named = self._array("class_names")
            if named.ndim != 1 or named.dtype.kind not in "US":
                raise self._fault("class_names is not a list of names", EXAMPLE)
            names = tuple(str(np.char.decode(n, "utf-8") if named.dtype.kind == "S" else n) for n in named)
            if len(names) < n_classes:
                raise self._fault(
                    f"there are {len(names)} class_names, and labels up to {n_classes - 1}",
                    "give a name for every label, beginning with 0",
                )
        if len(names) < 2:
            raise self._fault("there is one class only: nothing to tell apart", "give labels of two or more")
        return names

    def read(self, preprocessing: Preprocessing, options: Options, class_names: tuple[str, ...]) -> Splits:
        """Raises DataError for images that are not uint8, or of other channels than `preprocessing` says."""
        images, labels = {}, {}
        for split, (images_name, labels_name) in self.pairs.items():
            images[split] = self.images(images_name, preprocessing.channels)
            labels[split] = self._labels(labels_name)
            if len(images[split]) != len(labels[split]):
                raise self._fault(
                    f"{images_name} has {len(images[split])} images, {labels_name} {len(labels[split])} labels",
                    "save one label for every image",
                )
        rows = self._drawn(images["train"], labels["train"], class_names, options)
        for split, drawn in rows.items():
            images[split], labels[split] = images["train"][drawn], labels["train"][drawn]
        parts = {split: Dataset(images[split], labels[split], class_names, split) for split in SPLITS}
        names = {split: [f"{split} {row}" for row in range(len(parts[split]))] for split in SPLITS}
        said = tuple(duplicate_notes(parts, names))
        return Splits(parts["train"], parts["validation"], parts["test"], notes=said)

    def _drawn(
        self, images: NDArray[Any], labels: NDArray[Any], class_names: tuple[str, ...], options: Options
    ) -> dict[str, NDArray[Any]]:
        """The rows of `images` for each split that the file lacks; those that stay in train come last."""
        drawn = draw_splits(
            labels,
            [hashlib.sha256(np.ascontiguousarray(image).data).hexdigest() for image in images],
            class_names,
            options,
            given=self.pairs.keys() - {"train"},
            where=str(self.path),
        )
        return {**{split: rows for split, rows in drawn.items() if split != "train"}, "train": drawn["train"]}

    def images(self, name: str, channels: int) -> NDArray[Any]:
        """uint8 [n, height, width, channels]."""
        images = self._array(name)
        if images.dtype != np.uint8:
            floating = images.dtype.kind == "f"
            bytes_of_it = (
                f"np.uint8(np.rint({name} * 255)), of values 0..1" if floating else f"np.uint8({name})"
            )
            raise self._fault(f"{name} is {images.dtype}, not uint8", f"save pixels of 0..255: {bytes_of_it}")
        if images.ndim == 3:
            images = images[..., np.newaxis]
        if images.ndim != 4 or not images.size:
            raise self._fault(
                f"{name} has the shape {list(images.shape)}",
                "images are [n, height, width], or [n, height, width, channels]",
            )
        if images.shape[3] != channels:
            say_so = f"say so in the recipe: data: {{npz: {{path: ..., channels: {images.shape[3]}}}}}"
            # As torch has them: taken by the letter, such images would be a few rows of many channels.
            turn = f"the channels come last: save {name}.transpose(0, 2, 3, 1)"
            raise self._fault(
                f"{name} has {images.shape[3]} channels (its shape is {list(images.shape)}), "
                f"the recipe says {channels}",
                turn if images.shape[1] == channels else say_so,
            )
        return images

    def _labels(self, name: str) -> NDArray[Any]:
        """int64 [n], from [n] or [n, 1] of integers."""
        labels = self._array(name)
        if labels.ndim == 2 and labels.shape[1] == 1:
            labels = labels[:, 0]
        if labels.ndim != 1 or labels.dtype.kind not in "iu" or not len(labels):
            raise self._fault(
                f"{name} is {labels.dtype} {list(labels.shape)}, not a list of class numbers",
                f"save integers from 0; of one-hot labels: {name}.argmax(axis=1)",
            )
        return labels.astype(np.int64)

    def _names(self) -> set[str]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                return {name.removesuffix(".npy") for name in archive.namelist()}
        except Exception as fault:  # zipfile, zlib and numpy have no common class, and raise whatever comes up
            raise self._fault(f"not a readable .npz file ({fault})", f"save it so: {EXAMPLE}") from fault

    def _array(self, name: str) -> NDArray[Any]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                with archive.open(f"{name}.npy") as file:
                    self._check_size(_unpacked_bytes(file))
                with archive.open(f"{name}.npy") as file:
                    array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
                    return array
        except Exception as fault:
            raise self._fault(
                f"{name} cannot be read ({fault})", "save numbers (and names as text), no Python objects"
            ) from fault

    def _check_size(self, n_bytes: int) -> None:
        if n_bytes > max(MOST_UNPACKED_BYTES, self.path.stat().st_size):
            raise ValueError(f"it unpacks to {n_bytes:,} bytes")

    def _fault(self, what: str, fix: str) -> DataError:
        return DataError(what, where=str(self.path), fix=fix)


def _unpacked_bytes(file: IO[bytes]) -> int:
    """What the array that begins here takes, by its header alone."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"its header has version {version}")
    n_elements: int = math.prod(shape)
    return n_elements * int(dtype.itemsize)
