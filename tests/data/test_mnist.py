import gzip
import time
from pathlib import Path

import numpy as np
import pytest

from edgecnn import data
from edgecnn.data import idx, mnist_digits
from edgecnn.errors import DataError

IMAGES = "t10k-images-idx3-ubyte.gz"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the data files, to be damaged."""
    for name in mnist_digits.FILES:
        (tmp_path / name).write_bytes((mnist_digits.FOLDER / name).read_bytes())
    return tmp_path


def test_mnist_is_whole_and_split_without_overlap() -> None:
    splits = data.load("mnist")
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [55_000, 5_000, 10_000]
    assert splits.train.images_nhwc.shape == (55_000, 28, 28, 1)
    assert splits.train.images_nhwc.dtype == np.uint8
    # The first labels of the official training and test files, and the first of the last 5,000.
    assert splits.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert splits.test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    _, all_labels = (
        idx.read_idx(mnist_digits.FOLDER / n, sha256=h, fix="") for n, h in list(mnist_digits.FILES.items())[:2]
    )
    assert splits.validation.labels.tolist() == all_labels[-5_000:].tolist()


def test_mnist_loads_in_under_a_second() -> None:
    started = time.process_time()
    data.load("mnist")
    assert time.process_time() - started < 1.0  # CPU time: neighbours do not count


def test_the_preprocessing_has_the_mean_and_std_of_the_training_files() -> None:
    splits = data.load("mnist")
    pixels = np.concatenate([splits.train.images_nhwc, splits.validation.images_nhwc]) / 255
    preprocessing = data.DATASETS["mnist"].preprocessing
    assert preprocessing.mean[0] == pytest.approx(pixels.mean(), abs=1e-4)
    assert preprocessing.std[0] == pytest.approx(pixels.std(), abs=1e-4)


def test_an_altered_file_is_named_with_both_hashes(folder: Path) -> None:
    raw = bytearray(gzip.decompress((folder / IMAGES).read_bytes()))
    raw[5000] ^= 1
    (folder / IMAGES).write_bytes(gzip.compress(bytes(raw), 1))
    with pytest.raises(DataError, match="the contents were altered") as fault:
        mnist_digits.load(folder)
    message = str(fault.value)
    assert str(folder / IMAGES) in message
    assert mnist_digits.FILES[IMAGES] in message
    assert len([word for word in message.replace(",", " ").split() if len(word) == 64]) == 2, "both hashes"


def test_a_truncated_file_is_named_with_both_hashes(folder: Path) -> None:
    (folder / IMAGES).write_bytes((folder / IMAGES).read_bytes()[:-1000])
    with pytest.raises(DataError, match="cannot be unpacked") as fault:
        mnist_digits.load(folder)
    assert mnist_digits.FILES[IMAGES] in str(fault.value)
    assert str(folder / IMAGES) in str(fault.value)


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / IMAGES).unlink()
    with pytest.raises(DataError, match="is missing") as fault:
        mnist_digits.load(folder)
    assert "pip install --force-reinstall edgecnn" in str(fault.value)


def test_a_recompressed_file_is_the_same_data(folder: Path) -> None:
    (folder / IMAGES).write_bytes(gzip.compress(gzip.decompress((folder / IMAGES).read_bytes()), 1))
    mnist_digits.load(folder)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "not an IDX file"),
        (b"\0\0\x0d\x01\0\0\0\0", "not an IDX file of unsigned bytes"),
        (b"\0\0\x08\x03\0\0\0\x01", "header is cut off"),
        (b"\0\0\x08\x01\0\0\0\x05abc", r"promises 5 values \(5,\), the file holds 3"),
    ],
)
def test_what_is_not_idx_is_refused(raw: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        idx.parse_idx(raw, where="x")


def test_calibration_images_are_seeded_and_of_the_training_part_only() -> None:
    splits = data.load("mnist")
    first, again, other = (data.calibration_images(splits.train, 50, seed) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    training = {image.tobytes() for image in splits.train.images_nhwc}
    assert all(image.tobytes() in training for image in first)
    assert len({image.tobytes() for image in first}) == 50
    with pytest.raises(ValueError, match="come from the train split, not from test"):
        data.calibration_images(splits.test, 50, 0)
