"""Accuracy against cost of the trials of a search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgecnn.report.html.plots.canvas import Canvas, log_axis, mark, plot
from edgecnn.report.html.svg import COLOR
from edgecnn.units import format_share


@dataclass(frozen=True)
class Trial:
    """A trial in the plane of cost and accuracy (0..1)."""

    label: str
    cost: float
    accuracy: float
    is_final: bool
    origin: str


@plot
def trials(
    points: Sequence[Trial], chosen: str, needed: float, axis: str, told: Callable[[float], str]
) -> tuple[Canvas, str]:
    """`chosen` is the label of the trial that the search gave; `needed` is what it had to reach. `told` says a
    cost with its unit.
    """
    canvas = Canvas(300)
    axes = canvas.axes
    axes.set_xscale("log")
    best = -1.0
    front = []
    for point in sorted(points, key=lambda one: (one.cost, -one.accuracy)):
        if point.accuracy > best:
            best = point.accuracy
            front.append(point)
    axes.step(
        [one.cost for one in front], [100 * one.accuracy for one in front],
        where="post", color=COLOR["series-2"], linewidth=1.5,
    )  # fmt: skip
    axes.axhline(100 * needed, color=COLOR["muted"], linewidth=1, linestyle=(0, (4, 3)))
    for point in points:
        is_chosen = point.is_final and point.label == chosen
        (marker,) = axes.plot(
            [point.cost], [100 * point.accuracy], linestyle="none",
            marker="*" if is_chosen else "o" if point.is_final else ".",
            markersize=14 if is_chosen else 9, color=COLOR["series-2" if point.is_final else "series-1"],
            markeredgecolor=COLOR["surface"], markeredgewidth=0.8,
        )  # fmt: skip
        canvas.tip(
            marker, f"{point.label} ({point.origin}): {told(point.cost)}, {format_share(point.accuracy)}"
        )
    # What was hopeless would press the rest into a line.
    low = min(needed, *(one.accuracy for one in front[len(front) // 3 :])) if front else needed
    axes.set_ylim(100 * low - 0.15, 100 * max(needed, best) + 0.1)
    axes.set_xlabel(axis)
    axes.set_ylabel("validation accuracy, %")
    log_axis(axes, told)
    canvas.legend([mark("short training", "series-1"), mark("whole training", "series-2")])
    said = "; ".join(f"{one.label} {told(one.cost)} {format_share(one.accuracy)}" for one in front)
    return canvas, f"Trials of the search. The front: {said}."
