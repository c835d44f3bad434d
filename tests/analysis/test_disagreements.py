"""Which pictures are kept: those that only the float network gets right first, at most MOST_SHOWN, small."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from edgecnn.analysis.disagreements import LARGEST_SIDE, MOST_SHOWN, find, png_base64
from edgecnn.analysis.records import Disagreements


def logits(classes: list[int]) -> np.ndarray:
    return 3 * np.eye(3, dtype=np.float32)[classes]


def found(by_float: list[int], by_int8: list[int], labels: list[int]) -> Disagreements:
    pictures = np.zeros((len(labels), 4, 4, 1), np.uint8)
    pictures[:, 0, 0, 0] = np.arange(len(labels)) % 256
    return find(
        logits(by_float), logits(by_int8), np.array(labels), pictures, float_run="f on a", int8_run="i on b"
    )


def test_kinds_are_counted_and_ordered() -> None:
    result = found(by_float=[0, 1, 2, 0, 1], by_int8=[0, 2, 1, 1, 0], labels=[0, 2, 0, 0, 1])
    assert (result.n_only_float_right, result.n_only_int8_right, result.n_both_wrong) == (2, 1, 1)
    assert (result.n_different, result.n_images) == (4, 5)
    assert [one.image for one in result.shown] == [3, 4, 1, 2]
    first = result.shown[0]
    assert (first.label, first.float_class, first.int8_class) == (0, 0, 1)
    assert first.float_outputs == (3.0, 0.0, 0.0)


def test_no_more_are_kept_than_a_page_shows() -> None:
    result = found(by_float=[0] * 100, by_int8=[1] * 100, labels=[0] * 100)
    assert result.n_only_float_right == 100
    assert len(result.shown) == MOST_SHOWN


def test_networks_that_agree_have_no_pictures() -> None:
    assert found([0, 1], [0, 1], [0, 2]).shown == ()


@pytest.mark.parametrize(("channels", "shown"), [(2, 15), (4, (10, 20, 30))])
def test_other_channels_are_shown_as_a_person_can_see_them(channels: int, shown: object) -> None:
    pixels = np.broadcast_to(np.arange(10, 10 * channels + 10, 10, dtype=np.uint8), (6, 8, channels))
    picture = Image.open(io.BytesIO(base64.b64decode(png_base64(pixels))))
    assert picture.size == (8, 6) and picture.getpixel((0, 0)) == shown


@pytest.mark.parametrize("channels", [1, 3])
def test_large_pictures_are_shrunk(channels: int) -> None:
    pixels = np.full((200, 400, channels), 77, np.uint8)
    picture = Image.open(io.BytesIO(base64.b64decode(png_base64(pixels))))
    assert picture.size == (LARGEST_SIDE, LARGEST_SIDE // 2)
    assert picture.getpixel((0, 0)) == (77 if channels == 1 else (77, 77, 77))
