"""Where each file lies in the plane of size and accuracy."""

from __future__ import annotations

from edgecnn.records import Report
from edgecnn.report.html.figures import Figure, color_of, shown_name
from edgecnn.report.html.plots import accuracy as plots
from edgecnn.report.remarks import shown_measurement


def points(report: Report) -> list[plots.Point]:
    """The interval of an accuracy is that of its drop, paired with the dense network's answers."""
    dense = shown_measurement(report.dense) if report.dense else None
    found = []
    for artifact in report.artifacts:
        shown = shown_measurement(artifact)
        if shown is None:
            continue
        low = high = shown.accuracy
        if dense is not None and artifact.variant != "dense":
            high, low = (dense.accuracy - bound for bound in shown.accuracy_drop_interval)
        found.append(
            plots.Point(
                shown_name(artifact), artifact.size_bytes, shown.accuracy, low, high, color_of(artifact),
                artifact.format == "tflite",
            )
        )  # fmt: skip
    return found


def tradeoff(report: Report) -> Figure | None:
    found = points(report)
    if not found:
        return None
    dense = next((p.accuracy for p in found if p.color == "dense"), None)
    by_metric: dict[str, set[float]] = {}
    for verdict in report.verdicts:
        by_metric.setdefault(verdict.metric, set()).add(verdict.limit)
    floors = set(by_metric.get("min_accuracy", ()))
    if dense is not None:
        floors |= {dense - drop for drop in by_metric.get("max_accuracy_drop", ())}
    title = f"{what(report)} against size"
    caption = (
        "Circles: ONNX, squares: TFLite. Upright lines: the 95 % interval of the difference to the dense "
        "network, on the same images. Dashed: the limits of the budget."
    )
    if not report.is_labelled:
        caption += " The images have no labels: the dense network, which answers as itself, is no better known."
    limits = sorted(by_metric.get("max_size_bytes", ())), sorted(floors)
    svg = plots.accuracy_against_size("tradeoff", title, found, *limits, what=what(report))
    return Figure(title, caption, svg)


def what(report: Report) -> str:
    """What stands for accuracy."""
    return "Accuracy" if report.is_labelled else "Same answer as the dense network"
