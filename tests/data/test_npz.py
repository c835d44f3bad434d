"""The user's own arrays: Keras names or images and labels; each fault is told with its remedy."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecnn import data
from edgecnn.data import Options, Splits, npz
from edgecnn.errors import DataError

pytestmark = pytest.mark.usefixtures("own_cache")
RGB = replace(data.DATASETS["npz"].preprocessing, height=12, width=10)
GREY = replace(RGB, channels=1, mean=(0.5,), std=(0.5,))


def pictures(n: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, *shape)).astype(np.uint8)


def save(path: Path, **arrays: Any) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def load(path: Path, preprocessing=RGB, **options: Any) -> Splits:
    return data.load("npz", Options(path, **options), preprocessing=preprocessing)


def sizes(splits: Splits) -> list[int]:
    return [len(splits.train), len(splits.validation), len(splits.test)]


def test_arrays_named_as_keras_does(tmp_path: Path) -> None:
    test = pictures(7, 12, 10, 3, seed=1)
    path = save(
        tmp_path / "d.npz",
        x_train=pictures(40, 12, 10, 3), y_train=np.arange(40).reshape(-1, 1) % 4,
        x_test=test, y_test=np.arange(7, dtype=np.uint8) % 4,
    )  # fmt: skip
    splits = load(path)
    assert sizes(splits) == [36, 4, 7]
    assert np.array_equal(splits.test.images_nhwc, test)
    assert splits.test.labels.tolist() == [0, 1, 2, 3, 0, 1, 2]
    assert splits.test.labels.dtype == np.int64
    assert splits.train.class_names == ("0", "1", "2", "3")


def test_images_and_labels_are_split_with_their_labels(tmp_path: Path) -> None:
    labels = np.arange(60) % 2
    images = np.broadcast_to(labels[:, None, None] * 200 + np.arange(60)[:, None, None] // 2, (60, 12, 10))
    path = save(
        tmp_path / "d.npz", images=images.astype(np.uint8), labels=labels, class_names=["dark", "light"]
    )
    splits = load(path, GREY, test_share=0.25)
    assert sizes(splits) == [38, 6, 16]
    assert splits.train.class_names == ("dark", "light")
    for part in (splits.train, splits.validation, splits.test):
        assert np.array_equal(part.images_nhwc[:, 0, 0, 0] >= 200, part.labels == 1)
    together = np.concatenate(
        [p.images_nhwc[:, 0, 0, 0] for p in (splits.train, splits.validation, splits.test)]
    )
    assert len(np.unique(together)) == 60, "each picture once"
    assert sizes(load(path, replace(GREY, height=20))) == [42, 6, 12]


@pytest.mark.parametrize("channels", [2, 4, 7])
def test_any_number_of_channels(tmp_path: Path, channels: int) -> None:
    images = pictures(20, 12, 10, channels)
    path = save(tmp_path / "d.npz", images=images, labels=np.arange(20) % 2)
    wanted = replace(RGB, channels=channels, mean=(0.5,) * channels, std=(0.5,) * channels)
    splits = load(path, wanted)
    assert splits.train.images_nhwc.shape[1:] == (12, 10, channels)
    assert {image.tobytes() for image in splits.test.images_nhwc} < {image.tobytes() for image in images}
    assert load(path, replace(wanted, height=20)).test.images_nhwc.shape[1:] == (20, 10, channels)


def test_the_hash_changes_with_the_file(tmp_path: Path) -> None:
    path = save(tmp_path / "d.npz", images=pictures(20, 12, 10), labels=np.arange(20) % 2)
    before = data.find("npz", Options(path)).sha256
    assert data.find("npz", Options(path)).sha256 == before
    save(path, images=pictures(20, 12, 10, seed=1), labels=np.arange(20) % 2)
    assert data.find("npz", Options(path)).sha256 != before


X, Y = pictures(8, 12, 10, 3), np.arange(8) % 2
FAULTS: list[tuple[dict[str, Any], str, str]] = [
    ({"x": X}, "no arrays to train on; it holds x", "save x_train and y_train"),
    ({"images": X / 255.0, "labels": Y}, "images is float64, not uint8", "np.uint8(np.rint(images * 255))"),
    ({"images": X.astype(np.int64), "labels": Y}, "images is int64, not uint8", "np.uint8(images)"),
    ({"images": X[0, 0], "labels": Y}, "images has the shape [10, 3]", "[n, height, width]"),
    (
        {"images": X.transpose(0, 3, 1, 2), "labels": Y},
        "images has 10 channels (its shape is [8, 3, 12, 10]), the recipe says 3",
        "the channels come last: save images.transpose(0, 2, 3, 1)",
    ),
    ({"images": X[..., :1], "labels": Y}, "images has 1 channels (its shape", "channels: 1"),
    ({"images": X[..., [0, 1, 2, 0]], "labels": Y}, "images has 4 channels (its shape", "channels: 4"),
    ({"images": X[..., :0], "labels": Y}, "images has the shape [8, 12, 10, 0]", "height, width, channels]"),
    ({"images": X, "labels": Y[:5]}, "images has 8 images, labels 5 labels", "one label for every image"),
    ({"images": X, "labels": Y - 1}, "a label is negative", "from 0"),
    ({"images": X, "labels": Y * 0}, "one class only", "two or more"),
    ({"images": X, "labels": Y + 0.5}, "labels is float64 [8]", "save integers from 0"),
    ({"images": X, "labels": np.eye(2, dtype=int)[Y]}, "labels is int64 [8, 2]", "labels.argmax(axis=1)"),
    ({"images": X, "labels": Y, "class_names": ["a"]}, "there are 1 class_names, and labels up to 1", "0"),
    ({"images": X, "labels": Y, "class_names": [1, 2]}, "class_names is not a list of names", "savez"),
    ({"images": X, "labels": np.array([{}] * 8)}, "labels cannot be read (Object arrays", "no Python objects"),
    ({"images": X[:4], "labels": Y[:4]}, "the class '0' has 2 pictures", "3 are the least"),
]  # fmt: skip


@pytest.mark.parametrize(("arrays", "what", "fix"), FAULTS, ids=[what for _, what, _ in FAULTS])
def test_each_fault_is_told_with_its_remedy(tmp_path: Path, arrays: dict, what: str, fix: str) -> None:
    path = save(tmp_path / "d.npz", **arrays)
    with pytest.raises(DataError) as fault:
        load(path)
    assert what in str(fault.value)
    assert fix in str(fault.value)
    assert str(path) in str(fault.value)


@pytest.mark.parametrize("content", [b"", b"x" * 100, b"PK\x03\x04 cut off"])
def test_what_is_no_npz_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "d.npz").write_bytes(content)
    with pytest.raises(DataError, match="not a readable"):
        load(tmp_path / "d.npz")


def test_a_single_array_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", X)
    with pytest.raises(DataError, match="not a readable"):
        load(tmp_path / "d.npy")
    with pytest.raises(DataError, match="there is no such") as fault:
        load(tmp_path / "none.npz")
    assert str(Path.cwd()) in str(fault.value)


def of_header(path: Path, shape: tuple[int, ...], **options: int) -> Path:
    """A file whose x_train says to have `shape`, with zeros packed behind it."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, said, content in (("x_train", shape, bytes(1000)), ("y_train", (4,), bytes(4))):
            header = io.BytesIO()
            about = {"descr": "|u1", "fortran_order": False, "shape": said}
            np.lib.format.write_array_header_1_0(header, about)
            archive.writestr(f"{name}.npy", header.getvalue() + content)
    return path


def test_an_array_that_unpacks_to_more_than_there_is_room_is_refused_by_its_header(tmp_path: Path) -> None:
    path = of_header(tmp_path / "bomb.npz", (10_000_000, 28, 28))
    read = npz.NpzFile(path)
    with pytest.raises(DataError, match=r"x_train cannot be read \(it unpacks to 7,840,000,000 bytes\)"):
        read._array("x_train")


def test_members_that_numpy_cannot_read_are_told(tmp_path: Path) -> None:
    path = save(tmp_path / "d.npz", images=pictures(8, 12, 10, 3), labels=np.arange(8) % 2)
    content = bytearray(path.read_bytes())
    for at in (8, content.index(b"PK\x01\x02") + 10):  # how it is packed: unknown to zipfile
        content[at : at + 2] = b"\x63\x00"
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read"):
        load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", b"no array at all")
        archive.writestr("labels", b"neither")
    with pytest.raises(DataError, match="cannot be read"):
        load(path)
