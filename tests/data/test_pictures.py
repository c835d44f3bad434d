"""A folder of pictures without labels: drawn by seed and contents, named faults."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgecnn import data
from edgecnn.data import Options, Source, pictures
from edgecnn.errors import DataError
from edgecnn.ondevice.manifest import Preprocessing

SMALL = Preprocessing(8, 8, 3, (0.5,) * 3, (0.2,) * 3)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twenty grey pictures, each of its own brightness; some in a folder below, one a copy of another."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = tmp_path / "pictures"
    (root / "below").mkdir(parents=True)
    for k in range(20):
        place = root / "below" if k % 3 == 0 else root
        Image.new("RGB", (12, 10), (10 * k, 10 * k, 10 * k)).save(place / f"{k:02d}.png")
    (root / "copy.png").write_bytes((root / "01.png").read_bytes())
    return root


def found(folder: Path, **options: object) -> Source:
    return data.find("pictures", Options(path=folder, **options))  # type: ignore[arg-type]


def brightness(part: data.Dataset) -> list[int]:
    return [int(image[0, 0, 0]) // 10 for image in part.images_nhwc]


def test_every_picture_is_in_one_part_and_has_no_label(folder: Path) -> None:
    splits = data.read(found(folder), SMALL)
    parts = (splits.train, splits.validation, splits.test)
    assert [len(part) for part in parts] == [14, 2, 4]
    assert sorted(k for part in parts for k in brightness(part)) == list(range(20)), "a copy counts once"
    assert not any(part.is_labelled for part in parts)
    assert splits.test.images_nhwc.shape == (4, 8, 8, 3)
    assert splits.test.class_names[:2] == ("class 0", "class 1") and len(splits.test.class_names) == 1000


def test_what_is_drawn_depends_on_seed_and_contents_not_on_names(folder: Path) -> None:
    before = data.read(found(folder), SMALL)
    (folder / "02.png").rename(folder / "renamed.png")
    after = data.read(found(folder), SMALL)
    assert brightness(before.test) == brightness(after.test)
    assert brightness(data.read(found(folder, seed=1), SMALL).test) != brightness(after.test)
    assert found(folder).sha256 != found(folder, seed=1).sha256


def test_the_float_network_can_give_the_labels(folder: Path) -> None:
    test = data.read(found(folder), SMALL).test
    labelled = test.labelled_by(np.array([3, 1, 2, 0]))
    assert labelled.is_labelled and labelled.labels.tolist() == [3, 1, 2, 0]
    assert labelled.labelled_by(np.zeros(4)).labels.tolist() == [3, 1, 2, 0], "labels that are there stay"


def test_classes_are_named_by_a_file(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("cat\ndog\n\nbird\n")
    assert found(folder, classes=tmp_path / "names.txt").class_names == ("cat", "dog", "bird")


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"cat\n", "the names of two classes or more"), (b"\xff\xfe\n", "cannot be read")],
)
def test_a_file_of_names_that_is_none_is_told(
    folder: Path, tmp_path: Path, content: bytes, expected: str
) -> None:
    (tmp_path / "names.txt").write_bytes(content)
    with pytest.raises(DataError, match=expected) as fault:
        found(folder, classes=tmp_path / "names.txt")
    assert str(tmp_path / "names.txt") in str(fault.value)


def test_a_broken_picture_is_named_and_left_out(folder: Path) -> None:
    (folder / "04.png").write_bytes(b"not a picture")
    splits = data.read(found(folder), SMALL)
    assert any("04.png" in note and "left out" in note for note in splits.notes)
    assert 4 not in [k for part in (splits.train, splits.validation, splits.test) for k in brightness(part)]


def test_no_folder_and_too_few_pictures_are_told(folder: Path) -> None:
    with pytest.raises(DataError, match="no such folder of pictures") as fault:
        found(folder / "nowhere")
    assert str(folder / "nowhere") in str(fault.value)
    for path in folder.rglob("1*.png"):
        path.unlink()
    for path in folder.rglob("0[0-3].png"):
        path.unlink()
    with pytest.raises(DataError, match="7 pictures are too few"):
        found(folder)


def test_shares_that_leave_nothing_to_calibrate_with_are_told(folder: Path) -> None:
    with pytest.raises(
        DataError, match=r"test_share 0\.9 and validation_share 0\.09 leave none of 20 pictures"
    ):
        data.read(found(folder, test_share=0.9, validation_share=0.09), SMALL)


def test_what_archives_leave_behind_is_not_seen_and_a_folder_is_no_picture(folder: Path) -> None:
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "30.png").write_bytes((folder / "01.png").read_bytes())
    (folder / "folder.png").mkdir()
    splits = data.read(found(folder), SMALL)
    assert sum(len(part) for part in (splits.train, splits.validation, splits.test)) == 20
    assert splits.notes == (pictures.NO_LABELS,)
