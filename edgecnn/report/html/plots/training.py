"""How training went, epoch by epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgecnn.report.html.plots.canvas import Canvas, mark, plot
from edgecnn.report.html.svg import COLOR
from edgecnn.report.letters import printable
from edgecnn.units import format_share

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEIGHT = 250


@dataclass(frozen=True)
class Run:
    """One run of training: accuracies and losses by epoch."""

    title: str
    losses: Sequence[float]
    train: Sequence[float]
    validation: Sequence[float]


@plot
def training_errors(runs: Sequence[Run]) -> tuple[Canvas, str]:
    """The share of images in the wrong class, run after run; on a log scale, so that the end is seen."""
    canvas = Canvas(HEIGHT)
    axes = canvas.axes
    for run, epochs in _numbered(runs):
        for values, color, style, said in (
            (run.train, "series-1", (0, (3, 2)), "training"),
            (run.validation, "series-2", "solid", "validation"),
        ):
            wrong = [100 * max(1 - value, 1e-5) for value in values]
            line = _curve(axes, epochs, wrong, color, style)
            canvas.tip(line, f"{run.title}, {said}: {format_share(values[-1])} right at its end")
    _epochs_axis(axes, runs, "in the wrong class, %")
    dashed = mark("training", "series-1", linestyle=(0, (3, 2)))
    canvas.legend([mark("validation", "series-2"), dashed])
    said = "; ".join(f"{run.title} ends at {format_share(run.validation[-1])}" for run in runs)
    return canvas, f"Training curves. Validation accuracy: {said}."


@plot
def training_losses(runs: Sequence[Run]) -> tuple[Canvas, str]:
    """The training loss by epoch, run after run, on a log scale."""
    canvas = Canvas(HEIGHT)
    axes = canvas.axes
    for run, epochs in _numbered(runs):
        line = _curve(axes, epochs, run.losses, "series-1", "solid")
        canvas.tip(line, f"{run.title}: loss {run.losses[0]:.3g} to {run.losses[-1]:.3g}")
    _epochs_axis(axes, runs, "training loss")
    said = "; ".join(f"{run.title} ends at {run.losses[-1]:.3g}" for run in runs)
    return canvas, f"Training loss: {said}."


def _numbered(runs: Sequence[Run]) -> Iterator[tuple[Run, list[int]]]:
    """Each run with its epochs, counted through all runs."""
    start = 1
    for run in runs:
        yield run, list(range(start, start + len(run.losses)))
        start += len(run.losses)


def _curve(axes: Axes, epochs: Sequence[int], values: Sequence[float], color: str, style: Any) -> Any:
    (line,) = axes.plot(
        epochs, values, color=COLOR[color], linestyle=style, linewidth=1.8, marker="o", markersize=3.5
    )
    return line


def _epochs_axis(axes: Axes, runs: Sequence[Run], label: str) -> None:
    axes.set_yscale("log")
    axes.set_ylabel(label)
    axes.set_xlabel("epoch")
    _plain_log(axes)
    last = 0
    for run, epochs in _numbered(runs):
        if epochs[0] > 1:
            axes.axvline(epochs[0] - 0.5, color=COLOR["muted"], linewidth=1, linestyle=(0, (2, 3)))
        axes.text(
            epochs[0] - 0.35, 1.02, printable(run.title).replace("prune ", "p "),
            transform=axes.get_xaxis_transform(), fontsize=10, color=COLOR["muted"],
        )  # fmt: skip
        last = epochs[-1]
    axes.set_xlim(0.5, last + 0.5)


def _plain_log(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="y", which="minor", length=0)
