"""Latency: every sample, what can be said against it, and the machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from edgecnn.records import Artifact, Measurement, Report
from edgecnn.report import tables
from edgecnn.report.html.figures import Figure, color_of, shown_name
from edgecnn.report.html.plots import latency as plots

ENVIRONMENT_WORDS = {
    "cpu_model": "CPU",
    "arch": "architecture",
    "n_cores": "cores",
    "governor": "clock governor",
    "clock_mhz": "clock, MHz",
    "memory_bytes": "memory",
    "board_model": "board",
    "os": "system",
    "load_1min": "load, 1 minute",
    "temperature_c": "temperature, Celsius",
}


def latency_figures(report: Report) -> tuple[Figure, ...]:
    """One figure for each target and number of threads."""
    runs = [
        (m.target, m.num_threads, artifact, m)
        for artifact in report.artifacts
        for m in artifact.measurements
        if m.samples_ms and m.latency_ms is not None
    ]
    figures = []
    for number, (target, threads) in enumerate(sorted({run[:2] for run in runs})):
        found = [(artifact, m) for where, count, artifact, m in runs if (where, count) == (target, threads)]
        emulated = ", emulated" if any(m.emulated for _, m in found) else ""
        title = f"{target}{emulated}, {threads} thread{'s' if threads > 1 else ''}"
        strips = [strip(artifact, m) for artifact, m in found]
        n_samples = sum(len(s.samples_ms) for s in strips)
        caption = f"All {n_samples:,} timed inferences, a dot each; upright line: the median."
        figures.append(Figure(title, caption, plots.latency(f"latency-{number}", f"Latency, {title}", strips)))
    return tuple(figures)


def strip(artifact: Artifact, measurement: Measurement, label: str = "") -> plots.Strip:
    latency = measurement.latency_ms
    assert latency is not None
    return plots.Strip(
        label or f"{shown_name(artifact)}, {measurement.runtime}",
        measurement.samples_ms,
        latency.median,
        latency.p90,
        color_of(artifact),
        bool(measurement.warnings),
    )


def doubts(report: Report) -> tuple[str, ...]:
    """Every doubt about a timing, with the runs that it is about."""
    about = (
        (f"{artifact.key} on {m.runtime}, {m.num_threads} threads", doubt.model_dump())
        for artifact in report.artifacts
        for m in artifact.measurements
        for doubt in m.warnings
    )
    return tuple(tables.doubt_lines(about))


def environment_rows(environment: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """What is known of the machine, in words; what it did not tell is left out."""
    for key, value in environment.items():
        if value is None or value == {} or key == "boot_id":
            continue
        yield ENVIRONMENT_WORDS.get(key, key.replace("_", " ")), _environment_value(key, value)


def _environment_value(key: str, value: Any) -> str:
    if key == "memory_bytes":
        return f"{value / 1e9:.1f} GB"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {version}" for name, version in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
