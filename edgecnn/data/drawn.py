"""Which picture is for what: the parts that a data set has itself, and those drawn from its training part."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.data import Options
from edgecnn.errors import DataError

SPLITS = ("train", "validation", "test")


def draw_splits(
    labels: NDArray[Any],
    contents: Sequence[str],
    class_names: Sequence[str],
    options: Options,
    *,
    given: Collection[str],
    where: str,
) -> dict[str, NDArray[Any]]:
    """Of the pictures to train on, with their `labels` and hashes of their `contents`: the rows that stay in
    train, in random order, and those drawn for validation and test where these are not `given`.

    Drawn are the shares of `options`, class by class, at least one picture. What is drawn depends on the seed
    and the contents alone: neither on names nor on the order of the files, and most pictures stay where they
    are when others are added. Raises DataError where a class has too few pictures.
    """
    order = _drawn_order(contents, options.seed)
    shares = {"test": options.test_share, "validation": options.validation_share}
    missing = {split: share for split, share in shares.items() if split not in given}
    chosen = dict.fromkeys(order, "train")
    of_class: dict[int, list[int]] = {label: [] for label in range(len(class_names))}
    for row in order:
        of_class[int(labels[row])].append(row)
    for label, class_name in enumerate(class_names):
        rows, n_pictures = iter(of_class[label]), len(of_class[label])
        for split, share in missing.items():
            for row in itertools.islice(rows, max(1, round(share * n_pictures))):
                chosen[row] = split
        if next(rows, None) is None:
            raise _too_few(class_name, n_pictures, missing, where)
    drawn = {split: sorted(row for row, found in chosen.items() if found == split) for split in missing}
    drawn["train"] = [row for row in order if chosen[row] == "train"]
    return {split: np.array(rows, np.int64) for split, rows in drawn.items()}


def _drawn_order(contents: Sequence[str], seed: int) -> list[int]:
    """All rows in a random order that `seed` and `contents` decide; equal contents lie side by side."""
    keys = [hashlib.sha256(f"{seed} {content}".encode()).digest() for content in contents]
    return sorted(range(len(keys)), key=lambda row: (keys[row], row))


def _too_few(class_name: str, n_pictures: int, missing: dict[str, float], where: str) -> DataError:
    if not n_pictures:
        return DataError(
            f"the class {class_name!r} has no pictures to train on",
            where=where,
            fix="put some into its sub-directory of train",
        )
    shares = " and ".join(f"{split}_share {share:g}" for split, share in missing.items())
    return DataError(
        f"the class {class_name!r} has {n_pictures} pictures: {shares} leave none to train on",
        where=where,
        fix=f"add pictures: {len(missing) + 1} are the least, 50 a start",
    )
