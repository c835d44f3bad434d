"""What the user should know of a data set before believing its figures."""

from __future__ import annotations

from collections.abc import Sequence, Sized

import numpy as np

from edgecnn.data import Splits

FEW_PICTURES = 1_000
# The largest class has so many times the training pictures of the smallest.
UNEVEN = 3
_NAMED = 3
_NAMED_FILES = 100


def on_size_and_balance(splits: Splits) -> tuple[str, ...]:
    """Notes on few pictures, uneven classes, and classes that a part has none of."""
    said = []
    if is_small(splits):
        n_test = len(splits.test)
        said.append(
            f"{n_pictures(splits):,} pictures are few: one of the {n_test} test pictures is "
            f"{100 / n_test:.1f} points of accuracy"
        )
    names = splits.train.class_names
    counts = np.bincount(splits.train.labels, minlength=len(names))
    most, least = int(counts.argmax()), int(counts.argmin())
    if counts[most] >= UNEVEN * counts[least]:
        said.append(
            f"the classes are uneven: {counts[most]:,} training pictures of {names[most]!r}, "
            f"{counts[least]:,} of {names[least]!r}; look at each class, not at the accuracy alone"
        )
    for part in (splits.validation, splits.test):
        without = [repr(name) for label, name in enumerate(names) if not np.any(part.labels == label)]
        if without:
            said.append(f"no {part.split} pictures of {count(without, 'class', 'classes')}: {first(without)}")
    return tuple(said)


def on_folds(n_pictures: int) -> str:
    """For who trains on few pictures and does not cross-validate."""
    return (
        f"{n_pictures:,} pictures, and the recipe has no folds: with folds: 5 in its data, five more trainings "
        "tell how much the accuracy hangs on which pictures were drawn"
    )


def is_small(splits: Splits) -> bool:
    return n_pictures(splits) < FEW_PICTURES


def n_pictures(splits: Splits) -> int:
    return sum(len(part) for part in (splits.train, splits.validation, splits.test))


def first(names: Sequence[str], n: int = _NAMED) -> str:
    """The first few of `names`, and how many more there are."""
    more = len(names) - n
    return ", ".join(names[:n]) + (f" and {more:,} more" if more > 0 else "")


def files(names: Sequence[str]) -> str:
    """Those of pictures that the user may want to mend or remove: as many as one can work through."""
    return first(names, _NAMED_FILES)


def count(things: Sized, one: str, many: str | None = None) -> str:
    """1 picture, 2 pictures."""
    return f"{len(things):,} {one if len(things) == 1 else many or one + 's'}"
