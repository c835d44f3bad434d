"""Pictures of one split, or of one fold, that are nearly the same as pictures of another: the accuracy then
flatters.

Tiny grey versions of all pictures are correlated with one another, one matrix product for all; the pixels of
the nearest few then decide. Saved again, resized or brightened pictures are found; cropped or mirrored ones
are not.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.data import Dataset
from edgecnn.data.notes import first

# Of tiny versions: what is less is not looked at.
MIN_TINY_CORRELATION = 0.95
# Of all pixels of both pictures: one that was saved again has more, another of the same thing less.
MIN_CORRELATION = 0.98
# The earlier pictures that are looked at for each later one, the nearest first.
LOOKED_AT = 5
# Of tiny versions: some seconds. Of more, only the first later pictures are compared.
MAX_COMPARISONS = 1_000_000_000
_SIDE = 8
_AT_ONCE = 256
_BYTES_AT_ONCE = 8 * 2**20
Pair = tuple[str, int, str, int]


def duplicate_notes(parts: Mapping[str, Dataset], names: Mapping[str, Sequence[str]]) -> list[str]:
    """One note where pictures of validation or test are nearly the same as earlier ones; `names` by split."""
    pairs = near_duplicates(parts)
    if not pairs:
        return []
    told = [f"{names[late][i]} is like {names[early][j]}" for late, i, early, j in pairs]
    n_judged = len(parts["validation"]) + len(parts["test"])
    return [
        (
            f"{len(told):,} of {n_judged:,} validation and test pictures are nearly the same as one of another "
            f"part: the accuracy flatters ({first(told)})"
        )
    ]


def near_duplicates(parts: Mapping[str, Dataset]) -> list[Pair]:
    """(split, row, earlier split, its row) of each validation or test picture that is nearly the same as one of
    train, or of validation.
    """
    tiny = {split: tiny_versions(part.images_nhwc) for split, part in parts.items()}
    found: dict[tuple[str, int], Pair] = {}
    for late, early in (("test", "train"), ("test", "validation"), ("validation", "train")):
        for i, j in _candidates(tiny[late], tiny[early]):
            if (late, i) not in found and _alike(parts[late].images_nhwc[i], parts[early].images_nhwc[j]):
                found[late, i] = (late, i, early, j)
    return list(found.values())


def alike_groups(images_nhwc: NDArray[Any]) -> NDArray[Any]:
    """The group of each picture, int64 [n]: pictures that are the same or nearly the same have one, also by way
    of others, as those of a film do. The number of a group is the row of one of its pictures.
    """
    first_of: dict[bytes, int] = {}
    contents = (hashlib.sha256(np.ascontiguousarray(image).data).digest() for image in images_nhwc)
    group_of = np.array([first_of.setdefault(one, row) for row, one in enumerate(contents)], np.int64)
    different = np.array(list(first_of.values()), np.int64)
    tiny = tiny_versions(images_nhwc[different])
    # Each is compared with those before it: half of a square.
    compared = min(len(different), math.isqrt(2 * MAX_COMPARISONS))
    for start in range(0, compared, _AT_ONCE):
        end = min(start + _AT_ONCE, compared)
        for place, likeness in enumerate(tiny[start:end] @ tiny[:end].T, start):
            near = np.flatnonzero(likeness[:place] >= MIN_TINY_CORRELATION)
            near = near[np.argsort(-likeness[near], kind="stable")]
            _join_alike(different[place], different[near], images_nhwc, group_of)
    return group_of


def _join_alike(row: int, near: NDArray[Any], images_nhwc: NDArray[Any], group_of: NDArray[Any]) -> None:
    """Takes the pictures `near` (rows, the nearest first) that are like `row` into its group; looks at
    LOOKED_AT of them, of each group one at a time.
    """
    for _ in range(LOOKED_AT):
        near = near[group_of[near] != group_of[row]]
        if not len(near):
            return
        nearest, near = near[0], near[1:]
        if _alike(images_nhwc[row], images_nhwc[nearest]):
            group_of[group_of == group_of[row]] = group_of[nearest]


def tiny_versions(images_nhwc: NDArray[Any]) -> NDArray[Any]:
    """Each picture as grey means of 8 x 8 cells, less their mean, of length 1: uint8 [n, height, width,
    channels] -> float32 [n, 64]. Of a picture of one colour: zeros.
    """
    if not len(images_nhwc):
        return np.empty((0, _SIDE**2), np.float32)
    at_once = max(1, _BYTES_AT_ONCE // images_nhwc[0].nbytes)
    starts = range(0, len(images_nhwc), at_once)
    cells = np.concatenate([_cells(images_nhwc[start : start + at_once]) for start in starts])
    cells -= cells.mean(axis=1, keepdims=True)
    length = np.linalg.norm(cells, axis=1, keepdims=True)
    result: NDArray[Any] = np.divide(cells, length, out=np.zeros_like(cells), where=length > 1e-3)
    return result


def _cells(images_nhwc: NDArray[Any]) -> NDArray[Any]:
    """float32 [n, 64]; of fewer than 8 pixels some cells repeat."""
    grey = images_nhwc.sum(axis=3, dtype=np.uint32)
    for axis in (1, 2):
        begins = np.arange(_SIDE) * grey.shape[axis] // _SIDE
        sizes = np.maximum(np.diff([*begins, grey.shape[axis]]), 1).astype(np.float32)
        sizes = sizes[:, np.newaxis] if axis == 1 else sizes
        grey = np.add.reduceat(grey, begins, axis=axis) / sizes
    result: NDArray[Any] = grey.reshape(len(grey), -1).astype(np.float32)
    return result


def _candidates(late: NDArray[Any], early: NDArray[Any]) -> list[tuple[int, int]]:
    """Rows of pictures that may be alike, the nearest first, within MAX_COMPARISONS."""
    if not len(early):
        return []
    compared = min(len(late), max(1, MAX_COMPARISONS // len(early)))
    few = min(LOOKED_AT, len(early))
    pairs: list[tuple[int, int]] = []
    for start in range(0, compared, _AT_ONCE):
        alike = late[start : min(start + _AT_ONCE, compared)] @ early.T
        nearest = np.argpartition(-alike, few - 1, axis=1)[:, :few]
        for row, columns in enumerate(nearest):
            columns = columns[np.argsort(-alike[row, columns], kind="stable")]
            pairs += [(start + row, int(j)) for j in columns if alike[row, j] >= MIN_TINY_CORRELATION]
    return pairs


def _alike(one: NDArray[Any], other: NDArray[Any]) -> bool:
    a, b = (image.astype(np.float32).ravel() for image in (one, other))
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b) >= MIN_CORRELATION * float(np.linalg.norm(a) * np.linalg.norm(b)) > 0
