"""What a search tried, and what it chose."""

from __future__ import annotations

from functools import partial

from edgecnn.records import Report
from edgecnn.report.html.figures import Figure
from edgecnn.report.html.plots import search as plots
from edgecnn.units import format_cost

AXES = {"size": "size of the .tflite file", "macs": "work of one inference", "latency": "median latency"}


def search_figure(report: Report) -> Figure | None:
    """Accuracy against cost of every trial, with the front of those that nothing beats."""
    found = report.search
    if found is None:
        return None
    points = [
        plots.Trial("-".join(map(str, one.widths)), one.cost, one.accuracy, one.extent == "final", one.origin)
        for one in found.trials
    ]
    chosen = "-".join(map(str, found.chosen))
    title = "What the search tried"
    told = partial(format_cost, found.minimize)
    svg = plots.trials("search", title, points, chosen, found.needed_accuracy, AXES[found.minimize], told)
    caption = (
        "Small: short trainings; large: whole ones; the star is what was chosen. The line joins those that no "
        "other beats; dashed: the accuracy that was needed. On validation images: the test images had no say."
    )
    return Figure(title, caption, svg)
