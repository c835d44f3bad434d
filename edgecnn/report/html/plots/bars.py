"""Horizontal bars made of parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from edgecnn.report.html.plots.canvas import Canvas, patch, plot, row_texts
from edgecnn.report.html.svg import COLOR
from edgecnn.units import format_size

# Pixels of a row.
ROW = 38


@dataclass(frozen=True)
class Bar:
    """One row: parts of a whole, each (its name, its amount)."""

    label: str
    parts: Sequence[tuple[str, float]]
    note: str = ""


@plot
def bars(
    rows: Sequence[Bar], colors: Mapping[str, str], form: Callable[[float], str] = format_size, about: str = ""
) -> tuple[Canvas, str]:
    """Parts end to end, in `colors` by part; the label stands above, the total, by `form`, at its right.

    `about` says in a word or two what is shown, for who does not see it.
    """
    canvas = Canvas(len(rows) * ROW + (30 if len(colors) > 1 else 12))
    axes = canvas.axes
    for row, bar in enumerate(rows):
        left = 0.0
        for part, amount in bar.parts:
            if amount <= 0:
                continue
            (drawn,) = axes.barh(row + 0.12, amount, 0.36, left=left, color=COLOR[colors[part]])
            canvas.tip(drawn, f"{bar.label}, {part}: {form(amount)}")
            left += amount
        row_texts(axes, row - 0.28, bar.label, bar.note or form(left))
    axes.set_ylim(len(rows) - 0.5, -0.6)
    axes.set_xlim(0, max((sum(amount for _, amount in bar.parts) for bar in rows), default=1) or 1)
    axes.axis("off")
    if len(colors) > 1:
        canvas.legend([patch(name, color) for name, color in colors.items()], n_columns=4)
    said = "; ".join(f"{bar.label} {form(sum(amount for _, amount in bar.parts))}" for bar in rows)
    return canvas, f"{about} {said}.".strip()
