"""One picture that explains an answer: what the network saw, its guesses as bars, where it looked."""

from __future__ import annotations

import importlib.util
import unicodedata
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

# Latin, Greek, Cyrillic and more.
FONT, FONT_NAME = "DejaVuSans.ttf", "DejaVu Sans"
# In pixels of the file: sharp on screens with two pixels to the point.
MARGIN, GAP, PANEL = 48, 56, 480
BARS = 560
WIDTH = 2 * MARGIN + 2 * PANEL + BARS + 2 * GAP
HEADER, CAPTION = 132, 104
TITLE_SIZE, TEXT_SIZE, SMALL_SIZE = 36, 26, 22
TILE, TILE_GAP, MOST_TILES = 84, 10, 64
INK, DIM, RULE, PAPER = (24, 29, 39), (100, 109, 124), (222, 226, 233), (255, 255, 255)
BEST, OTHER, WARNING = (37, 99, 235), (160, 183, 226), (180, 83, 9)
# The colours of heat, from none to the most: dark violet over red to yellow, each lighter than the one before.
HEAT = np.array([(20, 11, 53), (101, 21, 110), (186, 54, 85), (243, 120, 25), (252, 200, 60), (252, 255, 164)])
# How much of the heat's colour lies over the picture where it is strongest.
STRONGEST_COVER = 0.75


@dataclass(frozen=True)
class Tiles:
    """A row of small pictures: filters or feature maps, each float32 [height, width] or [height, width, 3]."""

    title: str
    images: Sequence[NDArray[np.float32]]


@dataclass(frozen=True)
class Page:
    """What is drawn. `picture` is what the network saw; `heat` float [height, width] 0..1; `guesses` are those
    of `edgecnn predict`, the best first; probabilities are 0..1. `title` and `notes` are lines of text.
    """

    title: str
    picture: Image.Image
    heat: NDArray[np.float32]
    guesses: Sequence[Mapping[str, Any]]
    heat_title: str
    notes: Sequence[str]
    reject_below: float | None = None
    tiles: Sequence[Tiles] = ()


def draw(page: Page) -> Image.Image:
    """The page as an RGB image."""
    top = HEADER + PANEL + CAPTION
    height = top + sum(_tiles_height(one) for one in page.tiles) + MARGIN // 2
    canvas = Image.new("RGB", (WIDTH, height), PAPER)
    pen = ImageDraw.Draw(canvas)
    left, middle, right = MARGIN, MARGIN + PANEL + GAP, MARGIN + 2 * (PANEL + GAP)
    _text(pen, (MARGIN, 36), page.title, TITLE_SIZE, INK, WIDTH - 2 * MARGIN)
    for x, label, width in (
        (left, "What the network sees", PANEL),
        (middle, page.heat_title, PANEL),
        (right, f"Top {len(page.guesses)}", BARS),
    ):
        _text(pen, (x, HEADER - 40), label, TEXT_SIZE, DIM, width)
    picture = _in_panel(page.picture.convert("RGB"))
    canvas.paste(picture, _place(left, picture))
    canvas.paste(heat_over(picture, page.heat), _place(middle, picture))
    _scale(canvas, pen, (middle, HEADER + PANEL + 20))
    _bars(pen, (right, HEADER), page.guesses, page.reject_below)
    for line, note in enumerate(page.notes):
        _text(pen, (left, HEADER + PANEL + 20 + 32 * line), note, SMALL_SIZE, DIM, PANEL)
    for one in page.tiles:
        _tiles(canvas, pen, top, one)
        top += _tiles_height(one)
    return canvas


def heat_over(picture: Image.Image, heat: NDArray[np.float32]) -> Image.Image:
    """`picture` (RGB), paler, under the colours of `heat`, which cover more the stronger they are."""
    size = (picture.width, picture.height)
    strength = Image.fromarray(np.asarray(heat, np.float32)).resize(size, Image.Resampling.BILINEAR)
    values = np.clip(np.asarray(strength), 0, 1)[:, :, None]
    grey = np.asarray(picture.convert("L"), np.float32)[:, :, None]
    cover = STRONGEST_COVER * np.sqrt(values)
    mixed = grey * (1 - cover) + colours(values[:, :, 0]) * cover
    return Image.fromarray(np.rint(mixed).astype(np.uint8))


def colours(values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """The HEAT colour of each value in 0..1: [height, width] -> [height, width, 3]."""
    places = np.linspace(0, 1, len(HEAT))
    return np.stack([np.interp(values, places, HEAT[:, channel]) for channel in range(3)], axis=-1)


def share(probability: float) -> str:
    """ "99.6 %"."""
    return f"{100 * probability:.1f} %"


def _in_panel(picture: Image.Image) -> Image.Image:
    """As large as the panel allows. Pictures of a few pixels keep their pixels visible."""
    scale = PANEL / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.NEAREST if scale > 4 else Image.Resampling.BICUBIC)


def _place(left: int, picture: Image.Image) -> tuple[int, int]:
    return left + (PANEL - picture.width) // 2, HEADER + (PANEL - picture.height) // 2


def _scale(canvas: Image.Image, pen: ImageDraw.ImageDraw, at: tuple[int, int]) -> None:
    """What the colours mean."""
    x, y = at
    little, much = "little", "much"
    before = round(_font(SMALL_SIZE).getlength(little)) + 14
    after = round(_font(SMALL_SIZE).getlength(much)) + 14
    width = PANEL - before - after
    ramp = np.tile(np.linspace(0, 1, width), (18, 1))
    canvas.paste(Image.fromarray(np.rint(colours(ramp)).astype(np.uint8)), (x + before, y + 6))
    _text(pen, (x, y), little, SMALL_SIZE, DIM, before)
    _text(pen, (x + before + width + 14, y), much, SMALL_SIZE, DIM, after)


def _bars(
    pen: ImageDraw.ImageDraw,
    at: tuple[int, int],
    guesses: Sequence[Mapping[str, Any]],
    reject_below: float | None,
) -> None:
    """A bar for each guess, as long as it is probable; a line where "none of these" begins."""
    x, y = at
    step = min(96, PANEL // max(1, len(guesses)))
    rejected = reject_below is not None and guesses[0]["probability"] < reject_below
    thickness = max(6, step - 66)
    for place, guess in enumerate(guesses):
        top = y + place * step
        figure = share(guess["probability"])
        room = BARS - round(_font(TEXT_SIZE).getlength(figure)) - 16
        if step >= 44:
            _text(pen, (x, top), str(guess["class_name"]), TEXT_SIZE, INK, room)
            pen.text((x + BARS, top), figure, INK, _font(TEXT_SIZE), anchor="ra")
        pen.rectangle((x, top + 40, x + BARS, top + 40 + thickness), fill=RULE)
        length = round(BARS * guess["probability"])
        if length:
            color = BEST if place == 0 and not rejected else OTHER
            pen.rectangle((x, top + 40, x + length, top + 40 + thickness), fill=color)
        if reject_below is not None:
            limit = x + round(BARS * reject_below)
            pen.line((limit, top + 36, limit, top + 44 + thickness), fill=WARNING, width=3)
    if reject_below is not None:
        said = f"below {share(reject_below)} (line): none of these"
        _text(pen, (x, HEADER + PANEL + 20), said, SMALL_SIZE, WARNING, BARS)


def _tiles_height(tiles: Tiles) -> int:
    n_rows = -(-min(len(tiles.images), MOST_TILES) // _tiles_a_row())
    return 56 + n_rows * (TILE + TILE_GAP) + 24


def _tiles_a_row() -> int:
    return (WIDTH - 2 * MARGIN + TILE_GAP) // (TILE + TILE_GAP)


def _tiles(canvas: Image.Image, pen: ImageDraw.ImageDraw, top: int, tiles: Tiles) -> None:
    shown = tiles.images[:MOST_TILES]
    more = f", the first {MOST_TILES} of {len(tiles.images)}" if len(tiles.images) > len(shown) else ""
    _text(pen, (MARGIN, top + 12), tiles.title + more, TEXT_SIZE, DIM, WIDTH - 2 * MARGIN)
    for index, values in enumerate(shown):
        row, column = divmod(index, _tiles_a_row())
        x, y = MARGIN + column * (TILE + TILE_GAP), top + 56 + row * (TILE + TILE_GAP)
        tile = Image.fromarray(_as_pixels(values)).convert("RGB")
        canvas.paste(tile.resize((TILE, TILE), Image.Resampling.NEAREST), (x, y))


def _as_pixels(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The whole range of `values` as 0..255; one that is the same everywhere is mid-grey."""
    low, high = float(values.min()), float(values.max())
    if high == low:
        return np.full(values.shape, 128, np.uint8)
    result: NDArray[np.uint8] = np.rint(255 * (values - low) / (high - low)).astype(np.uint8)
    return result


def _text(
    pen: ImageDraw.ImageDraw, at: tuple[int, int], text: str, size: int, color: tuple[int, int, int], room: int
) -> None:
    """Writes `text`, cut to `room` pixels with dots at its end."""
    font = _font(size)
    line = _drawable(" ".join(text.split()), font)
    if font.getlength(line) > room:
        while line and font.getlength(line + "...") > room:
            line = line[:-1]
        line += "..."
    pen.text(at, line, color, font)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """One that has more than the letters of English, where there is one: the system's, or matplotlib's."""
    places = [FONT]
    if matplotlib := importlib.util.find_spec("matplotlib"):
        places.append(str(Path(matplotlib.origin or "").parent / "mpl-data" / "fonts" / "ttf" / FONT))
    for place in places:
        with suppress(OSError):
            return ImageFont.truetype(place, size)
    return ImageFont.load_default(size)


def _drawable(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """`text` in letters that the font has: Pillow's own has those of English, and boxes for others."""
    name = font.getname()[0] if isinstance(font, ImageFont.FreeTypeFont) else ""
    if name == FONT_NAME:
        return text
    return unicodedata.normalize("NFKD", text.replace("ß", "ss")).encode("ascii", "ignore").decode()
