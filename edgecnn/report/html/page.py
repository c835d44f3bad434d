"""What the page about one build shows, from its records: pure, but for the plots that it has drawn."""

from __future__ import annotations

import json
from dataclasses import dataclass

from edgecnn.records import Measurement, Report, Verdict
from edgecnn.report import model_card, tables
from edgecnn.report.build import Build
from edgecnn.report.html import accuracy, classes, quantization, search, sizes, timing, training
from edgecnn.report.html.cells import Grid, grid
from edgecnn.report.html.classes import Matrix, Picture
from edgecnn.report.html.figures import Figure
from edgecnn.report.remarks import shown_measurement
from edgecnn.report.tables import NONE, Table
from edgecnn.units import format_ms, format_points, format_share, format_size

LIMIT_WORDS = {
    "max_size_bytes": "size, at most",
    "max_accuracy_drop": "accuracy lost, at most",
    "min_accuracy": "accuracy, at least",
    "max_median_ms": "median latency, at most",
    "max_peak_rss_bytes": "peak memory, at most",
}
# Where the dense network's answers stand for labels.
UNLABELLED_WORDS = {
    "max_accuracy_drop": "other answers than the dense network's, at most",
    "min_accuracy": "the dense network's answers, at least",
}


@dataclass(frozen=True)
class Fact:
    """A figure that stands large: what it is, its value, and what it is to be compared with."""

    label: str
    value: str
    note: str


@dataclass(frozen=True)
class Limit:
    """A limit of the budget; `used` is the share of it that is used up, None where that says nothing."""

    artifact: str
    words: str
    allowed: str
    actual: str
    status: str
    used: float | None


@dataclass(frozen=True)
class Page:
    """Everything that the template shows."""

    name: str
    verdict: str
    opening: str
    facts: tuple[Fact, ...]
    limits: tuple[Limit, ...]
    remarks: tuple[str, ...]
    lacks: str
    summary: Grid
    tradeoff: Figure | None
    search: Figure | None
    trials: Grid
    latency: tuple[Figure, ...]
    doubts: tuple[str, ...]
    runtimes: Grid
    others: tuple[Grid, ...]
    bytes_figures: tuple[Figure, ...]
    ledger: Grid
    sizes: Grid
    layer_bytes: Grid
    error_figures: tuple[Figure, ...]
    activations: Grid
    weights: Grid
    error_note: str
    matrices: tuple[Matrix, ...]
    per_class: Grid
    disagreements: str
    pictures: tuple[Picture, ...]
    quantized: str
    is_labelled: bool
    training: tuple[Figure, ...]
    epochs: Grid
    environment: tuple[tuple[str, str], ...]
    tools: tuple[tuple[str, str], ...]
    recipe_title: str
    recipe_text: str
    hashes: Grid
    commands: tuple[str, ...]


def of(build: Build) -> Page:
    """The page about `build`."""
    report, analysis = build.report, build.analysis
    error = analysis.quantization if analysis else None
    found = analysis.disagreements if analysis else None
    return Page(
        name=build.name,
        verdict=build.verdict,
        opening=model_card.opening(report),
        facts=facts(report),
        limits=tuple(limit(one, is_labelled=report.is_labelled) for one in report.verdicts),
        remarks=tuple(tables.notes(report)),
        lacks=build.lacks,
        summary=grid(tables.summary(report)),
        tradeoff=accuracy.tradeoff(report),
        search=search.search_figure(report),
        trials=grid(tables.search(report)),
        latency=timing.latency_figures(report),
        doubts=timing.doubts(report),
        runtimes=grid(tables.runtimes(report)),
        others=tuple(map(grid, other_tables(report))),
        bytes_figures=sizes.bytes_figures(report, analysis),
        ledger=grid(tables.ledger(report)),
        sizes=grid(tables.sizes(report)),
        layer_bytes=grid(sizes.layer_bytes_table(analysis)),
        error_figures=quantization.error_figures(error) if error else (),
        activations=grid(quantization.activations_table(error)),
        weights=grid(quantization.weights_table(error)),
        error_note=quantization.error_note(error),
        matrices=classes.matrices(report),
        per_class=grid(tables.per_class(report)),
        disagreements=classes.disagreements_text(found, is_labelled=report.is_labelled),
        pictures=classes.pictures(found, classes.class_names(report), is_labelled=report.is_labelled),
        quantized=classes.quantized_name(found),
        is_labelled=report.is_labelled,
        training=training.training_figures(analysis) if analysis else (),
        epochs=grid(training.epochs_table(analysis)),
        environment=tuple(timing.environment_rows(report.environment)),
        tools=tuple(build.tool_versions.items()),
        recipe_title="recipe.yaml" if build.recipe_text else "The recipe, as the report has it",
        recipe_text=build.recipe_text or json.dumps(report.recipe, indent=2),
        hashes=grid(model_card.hashes(report)),
        commands=model_card.commands(),
    )


def other_tables(report: Report) -> list[Table]:
    """The tables of a report that the page has no place of its own for."""
    placed = (tables.verdicts, tables.runtimes, tables.per_class, tables.search, tables.ledger, tables.sizes)
    titles = {draw(report).title for draw in placed}
    return [table for table in tables.all_tables(report) if table.title not in titles]


def facts(report: Report) -> tuple[Fact, ...]:
    """The figures of the smallest file."""
    artifact = report.smallest
    if artifact is None:
        return ()
    dense = report.dense or artifact
    shown = shown_measurement(artifact)
    factor = dense.size_bytes / artifact.size_bytes
    against = f"{artifact.key}; dense float32: {format_size(dense.size_bytes)}"
    found = [Fact("size", format_size(artifact.size_bytes), against)]
    if factor > 1:
        found.append(Fact("smaller", f"{factor:.1f} times", "than the dense network"))
    if shown is not None:
        found += _accuracy_facts(report, shown)
    if shown is not None and shown.latency_ms is not None:
        where = "emulated" if shown.emulated else f"1 thread, {shown.runtime}"
        found.append(Fact("median latency", format_ms(shown.latency_ms.median), where))
    return tuple(found)


def _accuracy_facts(report: Report, shown: Measurement) -> list[Fact]:
    """Without labels: how often the file answers as the dense network, which is no accuracy."""
    low, high = (format_points(bound, signed=True) for bound in shown.accuracy_drop_interval)
    share, drop = format_share(shown.accuracy), f"{format_points(shown.accuracy_drop)} pt"
    if not report.is_labelled:
        about = f"the dense network's answer, on {shown.n_images:,} test images without labels"
        return [
            Fact("same answer", share, about),
            Fact("other answers", drop, f"95 % interval {low} to {high}"),
        ]
    return [
        Fact("accuracy", share, f"top-1 on {shown.n_images:,} test images"),
        Fact("lost", drop, f"95 % interval {low} to {high}"),
    ]


def limit(verdict: Verdict, *, is_labelled: bool = True) -> Limit:
    words = LIMIT_WORDS if is_labelled else LIMIT_WORDS | UNLABELLED_WORDS
    is_ceiling = verdict.metric.startswith("max_") and verdict.limit > 0 and verdict.actual is not None
    return Limit(
        artifact=verdict.artifact,
        words=words.get(verdict.metric, verdict.metric),
        allowed=tables.limit_text(verdict.metric, verdict.limit),
        actual=NONE if verdict.actual is None else tables.limit_text(verdict.metric, verdict.actual),
        status=verdict.status,
        used=max(0.0, (verdict.actual or 0.0) / verdict.limit) if is_ceiling else None,
    )
