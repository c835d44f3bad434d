"""The difference of two files as one sentence: how much, because of what."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from edgecnn.inspection.words import KIND_LABELS, shape_text
from edgecnn.report.letters import printable
from edgecnn.units import format_size

if TYPE_CHECKING:
    from edgecnn.inspection.difference import Change, Difference, LayerDelta

# More causes than these are a list, and there is a table for it.
_MOST_CAUSES = 3
_LONGEST_NAME = 60

# A cause: the bytes that it adds (negative: takes away), and its words.
Cause = tuple[int, str]


def sentence(found: Difference) -> str:
    """What differs between two files and why, in plain words and without control characters."""
    return printable(_sentence(found))


def _sentence(found: Difference) -> str:
    if found.is_identical:
        return f"{found.name}: identical"
    head = f"{found.name} {_growth(found)}"
    if not found.is_same_format:
        formats = f"{found.old.format} before, {found.new.format} now"
        return f"{head}; the formats differ ({formats}), so layers are not compared"
    told = [*_causes(found), *_structure(found.layers), *_precision(found.layers)]
    if not told:
        told = [*_other_changes(found)]
    if not told:
        told = [_only_values(found)]
    return f"{head}: {'; '.join(told)}"


def _growth(found: Difference) -> str:
    delta, before = found.delta_bytes, found.old.size_bytes
    if not delta:
        return f"has the same size ({format_size(before)})"
    share = 100 * delta / before
    digits = 0 if abs(share) >= 1 else 1 if abs(share) >= 0.1 else 2
    verb = "grew" if delta > 0 else "shrank"
    return f"{verb} by {format_size(abs(delta))} ({share:+.{digits}f} %)"


def _only_values(found: Difference) -> str:
    if found.old.sha256 == found.new.sha256:
        return "the file is identical, the values of the data beside it are not compared"
    return "only values differ, those of weights, per-channel scales or options; layers and sizes are the same"


def _causes(found: Difference) -> list[str]:
    """What adds or takes away bytes, the most first, and how much is left to say."""
    causes = [*_layer_causes(found.layers)]
    causes += [
        (kind.delta_bytes, f"{KIND_LABELS.get(kind.kind, kind.kind)} {signed_size(kind.delta_bytes)}")
        for kind in found.overhead
    ]
    causes = sorted((cause for cause in causes if cause[0]), key=lambda cause: -abs(cause[0]))
    shown, rest = causes[:_MOST_CAUSES], causes[_MOST_CAUSES:]
    told = [words for _, words in shown]
    return [*told, f"the rest {signed_size(sum(delta for delta, _ in rest))}"] if rest else told


def _layer_causes(layers: Sequence[LayerDelta]) -> Iterable[Cause]:
    """Layers whose weights have the same other type and the same shape are one cause together."""
    retyped = {id(layer): key for key, group in _retyped(layers).items() for layer in group}
    together: defaultdict[Any, list[LayerDelta]] = defaultdict(list)
    for layer in layers:
        key = retyped.get(id(layer))
        if key is not None and _change(layer, "weights") is None:
            together[key].append(layer)
        else:
            yield layer.delta_bytes, _of_layer(layer)
    for (before, after), group in together.items():
        delta = sum(layer.delta_bytes for layer in group)
        if len(group) == 1:
            yield delta, _of_layer(group[0])
        else:
            words = f"the weights of {len(group)} layers are {after} instead of {before}"
            yield delta, f"{words} ({signed_size(delta)})"


def _retyped(layers: Sequence[LayerDelta]) -> dict[tuple[Any, Any], list[LayerDelta]]:
    groups: defaultdict[tuple[Any, Any], list[LayerDelta]] = defaultdict(list)
    for layer in layers:
        change = _change(layer, "weights_dtype")
        if change and change.old and change.new:
            groups[change.old, change.new].append(layer)
    return groups


def _of_layer(layer: LayerDelta) -> str:
    if layer.old_index is None or layer.new_index is None:
        shape = _change(layer, "weights")
        known = (shape.new or shape.old) if shape else None
        weights = f"{shape_text(known)}, " if known is not None else ""
        state = "new" if layer.old_index is None else "gone"
        return f"{label(layer)} is {state} ({weights}{signed_size(layer.delta_bytes)})"
    more = "more" if layer.delta_bytes > 0 else "less"
    why = [
        f"{show(change.new)} instead of {show(change.old)}"
        for what in ("weights", "weights_dtype", "bias_dtype")
        if (change := _change(layer, what)) and change.old is not None and change.new is not None
    ]
    because = f": {', '.join(why)}" if why else ""
    return f"{label(layer)} holds {format_size(abs(layer.delta_bytes))} {more}{because}"


def _structure(layers: Sequence[LayerDelta]) -> Iterable[str]:
    """Layers without weights that are in one of the files alone: the bytes do not tell of them."""
    bare = [layer for layer in layers if not layer.delta_bytes]
    new, gone = [one for one in bare if one.old_index is None], [one for one in bare if one.new_index is None]
    for state, group in (("new", new), ("gone", gone)):
        if group:
            yield f"{state} without weights: {_listed([label(layer) for layer in group])}"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_CAUSES
    return ", ".join(names[:_MOST_CAUSES]) + (f" and {more} more" if more > 0 else "")


def _precision(layers: Sequence[LayerDelta]) -> Iterable[str]:
    """Layers of both files whose weights have other scales: one, or one a channel."""
    groups: defaultdict[tuple[str, str], list[LayerDelta]] = defaultdict(list)
    for layer in layers:
        change = _change(layer, "granularity")
        if change and change.old and change.new:
            groups[change.old, change.new].append(layer)
    for (before, after), group in groups.items():
        of = f"{len(group)} layer{'s' if len(group) > 1 else ''}"
        yield f"the weights of {of} are quantized {after} instead of {before}"


def _other_changes(found: Difference) -> Iterable[str]:
    """What differs without any bytes: how many layers have other scales, versions, types and so on."""
    kinds: list[tuple[str, Callable[[str], bool]]] = [
        ("scales or zero points", lambda what: what.endswith(("_scale", "_zero_point"))),
        ("shapes", lambda what: what.endswith("_shape") or what == "weights"),
        ("types", lambda what: what.endswith("_dtype")),
        ("operator versions", lambda what: what == "version"),
        ("activations", lambda what: what == "activation"),
        ("names", lambda what: what == "name"),
    ]
    for words, concerns in kinds:
        n = sum(any(concerns(change.what) for change in layer.changes) for layer in found.layers)
        if n:
            yield f"{n} layer{'s have' if n > 1 else ' has'} other {words}"
    if found.changes:
        yield f"other {_listed([change.what.replace('_', ' ') for change in found.changes])} of the model"


def _change(layer: LayerDelta, what: str) -> Change | None:
    return next((change for change in layer.changes if change.what == what), None)


def label(layer: LayerDelta) -> str:
    """A layer as people find it: its name, else its place in the file that has it."""
    index = layer.old_index if layer.new_index is None else layer.new_index
    return f"{_short(layer.name or f'layer {index}')} ({_short(layer.operator)})"


def _short(name: str) -> str:
    """The end of a long name: exporters write the path of a module, which ends with what it is."""
    return name if len(name) <= _LONGEST_NAME else f"...{name[-_LONGEST_NAME:]}"


def show(value: Any) -> str:
    """A property as text: shapes as 6x5x5x1, scales with four digits, "none" where there is none."""
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return shape_text(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else printable(str(value))


def signed_size(n_bytes: int) -> str:
    """+0.2 kB, -17 B."""
    return f"{'-' if n_bytes < 0 else '+'}{format_size(abs(n_bytes))}"
