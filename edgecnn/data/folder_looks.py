"""What the pictures of a folder look like, from a few of them: for a recipe that is made to fit."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image

from edgecnn.data.folder_layout import SUFFIXES, Layout
from edgecnn.errors import DataError

SAMPLE = 60
_GREY_MODES = ("1", "L", "LA", "I", "I;16", "I;16B", "F")


@dataclass(frozen=True)
class Looks:
    """Whether all pictures that were looked at are grey, and the median of their shorter sides in pixels."""

    grey: bool
    shorter_side: int


def look_at(layout: Layout) -> Looks:
    """The looks of up to SAMPLE pictures, spread over all of them; only their heads are read.

    Raises DataError where none can be read.
    """
    spread = np.unique(np.linspace(0, len(layout.pictures) - 1, SAMPLE).astype(int))
    seen = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, on pictures that a build refuses
        for row in spread:
            try:
                with Image.open(layout.root / layout.pictures[row].name) as picture:
                    seen.append((picture.mode, min(picture.size)))
            except Exception:  # a broken file makes Pillow raise nearly anything; a build names it  # noqa: BLE001, S112
                continue
    if not seen:
        raise DataError(
            f"none of {len(spread)} pictures can be read",
            where=str(layout.root),
            fix=f"use {', '.join(SUFFIXES)} files",
        )
    return Looks(
        grey=all(mode in _GREY_MODES for mode, _ in seen),
        shorter_side=int(np.median([side for _, side in seen])),
    )
