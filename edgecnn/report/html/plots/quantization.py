"""Quantization error and ranges, tensor by tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgecnn.report.html.plots.canvas import Canvas, mark, patch, plot
from edgecnn.report.html.svg import COLOR
from edgecnn.report.letters import printable, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Pixels of a row.
ROW = 24
PALE = 0.28
# Of longer labels little would be left for the plot beside them.
LABEL_LETTERS = 28


@dataclass(frozen=True)
class ErrorRow:
    """Signal to noise of one tensor, in dB: of the whole network up to it, and of its own rounding alone."""

    label: str
    sqnr_db: float | None
    own_sqnr_db: float | None = None


@plot
def quantization_error(rows: Sequence[ErrorRow]) -> tuple[Canvas, str]:
    """Filled: with the errors of all layers before. Hollow: the tensor's own rounding alone."""
    canvas = Canvas(len(rows) * ROW + 66)
    axes = canvas.axes
    for y, row in enumerate(rows):
        known = [value for value in (row.sqnr_db, row.own_sqnr_db) if value is not None]
        if len(known) == 2:
            axes.plot(known, [y, y], color=COLOR["line"], linewidth=3, zorder=1)
        for value, face, said in (
            (row.own_sqnr_db, COLOR["surface"], "its own rounding alone"),
            (row.sqnr_db, COLOR["series-2"], "with the errors before"),
        ):
            if value is not None:
                (marker,) = axes.plot(
                    [value], [y], marker="o", markersize=8, color=COLOR["series-2"], linestyle="none",
                    markerfacecolor=face, markeredgewidth=1.5,
                )  # fmt: skip
                canvas.tip(marker, f"{row.label}, {said}: {value:.1f} dB")
    _rows_axis(axes, [row.label for row in rows])
    axes.set_xlabel("signal to quantization noise, dB (right is better)")
    axes.margins(x=0.08)
    shared: Any = {"marker": "o", "linestyle": "none", "markersize": 7}
    hollow = mark("its own rounding", "series-2", markerfacecolor=COLOR["surface"], **shared)
    canvas.legend([mark("with the errors of the layers before", "series-2", **shared), hollow])
    said = "; ".join(f"{row.label} {row.sqnr_db:.1f} dB" for row in rows if row.sqnr_db is not None)
    return canvas, f"Signal to quantization noise by tensor. {said}."


@dataclass(frozen=True)
class RangeRow:
    """What a tensor's integers can hold, and what the float network puts there."""

    label: str
    low: float
    high: float
    float_low: float
    float_high: float


@plot
def ranges(rows: Sequence[RangeRow]) -> tuple[Canvas, str]:
    """Wide and pale: what the integers can hold. Narrow and strong: what is put there."""
    canvas = Canvas(len(rows) * ROW + 66)
    axes = canvas.axes
    axes.axvline(0, color=COLOR["muted"], linewidth=1)
    for y, row in enumerate(rows):
        (held,) = axes.barh(y, row.high - row.low, 0.62, left=row.low, color=COLOR["series-1"], alpha=PALE)
        (put,) = axes.barh(y, row.float_high - row.float_low, 0.2, left=row.float_low, color=COLOR["series-1"])
        canvas.tip(held, f"{row.label}, integers hold {row.low:.3g} to {row.high:.3g}")
        canvas.tip(put, f"{row.label}, float values {row.float_low:.3g} to {row.float_high:.3g}")
    _rows_axis(axes, [row.label for row in rows])
    axes.set_xlabel("value of the activation")
    held_there = patch("what the integers hold", "series-1", alpha=PALE)
    canvas.legend([held_there, patch("what the float network puts there", "series-1")])
    said = "; ".join(f"{row.label} {row.float_low:.3g} to {row.float_high:.3g}" for row in rows)
    return canvas, f"Ranges of activations. {said}."


def _rows_axis(axes: Axes, labels: Sequence[str]) -> None:
    shown = [shortened(printable(label), LABEL_LETTERS) for label in labels]
    axes.set_yticks(range(len(labels)), shown, color=COLOR["ink"])
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
