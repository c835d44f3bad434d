"""The page has its parts at their places, drawn to scale."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from edgecnn.explain import drawing
from edgecnn.explain.drawing import Page, Tiles, colours, draw, heat_over

GUESSES = [
    {"class_index": 0, "class_name": "cat", "probability": 0.75},
    {"class_index": 1, "class_name": "dog", "probability": 0.25},
]
LEFT = drawing.MARGIN
MIDDLE = LEFT + drawing.PANEL + drawing.GAP
RIGHT = MIDDLE + drawing.PANEL + drawing.GAP


def page(**changes: object) -> Page:
    heat = np.zeros((8, 8), np.float32)
    heat[1, 6] = 1
    values = {
        "title": "a.png: cat",
        "picture": Image.new("RGB", (8, 8), (0, 200, 0)),
        "heat": heat,
        "guesses": GUESSES,
        "heat_title": "What speaks for cat",
        "notes": ("one", "two"),
    }
    return Page(**{**values, **changes})


def pixels(one: Page) -> np.ndarray:
    return np.asarray(draw(one)).astype(int)


def is_color(area: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    return (area == color).all(axis=-1)


def test_the_picture_is_at_the_left() -> None:
    panel = pixels(page())[drawing.HEADER : drawing.HEADER + drawing.PANEL, LEFT : LEFT + drawing.PANEL]
    assert is_color(panel, (0, 200, 0)).all()


def test_the_heat_is_where_the_map_has_it() -> None:
    panel = pixels(page())[drawing.HEADER : drawing.HEADER + drawing.PANEL, MIDDLE : MIDDLE + drawing.PANEL]
    warmth = panel[:, :, 0] - panel[:, :, 2]
    y, x = np.unravel_index(warmth.argmax(), warmth.shape)
    cell = drawing.PANEL / 8
    assert abs(y - 1.5 * cell) < cell and abs(x - 6.5 * cell) < cell
    corner = panel[-40:, :40]
    assert (corner.max(axis=-1) - corner.min(axis=-1)).max() <= 1, "where there is no heat the picture is grey"


def test_a_bar_is_as_long_as_its_class_is_probable() -> None:
    area = pixels(page())[drawing.HEADER : drawing.HEADER + drawing.PANEL, RIGHT : RIGHT + drawing.BARS + 1]
    best = is_color(area, drawing.BEST).sum(axis=1).max()
    other = is_color(area, drawing.OTHER).sum(axis=1).max()
    assert best == pytest.approx(0.75 * drawing.BARS, abs=2)
    assert other == pytest.approx(0.25 * drawing.BARS, abs=2)


def test_what_is_rejected_has_no_best_bar_and_a_line_at_the_limit() -> None:
    area = pixels(page(reject_below=0.8))[drawing.HEADER : drawing.HEADER + drawing.PANEL, RIGHT:]
    assert not is_color(area, drawing.BEST).any()
    columns = np.flatnonzero(is_color(area, drawing.WARNING).any(axis=0))
    assert abs(columns.mean() - 0.8 * drawing.BARS) < 2
    assert is_color(pixels(page(reject_below=0.5)), drawing.BEST).any(), "above the limit it is an answer"


def test_layers_add_rows_and_only_then() -> None:
    tiles = Tiles("Filters", [np.eye(5, dtype=np.float32)] * 70)
    colour = replace(tiles, images=[np.zeros((3, 3, 3), np.float32)])
    plain, more = draw(page()), draw(page(tiles=(tiles, colour)))
    assert plain.width == more.width
    assert more.height > plain.height + 4 * drawing.TILE
    below = np.asarray(more)[plain.height :]
    assert (below == 0).all(axis=-1).any() and (below == 255).all(axis=-1).any()


def test_long_and_strange_names_stay_in_their_room() -> None:
    long = [{"class_index": 0, "class_name": "wide " * 60 + "\n\u202e\u4e2d", "probability": 1.0}]
    area = pixels(page(guesses=long, title="t" * 900, heat_title="h" * 300))
    assert is_color(area[:, -drawing.MARGIN + 2 :], drawing.PAPER).all()


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (900, 20)])
def test_pictures_of_any_shape_fit_the_panel(size: tuple[int, int]) -> None:
    drawn = draw(page(picture=Image.new("L", size, 77)))
    assert drawn.width == drawing.WIDTH


def test_each_colour_of_heat_is_lighter_than_the_one_before() -> None:
    found = colours(np.linspace(0, 1, 50)[None])[0]
    assert (np.diff(found @ [0.299, 0.587, 0.114]) > 0).all()
    nothing = heat_over(Image.new("RGB", (4, 4), (9, 9, 9)), np.zeros((4, 4), np.float32))
    assert np.asarray(nothing).max() == 9


@pytest.mark.parametrize("has_fonts", [True, False])
def test_letters_that_english_has_not_are_drawn(has_fonts: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a font that has them; where there is none by the letters that they come from, and never as boxes."""
    drawing._font.cache_clear()
    if not has_fonts:
        usual = drawing.ImageFont.truetype

        def none_by_name(font: object, *rest: object, **options: object) -> object:
            if isinstance(font, str):
                raise OSError("cannot open resource")
            return usual(font, *rest, **options)

        monkeypatch.setattr(drawing.ImageFont, "truetype", none_by_name)
    font = drawing._font(24)
    text = drawing._drawable("Größe é å", font)
    drawing._font.cache_clear()
    box = font.getmask("\U0001f5ff").getbbox()
    assert text == ("Größe é å" if drawing.FONT_NAME in font.getname() else "Grosse e a")
    assert all(font.getmask(letter).getbbox() != box for letter in text.replace(" ", ""))
