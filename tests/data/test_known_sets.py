"""Fashion-MNIST and CIFAR-10: from a local folder where it is there, refused where the files were altered."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from edgecnn import data
from edgecnn.data import cifar10, fashion_mnist, places
from edgecnn.errors import DataError
from edgecnn.ondevice.manifest import Preprocessing

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def folder_with(names: list[str]) -> Path:
    """A data folder that holds the files `names`; the test is skipped where there is none."""
    found = places.first_with(names, places.search_folders((SHARED,)))
    if found is None:
        pytest.skip(f"{Path(names[0]).parent} is in no data folder (EDGECNN_DATA)")
    return found


def test_fashion_mnist_is_whole_and_split_without_overlap() -> None:
    folder = folder_with([f"{fashion_mnist.FOLDER}/{name}" for name in fashion_mnist.FILES])
    splits = data.load("fashion-mnist", folders=(folder,))
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [55_000, 5_000, 10_000]
    assert splits.train.images_nhwc.shape == (55_000, 28, 28, 1)
    # The first test pictures: an ankle boot, a pullover, two trousers.
    names = [splits.test.class_names[label] for label in splits.test.labels[:4]]
    assert names == ["Ankle boot", "Pullover", "Trouser", "Trouser"]


@pytest.mark.parametrize("name", ["fashion-mnist", "cifar10"])
def test_the_preprocessing_has_the_mean_and_std_of_the_training_files(name: str) -> None:
    module = {"fashion-mnist": fashion_mnist, "cifar10": cifar10}[name]
    folder = folder_with([f"{module.FOLDER}/{file}" for file in module.FILES])
    splits = data.load(name, folders=(folder,))
    pixels = np.concatenate([splits.train.images_nhwc, splits.validation.images_nhwc]) / np.float32(255)
    preprocessing = data.DATASETS[name].preprocessing
    assert preprocessing.mean == pytest.approx(pixels.mean(axis=(0, 1, 2), dtype=np.float64), abs=2e-4)
    assert preprocessing.std == pytest.approx(pixels.std(axis=(0, 1, 2), dtype=np.float64), abs=2e-4)


def test_cifar10_is_whole_in_colour_and_the_right_way_round() -> None:
    folder = folder_with([f"{cifar10.FOLDER}/{name}" for name in cifar10.FILES])
    splits = data.load("cifar10", folders=(folder,))
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [45_000, 5_000, 10_000]
    names = [splits.test.class_names[label] for label in splits.test.labels[:4]]
    assert names == ["cat", "ship", "ship", "airplane"]
    # The sky over the ships of the test set is blue above, and not red: channels and rows are in order.
    ships = splits.test.images_nhwc[splits.test.labels == 8]
    sky = ships[:, :4].mean(axis=(0, 1, 2))
    assert sky[2] > sky[0] + 5 and sky.sum() > ships[:, -4:].mean(axis=(0, 1, 2)).sum()


def records(n: int) -> bytes:
    """`n` records in CIFAR-10's layout: label k, a picture of which red is k, green 2 k, blue 3 k."""
    one = [bytes([k]) + bytes([k]) * 1024 + bytes([2 * k]) * 1024 + bytes([3 * k]) * 1024 for k in range(n)]
    return b"".join(one)


@pytest.fixture
def tiny_cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with files of ten records each, and the loader told their hashes."""
    import hashlib

    folder = tmp_path / cifar10.FOLDER
    folder.mkdir()
    for name in cifar10.FILES:
        (folder / name).write_bytes(records(10))
    digest = hashlib.sha256(records(10)).hexdigest()
    monkeypatch.setattr(cifar10, "FILES", dict.fromkeys(cifar10.FILES, digest))
    monkeypatch.setattr(cifar10, "N_VALIDATION", 10)
    return tmp_path


def test_a_record_becomes_a_picture_of_its_colours(tiny_cifar: Path) -> None:
    splits = data.load("cifar10", folders=(tiny_cifar,))
    assert len(splits.train) == 40 and len(splits.validation) == 10
    assert splits.test.images_nhwc.shape == (10, 32, 32, 3)
    assert splits.test.images_nhwc[7, 5, 9].tolist() == [7, 14, 21]
    assert splits.test.labels.tolist() == list(range(10))


def packed(tiny_cifar: Path) -> Path:
    """The data folder with the archive in place of the files; in front of them lies what nobody asked for."""
    with tarfile.open(tiny_cifar / cifar10.ARCHIVE, "w:gz") as archive:
        for name in ("readme.html", *cifar10.FILES):
            content = records(10) if name in cifar10.FILES else b"<html>"
            entry = tarfile.TarInfo(f"{cifar10.FOLDER}/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    shutil.rmtree(tiny_cifar / cifar10.FOLDER)
    return tiny_cifar


def test_the_archive_in_a_data_folder_is_unpacked_into_the_cache(
    tiny_cifar: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cifar10, "fetch", lambda *_, **__: pytest.fail("nothing is to be downloaded"))
    folder = packed(tiny_cifar)
    monkeypatch.setenv("EDGECNN_DATA", str(folder))
    splits = data.load("cifar10")
    assert splits.test.images_nhwc[7, 5, 9].tolist() == [7, 14, 21]
    assert {path.name for path in (own_cache / cifar10.FOLDER).iterdir()} == set(cifar10.FILES)
    assert not (folder / cifar10.FOLDER).exists(), "the data folder may be read-only"
    (folder / cifar10.ARCHIVE).unlink()
    assert len(data.load("cifar10").train) == 40, "unpacked once"


def test_an_archive_of_other_contents_is_refused(
    tiny_cifar: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = packed(tiny_cifar)
    wanted = {name: "0" * 64 if name == "test_batch.bin" else sha for name, sha in cifar10.FILES.items()}
    monkeypatch.setattr(cifar10, "FILES", wanted)
    with pytest.raises(DataError, match="the contents were altered: sha256 is") as fault:
        data.load("cifar10", folders=(folder,))
    assert f"{folder / cifar10.ARCHIVE}: {cifar10.FOLDER}/test_batch.bin" in str(fault.value)
    assert not (own_cache / cifar10.FOLDER / "test_batch.bin").exists()
    (folder / cifar10.ARCHIVE).write_bytes(b"\x1f\x8b cut off")
    with pytest.raises(DataError, match="the archive is damaged"):
        data.load("cifar10", folders=(folder,))


def test_pictures_come_at_the_size_that_is_asked_for(tiny_cifar: Path) -> None:
    wanted = Preprocessing(48, 40, 3, (0.0,) * 3, (1.0,) * 3)
    splits = data.load("cifar10", folders=(tiny_cifar,), preprocessing=wanted)
    assert splits.train.images_nhwc.shape == (40, 48, 40, 3)
    assert splits.test.images_nhwc[7, 40, 3].tolist() == [7, 14, 21]


def test_an_altered_file_is_named_with_both_hashes(tiny_cifar: Path) -> None:
    path = tiny_cifar / cifar10.FOLDER / "data_batch_3.bin"
    path.write_bytes(records(9))
    with pytest.raises(DataError, match="the contents were altered") as fault:
        data.load("cifar10", folders=(tiny_cifar,))
    assert str(path) in str(fault.value) and cifar10.FILES["data_batch_3.bin"] in str(fault.value)


def test_the_variable_names_folders_and_given_ones_come_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGECNN_DATA", os.pathsep.join(["/a", "/b"]))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folders = places.search_folders((Path("/given"),))
    assert folders == (Path("/given"), Path("/a"), Path("/b"), tmp_path / "edgecnn")
