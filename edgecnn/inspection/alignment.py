"""Which layer of one file is which layer of another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest

from edgecnn.inspection.ledger import Layer

# A layer of the old file and the same one of the new file; None where it is gone or new.
Pair = tuple[Layer | None, Layer | None]

# Two layers of one operator may be the same layer; what else they share tells how likely that is. Shapes say
# more than names: exporters number the names, so that one layer more shifts all that follow.
_SAME_OPERATOR, _SAME_WEIGHT_SHAPE, _SAME_OUTPUT, _SAME_NAME = 4, 3, 2, 1

# The table of the alignment has a cell for each two layers; this bounds time and memory on hostile files.
# It is what differs between two networks of 600 layers.
_MOST_CELLS = 400_000


def align(old: Sequence[Layer], new: Sequence[Layer]) -> list[Pair]:
    """The layers of both files in order, paired so that as much as possible is the same.

    A longest common subsequence whose matches have weights: a layer that was put in between is one new layer,
    and all others keep their partners. Layers of different operators are never paired.
    """
    n_first = _n_equal(zip(old, new, strict=False))
    old_rest, new_rest = old[n_first:], new[n_first:]
    n_last = _n_equal(zip(reversed(old_rest), reversed(new_rest), strict=False))
    old_middle, new_middle = old_rest[: len(old_rest) - n_last], new_rest[: len(new_rest) - n_last]
    is_small = len(old_middle) * len(new_middle) <= _MOST_CELLS
    middle = (_by_likeness if is_small else _by_position)(old_middle, new_middle)
    last = zip(old_rest[len(old_middle) :], new_rest[len(new_middle) :], strict=True)
    return [*zip(old[:n_first], new[:n_first], strict=True), *middle, *last]


def _n_equal(pairs: Iterable[tuple[Layer, Layer]]) -> int:
    """How many pairs at the start are alike in all that is weighed; no other pairing of them is better."""
    n = 0
    for one, other in pairs:
        if _traits(one) != _traits(other):
            break
        n += 1
    return n


def _traits(layer: Layer) -> tuple[object, ...]:
    shape = layer.weights.shape if layer.weights else None
    return (layer.subgraph, layer.domain, layer.operator), shape, layer.output_shapes, layer.name


def _likeness(one: tuple[object, ...], other: tuple[object, ...]) -> int:
    """How much speaks for two layers (as their traits) being the same one; 0 where they cannot be."""
    if one[0] != other[0]:
        return 0
    return (
        _SAME_OPERATOR
        + _SAME_WEIGHT_SHAPE * (one[1] == other[1])
        + _SAME_OUTPUT * (one[2] == other[2])
        + _SAME_NAME * (one[3] == other[3])
    )


def _by_likeness(old: Sequence[Layer], new: Sequence[Layer]) -> list[Pair]:
    old_traits, new_traits = [_traits(layer) for layer in old], [_traits(layer) for layer in new]
    # best[i][j] is the likeness that pairing old[i:] with new[j:] can reach.
    best = [[0] * (len(new) + 1) for _ in range(len(old) + 1)]
    for i in reversed(range(len(old))):
        row, below = best[i], best[i + 1]
        for j in reversed(range(len(new))):
            likeness = _likeness(old_traits[i], new_traits[j])
            paired = below[j + 1] + likeness if likeness else 0
            row[j] = max(paired, below[j], row[j + 1])
    pairs: list[Pair] = []
    i = j = 0
    while i < len(old) and j < len(new):
        likeness = _likeness(old_traits[i], new_traits[j])
        if likeness and best[i][j] == best[i + 1][j + 1] + likeness:
            pairs.append((old[i], new[j]))
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            pairs.append((old[i], None))
            i += 1
        else:
            pairs.append((None, new[j]))
            j += 1
    return [*pairs, *((layer, None) for layer in old[i:]), *((None, layer) for layer in new[j:])]


def _by_position(old: Sequence[Layer], new: Sequence[Layer]) -> list[Pair]:
    pairs: list[Pair] = []
    for one, other in zip_longest(old, new):
        if one is not None and other is not None and not _likeness(_traits(one), _traits(other)):
            pairs += [(one, None), (None, other)]
        else:
            pairs.append((one, other))
    return pairs
