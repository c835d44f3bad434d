"""Accuracy against size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgecnn.report.html.plots.canvas import SMALL, Canvas, log_axis, plot
from edgecnn.report.html.svg import COLOR
from edgecnn.report.letters import printable
from edgecnn.units import format_share, format_size

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Point:
    """A file in the plane of size and accuracy; `low`..`high` is the interval of its accuracy."""

    label: str
    size_bytes: int
    accuracy: float
    low: float
    high: float
    color: str
    is_tflite: bool


@plot
def accuracy_against_size(
    points: Sequence[Point],
    max_bytes: Sequence[float] = (),
    min_accuracy: Sequence[float] = (),
    label_points: bool = True,
    what: str = "Accuracy",
) -> tuple[Canvas, str]:
    """Circles are ONNX, squares TFLite; dashed lines are limits of the budget. `what` an accuracy is of."""
    canvas = Canvas(300)
    axes = canvas.axes
    axes.set_xscale("log")
    for point in points:
        color = COLOR[point.color]
        interval = [100 * point.low, 100 * point.high]
        axes.plot([point.size_bytes] * 2, interval, color=color, linewidth=1.5, alpha=0.6)
        (marker,) = axes.plot(
            [point.size_bytes], [100 * point.accuracy], color=color, markersize=9, linestyle="none",
            marker="s" if point.is_tflite else "o", markeredgecolor=COLOR["surface"], markeredgewidth=1.5,
        )  # fmt: skip
        canvas.tip(marker, f"{point.label}: {format_size(point.size_bytes)}, {format_share(point.accuracy)}")
    dashed: Any = {"color": COLOR["muted"], "linewidth": 1, "linestyle": (0, (4, 3))}
    for limit in max_bytes:
        axes.axvline(limit, **dashed)
    for floor in min_accuracy:
        axes.axhline(100 * floor, **dashed)
    if label_points:
        _label_points(axes, points)
    axes.margins(x=0.16, y=0.2)
    axes.set_xlabel("size of the file")
    axes.set_ylabel("test accuracy, %" if what == "Accuracy" else f"{what.lower()}, %")
    log_axis(axes, format_size)
    said = "; ".join(f"{p.label} {format_size(p.size_bytes)} {format_share(p.accuracy)}" for p in points)
    return canvas, f"{what} against size. {said}."


def _label_points(axes: Axes, points: Sequence[Point]) -> None:
    """One label for files that lie at one place, above or below its neighbours'."""
    places: list[list[Point]] = []
    for point in sorted(points, key=lambda p: p.size_bytes):
        near = places[-1] if places else []
        if near and point.size_bytes < 1.12 * near[0].size_bytes and point.color == near[0].color:
            near.append(point)
        else:
            places.append([point])
    for place in places:
        low = min(place, key=lambda p: p.low)
        axes.annotate(
            _common_label([p.label for p in place]), (low.size_bytes, 100 * low.low), xytext=(0, -6),
            textcoords="offset points", ha="center", va="top", fontsize=SMALL, color=COLOR["ink"],
        )  # fmt: skip


def _common_label(labels: Sequence[str]) -> str:
    """What files at one place share of their names: int8.onnx and int8.tflite are "int8"."""
    stems = {label.rpartition(".")[0] for label in labels}
    common = stems.pop() if len(labels) > 1 and len(stems) == 1 else None
    return "\n".join(map(printable, [common] if common else labels))
