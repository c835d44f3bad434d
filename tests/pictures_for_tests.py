"""Folders of pictures that tests draw: shapes in colours, whole and broken."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SHAPES = ("circle", "square", "triangle")
COLORS = {"circle": (220, 40, 40), "square": (40, 200, 60), "triangle": (50, 70, 230)}


def draw(shape: str, rng: np.random.Generator, size: tuple[int, int] = (48, 40)) -> Image.Image:
    """A shape in about its colour, somewhere on a ground of random grey."""
    ground, shade = int(rng.integers(100, 256)), rng.integers(-30, 30, 3)
    picture = Image.new("RGB", size, (ground, ground, ground))
    r = float(rng.uniform(0.25, 0.4)) * min(size)
    x, y = (float(rng.uniform(r, side - r)) for side in size)
    color = tuple(int(np.clip(c + s, 0, 255)) for c, s in zip(COLORS[shape], shade, strict=True))
    pen, box = ImageDraw.Draw(picture), (x - r, y - r, x + r, y + r)
    if shape == "circle":
        pen.ellipse(box, fill=color)
    elif shape == "square":
        pen.rectangle(box, fill=color)
    else:
        pen.polygon([(x, y - r), (x - r, y + r), (x + r, y + r)], fill=color)
    return picture


def draw_folder(
    root: Path, n_each: int, *, shapes: tuple[str, ...] = SHAPES, suffix: str = "png", seed: int = 0
) -> Path:
    """root/<shape>/<number>.<suffix>, `n_each` pictures of each shape."""
    rng = np.random.default_rng(seed)
    for shape in shapes:
        (root / shape).mkdir(parents=True, exist_ok=True)
        for number in range(n_each):
            draw(shape, rng).save(root / shape / f"{number:03}.{suffix}")
    return root


def truncated_jpeg(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (80, 80, 3)).astype(np.uint8)
    Image.fromarray(noise).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:2000])


def bomb(path: Path, side: int = 20_000) -> None:
    """A PNG of a few hundred bytes that says it has `side` x `side` pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1000))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
