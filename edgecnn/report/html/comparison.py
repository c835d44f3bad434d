"""What the page that compares several builds shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgecnn.report import model_card, tables
from edgecnn.report.build import Build
from edgecnn.report.html import accuracy, timing
from edgecnn.report.html.cells import Grid, grid
from edgecnn.report.html.figures import Figure
from edgecnn.report.html.plots import accuracy as accuracy_plots
from edgecnn.report.html.plots import latency as latency_plots
from edgecnn.report.remarks import shown_measurement
from edgecnn.report.tables import NONE, Table
from edgecnn.units import format_share, format_size

SERIES = tuple(f"series-{i}" for i in range(1, 7))
# What makes times of two builds comparable.
MACHINE = ("target", "cpu_model", "kernel", "python", "runtimes", "emulated")


@dataclass(frozen=True)
class Column:
    """One build, as it is called on the page."""

    name: str
    color: str
    verdict: str
    opening: str
    folder: str


@dataclass(frozen=True)
class Comparison:
    builds: tuple[Column, ...]
    warnings: tuple[str, ...]
    files: Grid
    tradeoff: Figure | None
    latency: Figure | None
    recipes: Grid
    stages: Grid
    lacks: tuple[str, ...]


def of(builds: Sequence[Build]) -> Comparison:
    named = list(zip(names(builds), builds, strict=True))
    return Comparison(
        builds=tuple(
            Column(name, color, build.verdict, model_card.opening(build.report), build.folder)
            for (name, build), color in zip(named, colors(builds), strict=True)
        ),
        warnings=tuple(warnings(builds)),
        files=grid(files_table(named)),
        tradeoff=tradeoff(named),
        latency=latency(named),
        recipes=grid(recipes_table(named)),
        stages=grid(stages_table(named)),
        lacks=tuple(f"{name}: {build.lacks}" for name, build in named if build.lacks),
    )


def names(builds: Sequence[Build]) -> list[str]:
    """The recipes' names; with the folder where two are the same."""
    counts = Counter(build.name for build in builds)
    return [build.name if counts[build.name] == 1 else f"{build.name} ({build.folder})" for build in builds]


def colors(builds: Sequence[Build]) -> list[str]:
    return [SERIES[i % len(SERIES)] for i in range(len(builds))]


Named = Sequence[tuple[str, Build]]


def warnings(builds: Sequence[Build]) -> Iterable[str]:
    """What makes the figures of these builds no fair comparison."""
    if len({str(build.report.recipe.get("data")) for build in builds}) > 1:
        yield "The builds use different data sets: their accuracies are of different test images."
    named = zip(names(builds), builds, strict=True)
    unlabelled = [name for name, build in named if not build.report.is_labelled]
    if unlabelled:
        yield (
            f"The pictures of {', '.join(unlabelled)} have no labels: what stands for accuracy there is how "
            "often a file answers as the dense network of its build."
        )
    machines = {str({key: build.report.environment.get(key) for key in MACHINE}) for build in builds}
    if len(machines) > 1:
        yield "The builds were measured on different machines or runtimes: their times do not compare."


def files_table(named: Named) -> Table:
    """Every file of every build; a line of the summary each."""
    rows = tuple(
        (name, *row) for name, build in named for row in tables.summary(build.report).rows
    )  # fmt: skip
    header = ("build", "artifact", "size", "accuracy", "drop [95 %], pt", "median/p90", "budget")
    return Table("All files", header, rows, frozenset(range(2, 6)))


def tradeoff(named: Named) -> Figure | None:
    """Every file of every build but the dense networks that are the same, or stand for their own labels."""
    found: list[accuracy_plots.Point] = []
    for (name, build), color in zip(named, colors([build for _, build in named]), strict=True):
        for point in accuracy.points(build.report):
            if point.color == "dense" and not build.report.is_labelled:
                continue
            if point.color == "dense":
                point = replace(point, label="dense")
            else:
                point = replace(point, label=f"{name}: {point.label}", color=color)
            if point not in found:
                found.append(point)
    if not found:
        return None
    is_labelled = any(build.report.is_labelled for _, build in named)
    what = accuracy.what(named[0][1].report) if not is_labelled else "Accuracy"
    title = f"{what} against size"
    caption = (
        "Circles: ONNX, squares: TFLite; the colour is the build's. Upright lines: the 95 % interval of the "
        "difference to the build's dense network, on the same images."
    )
    svg = accuracy_plots.accuracy_against_size("tradeoff", title, found, label_points=False, what=what)
    return Figure(title, caption, svg)


def latency(named: Named) -> Figure | None:
    """The smallest file of each build, on its preferred runtime with one thread."""
    strips, is_emulated = [], False
    for (name, build), color in zip(named, colors([build for _, build in named]), strict=True):
        artifact = build.report.smallest
        shown = shown_measurement(artifact) if artifact else None
        if artifact and shown and shown.samples_ms and shown.latency_ms:
            label = f"{name}, {shown.runtime}{', emulated' if shown.emulated else ''}"
            is_emulated |= shown.emulated
            strips.append(replace(timing.strip(artifact, shown, label), color=color))
    if not strips:
        return None
    title = "Latency of the smallest file"
    caption = "All timed inferences with one thread, a dot each; upright line: the median."
    if is_emulated:
        caption += " Emulated times are of no board, and compare with nothing."
    return Figure(title, caption, latency_plots.latency("latency", title, strips))


def recipes_table(named: Named) -> Table:
    """The keys in which the recipes differ."""
    flat = [dict(flattened(build.report.recipe)) for _, build in named]
    keys = dict.fromkeys(key for one in flat for key in one)
    rows = tuple(
        (key, *(one.get(key, NONE) for one in flat))
        for key in keys
        if len({one.get(key) for one in flat}) > 1 and key not in ("name", "sha256")
    )
    return Table("Differences of the recipes", ("key", *(name for name, _ in named)), rows, frozenset())


def flattened(value: Any, prefix: str = "") -> Iterable[tuple[str, str]]:
    """Nested values under dotted keys, as text; null, which stands for a default, is left out."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from flattened(inner, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, (list, tuple)) and value and all(isinstance(one, Mapping) for one in value):
        yield from _steps(value, prefix)
    elif value is not None:
        yield prefix, ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _steps(steps: Sequence[Mapping[str, Any]], prefix: str) -> Iterable[tuple[str, str]]:
    """A list of `{kind: settings}`: the kinds in order, then each one's settings under its kind, so that a step
    is compared with the same step of another recipe, wherever it stands there.
    """
    yield prefix, ", ".join(kind for step in steps for kind in step)
    seen: Counter[str] = Counter()
    for step in steps:
        for kind, settings in step.items():
            seen[kind] += 1
            yield from flattened(settings, kind if seen[kind] == 1 else f"{kind} {seen[kind]}")


def stages_table(named: Named) -> Table:
    rows = tuple(
        (name, row.stage, f"{row.n_params:,}", f"{row.n_macs:,}", format_size(row.file_bytes),
         format_share(row.validation_accuracy))
        for name, build in named
        for row in build.report.stages
    )  # fmt: skip
    header = ("build", "stage", "params", "MACs", ".tflite", "validation")
    return Table("Stage by stage", header, rows, frozenset(range(2, 6)))
