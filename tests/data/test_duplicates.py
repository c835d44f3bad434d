"""Near-duplicates across splits: found when saved again, not where pictures merely resemble one another."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from pictures_for_tests import SHAPES, draw, draw_folder
from PIL import Image

from edgecnn import data
from edgecnn.data import Dataset, Options, duplicates


def dataset(images: list[np.ndarray] | np.ndarray, split: str) -> Dataset:
    images_nhwc = np.array(images, np.uint8).reshape(len(images), *(np.shape(images[0]) if len(images) else ()))
    return Dataset(images_nhwc, np.zeros(len(images_nhwc), np.int64), ("a", "b"), split)


def shapes(n: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [np.asarray(draw(SHAPES[k % 3], rng, (64, 64))) for k in range(n)]


def saved_again(image: np.ndarray, quality: int = 75, brighter: float = 1.0) -> np.ndarray:
    """Enlarged, as a JPEG, and of the same size again."""
    stream = io.BytesIO()
    picture = Image.fromarray(image).point(lambda value: min(255, int(value * brighter)))
    picture.resize((90, 90)).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream).resize((64, 64)))


def test_pictures_saved_again_are_found_across_splits() -> None:
    train, validation, test = shapes(60, 0), shapes(10, 1), shapes(10, 2)
    test[3] = saved_again(train[7])
    test[5] = saved_again(validation[2], brighter=1.05)
    validation[9] = train[0].copy()
    found = duplicates.near_duplicates(
        {"train": dataset(train, "train"), "validation": dataset(validation, "validation"),
         "test": dataset(test, "test")}
    )  # fmt: skip
    assert sorted(found) == [
        ("test", 3, "train", 7), ("test", 5, "validation", 2), ("validation", 9, "train", 0)
    ]  # fmt: skip


def test_what_is_alike_is_one_group_by_way_of_others_too() -> None:
    images = shapes(40, 0)
    images[20], images[21], images[22] = saved_again(images[3]), images[3], saved_again(images[3], 60)
    images[30] = saved_again(images[22])
    images[35] = images[36] = np.full((64, 64, 3), 9, np.uint8)
    group_of = duplicates.alike_groups(np.array(images))
    assert len(set(group_of[[3, 20, 21, 22, 30]])) == 1 and group_of[35] == group_of[36]
    assert len(np.unique(group_of)) == 40 - 5, "all others are alone"
    assert all(group_of[group] == group for group in group_of), "a group has the number of one of its own"


def test_a_film_is_one_group() -> None:
    """Each picture is like the next, and the last one is not like the first; as many as there are of a film."""
    start = np.asarray(draw("square", np.random.default_rng(0), (64, 64))).astype(float)
    end = np.random.default_rng(0).integers(0, 256, (64, 64, 3))
    film = [np.uint8(start + (end - start) * step / 59) for step in range(60)]
    order = np.random.default_rng(1).permutation(60)
    assert not duplicates._alike(film[0], film[-1])
    assert len(np.unique(duplicates.alike_groups(np.array(film)[order]))) == 1


def test_groups_cost_no_more_than_is_affordable(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.array([*shapes(20, 0), *map(saved_again, shapes(20, 0))])
    assert len(np.unique(duplicates.alike_groups(images))) == 20
    monkeypatch.setattr(duplicates, "MAX_COMPARISONS", 24**2 // 2)
    assert len(np.unique(duplicates.alike_groups(images))) == 40 - 4, "of 24 pictures, the last four are copies"
    assert len(duplicates.alike_groups(images[:0])) == 0


def test_different_drawings_of_the_same_kind_are_none() -> None:
    """The same shapes in the same colours at other places: no false alarm among 30,000 pairs."""
    parts = {"train": dataset(shapes(300, 0), "train"), "validation": dataset(shapes(50, 1), "validation"),
             "test": dataset(shapes(50, 2), "test")}  # fmt: skip
    assert duplicates.near_duplicates(parts) == []
    assert len(np.unique(duplicates.alike_groups(parts["train"].images_nhwc))) >= 299, "of 44,850 pairs one"


@pytest.mark.parametrize("size", [(8, 8), (9, 30), (3, 3), (1, 1), (28, 28)])
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_of_any_size_have_tiny_versions(size: tuple[int, int], channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (300, *size, channels)).astype(np.uint8)
    tiny = duplicates.tiny_versions(images)
    assert tiny.shape == (300, 64)
    lengths = np.linalg.norm(tiny, axis=1)
    assert np.allclose(lengths, 1, atol=1e-5) if size != (1, 1) else np.all(lengths == 0)


def test_a_tiny_version_is_made_of_the_means_of_cells() -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 16, 24, 3)).astype(np.uint8)
    cells = image[0].astype(np.float32).sum(axis=2).reshape(8, 2, 8, 3).mean(axis=(1, 3)).ravel()
    cells -= cells.mean()
    np.testing.assert_allclose(duplicates.tiny_versions(image)[0], cells / np.linalg.norm(cells), atol=1e-5)


def test_more_comparisons_than_are_affordable_are_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    train = shapes(20, 0)
    parts = {"train": dataset(train, "train"), "validation": dataset([], "validation"),
             "test": dataset(train, "test")}  # fmt: skip
    assert len(duplicates.near_duplicates(parts)) == 20
    monkeypatch.setattr(duplicates, "MAX_COMPARISONS", 100)
    assert len(duplicates.near_duplicates(parts)) == 5


def test_pictures_of_one_colour_are_like_none() -> None:
    flat = np.full((20, 16, 16, 3), 250, np.uint8)
    parts = {
        "train": dataset(flat, "train"),
        "validation": dataset([], "validation"),
        "test": dataset(flat, "test"),
    }
    assert duplicates.near_duplicates(parts) == []


def test_the_note_names_the_pictures(tmp_path: Path, own_cache: Path) -> None:
    root = tmp_path / "pics"
    draw_folder(root / "train", 20)
    draw_folder(root / "test", 3, seed=1)
    original = root / "train" / "circle" / "003.png"
    Image.open(original).save(root / "test" / "circle" / "again.jpg", quality=70)
    (said,) = [s for s in data.load("folder", Options(root)).notes if "nearly the same" in s]
    assert said.startswith("1 of 16 validation and test pictures are nearly the same as one of another part: ")
    assert said.endswith("(test/circle/again.jpg is like train/circle/003.png)")
