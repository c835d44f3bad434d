"""Where the bytes are: by stage, by file, by layer."""

from __future__ import annotations

from collections.abc import Mapping

from edgecnn.analysis.records import Analysis
from edgecnn.records import Report
from edgecnn.report.html.figures import Figure, color_of
from edgecnn.report.html.plots import bars as plots
from edgecnn.report.tables import NONE, Table
from edgecnn.units import format_share, format_size

# The kinds of bytes that have a colour of their own; all others are "the rest".
KINDS = {"weights": "series-1", "biases": "series-3", "quantization": "series-2", "the rest": "dense"}


def bytes_figures(report: Report, analysis: Analysis | None) -> tuple[Figure, ...]:
    figures = []
    if report.stages:
        rows = [
            plots.Bar(
                row.stage,
                (("weights", row.weight_bytes), ("the rest", row.file_bytes - row.weight_bytes)),
                f"{format_size(row.file_bytes)}, validation {format_share(row.validation_accuracy)}",
            )
            for row in report.stages
        ]
        colors = {"weights": KINDS["weights"], "the rest": KINDS["the rest"]}
        title = "Stage by stage"
        caption = (
            "The network after each stage, as the .tflite file that it would be. In the table: 'entropy' is"
            " what an ideal entropy coder would need for the weights and biases, one value at a time;"
            " 'zeros' are stored like any other number, so they saved nothing."
        )
        svg = plots.bars("stages", title, rows, colors, about="Bytes by stage:")
        figures.append(Figure(title, caption, svg))
    if analysis and analysis.files:
        rows = [plots.Bar(key, kinds(one.bytes_by_kind)) for key, one in analysis.files.items()]
        title = "File by file"
        caption = "What the bytes are for; 'quantization' is scales, zero points and what holds them."
        svg = plots.bars("kinds", title, rows, KINDS, about="Bytes by file:")
        figures.append(Figure(title, caption, svg))
        figures += layer_figures(analysis, {one.key: color_of(one) for one in report.artifacts})
    return tuple(figures)


def kinds(bytes_by_kind: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    """The bytes by the KINDS of the plot."""
    named = {kind: bytes_by_kind.get(kind, 0) for kind in KINDS if kind != "the rest"}
    return (*named.items(), ("the rest", sum(bytes_by_kind.values()) - sum(named.values())))


def layer_figures(analysis: Analysis, colors: Mapping[str, str]) -> list[Figure]:
    """Weight bytes by layer: of the dense network, and of the smallest file; `colors` by artifact key."""
    sizes = {key: sum(one.bytes_by_kind.values()) for key, one in analysis.files.items()}
    wanted = dict.fromkeys([max(sizes, key=sizes.__getitem__), min(sizes, key=sizes.__getitem__)])
    figures = []
    for number, key in enumerate(wanted):
        layers = analysis.files[key].layers
        total = sum(layer.weight_bytes for layer in layers) or 1
        rows = [
            plots.Bar(
                layer.layer,
                (("weights", layer.weight_bytes),),
                f"{format_size(layer.weight_bytes)}, {100 * layer.weight_bytes / total:.0f} %",
            )
            for layer in layers
        ]
        title = f"Weights by layer, {key}"
        caption = "Weights and biases of each layer, and their share of all."
        color = {"weights": colors[key]}
        svg = plots.bars(f"layers-{number}", title, rows, color, about="Weight bytes by layer:")
        figures.append(Figure(title, caption, svg))
    return figures


def layer_bytes_table(analysis: Analysis | None) -> Table:
    """Weight bytes by layer and file."""
    found = analysis.files if analysis else {}
    by_layer = {key: {one.layer: one for one in content.layers} for key, content in found.items()}
    names = dict.fromkeys(layer for content in by_layer.values() for layer in content)
    rows = tuple(
        (name, *(format_size(of[name].weight_bytes) if name in of else NONE for of in by_layer.values()))
        for name in names
    )
    return Table("Weight bytes by layer", ("layer", *found), rows, frozenset(range(1, len(found) + 1)))
