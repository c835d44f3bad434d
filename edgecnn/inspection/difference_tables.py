"""The difference of two files as people read it: the sentence, then tables; for the terminal and Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest

from edgecnn.inspection.difference import CHANGED, SAME, Change, Difference, LayerDelta
from edgecnn.inspection.difference_reason import label, show
from edgecnn.inspection.pairs import Alone, Comparison
from edgecnn.inspection.words import KIND_LABELS
from edgecnn.report import markdown
from edgecnn.report.letters import printable
from edgecnn.report.markdown import escaped
from edgecnn.report.tables import NONE, Table
from edgecnn.units import format_size

# With these the table is no wider than the other tables of a file.
_WIDEST_LAYER, _WIDEST_CHANGES = 28, 44


def lines_of_folders(comparison: Comparison) -> list[str]:
    """What is in one of the folders only."""
    return [_alone_line(alone, "is gone") for alone in comparison.gone] + [
        _alone_line(alone, "is new") for alone in comparison.added
    ]


def _alone_line(alone: Alone, what: str) -> str:
    return printable(f"{alone.name} {what} ({format_size(alone.size_bytes)})")


def render_markdown(comparison: Comparison) -> str:
    """Everything as Markdown; no text of a file can act in it."""
    parts = [f"# {escaped(comparison.old)} -> {escaped(comparison.new)}"]
    alone = lines_of_folders(comparison)
    if alone:
        parts += ["", *(f"- {escaped(line)}" for line in alone)]
    for model in comparison.models:
        parts += ["", f"**{escaped(model.reason)}**"]
        for table in all_tables(model):
            parts += ["", f"### {escaped(table.title)}", "", *markdown.table_rows(table)]
    return "\n".join(parts) + "\n"


def all_tables(found: Difference) -> list[Table]:
    """Totals, the layers that differ, where the bytes went; nothing for files that are identical."""
    if found.is_identical:
        return []
    return [totals(found), *layers(found), overhead(found)]


def totals(found: Difference) -> Table:
    old, new = found.old, found.new
    counts = [
        ("layers", old.totals.n_layers, new.totals.n_layers),
        ("params", old.totals.n_params, new.totals.n_params),
        ("MACs", old.totals.n_macs, new.totals.n_macs),
        ("bytes of weights", old.totals.weight_bytes, new.totals.weight_bytes),
        ("bytes", old.size_bytes, new.size_bytes),
    ]
    rows = [_row(name, before, after) for name, before, after in counts]
    rows += [(_words(change), show(change.old), show(change.new), "") for change in found.changes]
    return Table("Totals", ("what", "old", "new", "change"), tuple(rows), frozenset({1, 2, 3}))


def overhead(found: Difference) -> Table:
    """Where the bytes went: weights of layers and every other kind that differs. They add up to the files."""
    layers = found.layers
    rows = []
    if layers:
        sums = sum(layer.old_bytes for layer in layers), sum(layer.new_bytes for layer in layers)
        rows.append(_row("weights and biases of layers", *sums))
    rest = [kind for kind in found.overhead if not kind.delta_bytes]
    rows += [
        _row(KIND_LABELS.get(kind.kind, kind.kind), kind.old_bytes, kind.new_bytes)
        for kind in sorted(found.overhead, key=lambda kind: -abs(kind.delta_bytes))
        if kind.delta_bytes
    ]
    if rest:
        same = sum(kind.old_bytes for kind in rest)
        rows.append(_row("kinds that have as many bytes as before", same, same))
    rows.append(_row("the file", found.old.size_bytes, found.new.size_bytes))
    return Table("Where the bytes are", ("what", "old", "new", "change"), tuple(rows), frozenset({1, 2, 3}))


def layers(found: Difference) -> list[Table]:
    """One row for each layer that differs, with further rows for what does not fit beside it."""
    differing = [layer for layer in found.layers if layer.status != SAME]
    if not differing:
        return []
    rows: list[tuple[str, ...]] = []
    for layer in differing:
        rows.extend(zip_longest(*_cells(layer), fillvalue=""))
    title = f"{len(differing)} of {len(found.layers)} layers differ"
    header = ("old", "new", "layer", "status", "bytes", "change", "what")
    return [Table(title, header, tuple(rows), frozenset({0, 1, 4, 5}))]


def _cells(layer: LayerDelta) -> list[list[str]]:
    size = f"{layer.old_bytes:,} -> {layer.new_bytes:,}" if layer.delta_bytes else f"{layer.new_bytes:,}"
    return [
        [_index(layer, layer.old_index)],
        [_index(layer, layer.new_index)],
        _wrapped(printable(label(layer)), _WIDEST_LAYER),
        [layer.status],
        [size],
        [_signed(layer.delta_bytes)],
        _changes(layer),
    ]


def _index(layer: LayerDelta, index: int | None) -> str:
    if index is None:
        return NONE
    return f"{layer.subgraph}:{index}" if layer.subgraph else str(index)


def _changes(layer: LayerDelta) -> list[str]:
    """`input shape 1x20 -> 1x24`, as many on a line as fit."""
    lines: list[str] = []
    for part in _parts(layer):
        if lines and len(lines[-1]) + 2 + len(part) <= _WIDEST_CHANGES:
            lines[-1] += f", {part}"
        else:
            lines.append(part)
    return [piece for line in lines for piece in _wrapped(line, _WIDEST_CHANGES)] or [NONE]


def _parts(layer: LayerDelta) -> Iterator[str]:
    """What differs; a scale and its zero point as one. Of a layer that is in one file alone, what it has."""
    told = {change.what: change for change in layer.changes}
    for what, change in told.items():
        title = what.removesuffix("_zero_point")
        if title != what and f"{title}_scale" in told:
            continue
        zero = told.get(f"{what.removesuffix('_scale')}_zero_point") if what.endswith("_scale") else None
        words = _words(change) + (", zero" if zero else "")
        old, new = _with(change.old, zero and zero.old), _with(change.new, zero and zero.new)
        if layer.status == CHANGED:
            yield f"{words} {old} -> {new}"
        elif what != "name" and (change.old or change.new):
            yield f"{words} {new if change.old is None else old}"


def _with(value: object, zero_point: object) -> str:
    return show(value) if zero_point is None else f"{show(value)}, {show(zero_point)}"


def _words(change: Change) -> str:
    return change.what.replace("_", " ")


def _row(name: str, old: int, new: int) -> tuple[str, str, str, str]:
    return name, f"{old:,}", f"{new:,}", _signed(new - old)


def _signed(n: int) -> str:
    return f"{n:+,}" if n else NONE


def _wrapped(text: str, width: int) -> list[str]:
    return [text[i : i + width] for i in range(0, len(text), width)] or [NONE]
