"""Every sample of the latency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.report.html.plots.canvas import Canvas, plot, row_texts, short
from edgecnn.report.html.svg import COLOR
from edgecnn.units import format_ms

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Pixels of a row.
ROW = 46


@dataclass(frozen=True)
class Strip:
    """All latency samples of one run, in ms."""

    label: str
    samples_ms: Sequence[float]
    median_ms: float
    p90_ms: float
    color: str
    is_doubtful: bool = False


@plot
def latency(strips: Sequence[Strip]) -> tuple[Canvas, str]:
    """Every sample is a dot; where many lie they stand higher. The line is the median."""
    canvas = Canvas(len(strips) * ROW + 44)
    axes = canvas.axes
    axes.set_xscale("log")
    for row, strip in enumerate(strips):
        color = COLOR[strip.color]
        # Not add_patch: it would look for the limits of the axes in every dot; they are set below.
        axes.add_artist(_dots(np.asarray(strip.samples_ms), row, color))
        (median,) = axes.plot([strip.median_ms] * 2, [row - 0.08, row + 0.5], color=COLOR["ink"], linewidth=1.5)
        figures = f"median {format_ms(strip.median_ms)}, p90 {format_ms(strip.p90_ms)}"
        canvas.tip(median, f"{strip.label}: {figures}, {len(strip.samples_ms):,} samples")
        label = strip.label + (" (doubtful)" if strip.is_doubtful else "")
        row_texts(axes, row - 0.28, label, figures)
    _time_axis(axes, [float(t) for strip in strips for t in (min(strip.samples_ms), max(strip.samples_ms))])
    axes.set_ylim(len(strips) - 0.4, -0.6)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("one inference, batch 1")
    said = "; ".join(f"{s.label} median {format_ms(s.median_ms)}, p90 {format_ms(s.p90_ms)}" for s in strips)
    return canvas, f"Latency of every sample. {said}."


def _dots(samples: NDArray[Any], row: int, color: str) -> Any:
    """One path with a dot a sample, spread below `row` by how many samples lie near."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    logs = np.log(samples)
    counts, edges = np.histogram(logs, bins=max(10, min(120, len(samples) // 8)))
    density = np.interp(logs, (edges[:-1] + edges[1:]) / 2, np.sqrt(counts / counts.max()))
    # Multiples of the golden ratio fill 0..1 evenly, the same way in every run.
    spread = (np.arange(len(samples)) * 0.6180339887498949) % 1
    heights = row + 0.46 - 0.42 * density * spread
    vertices = np.repeat(np.column_stack([samples, heights]), 2, axis=0)
    codes = np.tile([Path.MOVETO, Path.LINETO], len(samples))
    return PathPatch(
        Path(vertices, codes), fill=False, edgecolor=color, linewidth=1.3, alpha=0.7, capstyle="round"
    )


def _time_axis(axes: Axes, extremes: Sequence[float]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = 0.93 * min(extremes), 1.07 * max(extremes)
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if high / low > 100 else (1.0, 2.0, 5.0)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda ms, _: short(format_ms(ms))))
