"""The full official MNIST, shipped in this package: 55,000 train, 5,000 validation, 10,000 test images."""

from __future__ import annotations

import hashlib
from pathlib import Path

from edgecnn.data import Options, Source, Splits, split_off_validation
from edgecnn.data.idx import read_idx

# sha256 of the unpacked files.
FILES = {
    "train-images-idx3-ubyte.gz": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte.gz": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte.gz": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte.gz": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
# Stands for the contents of all of them.
SHA256 = hashlib.sha256("".join(FILES.values()).encode()).hexdigest()
CLASS_NAMES = tuple("0123456789")
N_VALIDATION = 5_000
FOLDER = Path(__file__).parent / "mnist"


def find(options: Options, folders: tuple[Path, ...]) -> Source:
    return Source(CLASS_NAMES, SHA256, lambda _preprocessing, _progress: load())


def load(folder: Path = FOLDER) -> Splits:
    """MNIST from `folder`; the last 5,000 training images are the validation split.

    Raises DataError for a missing, truncated or altered file.
    """
    return load_idx(
        folder, FILES, CLASS_NAMES, fix="install edgecnn again (pip install --force-reinstall edgecnn)"
    )


def load_idx(folder: Path, files: dict[str, str], class_names: tuple[str, ...], *, fix: str) -> Splits:
    """The splits in the four IDX `files` (name: sha256 of its contents) of a data set laid out as MNIST is."""
    arrays = [read_idx(folder / name, sha256=sha256, fix=fix) for name, sha256 in files.items()]
    train_images, train_labels, test_images, test_labels = arrays
    return split_off_validation(
        (train_images[..., None], train_labels),
        (test_images[..., None], test_labels),
        class_names,
        N_VALIDATION,
    )
