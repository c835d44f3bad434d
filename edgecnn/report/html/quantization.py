"""What quantization changed, tensor by tensor."""

from __future__ import annotations

from edgecnn.analysis.records import QuantizationAnalysis
from edgecnn.report.html.figures import Figure
from edgecnn.report.html.plots import bars
from edgecnn.report.html.plots import quantization as plots
from edgecnn.report.tables import NONE, Table


def error_figures(error: QuantizationAnalysis) -> tuple[Figure, ...]:
    figures = []
    activations = [plots.ErrorRow(row.tensor, row.sqnr_db, row.own_sqnr_db) for row in error.activations]
    if activations:
        title = "Quantization error of activations"
        caption = "Each tensor of the quantized network against the float one's. 6 dB more: half the error."
        figures.append(Figure(title, caption, plots.quantization_error("error", title, activations)))
        held = [
            plots.RangeRow(row.tensor, row.low, row.high, row.float_low, row.float_high)
            for row in error.activations
        ]
        title = "Ranges of activations"
        caption = "Strong bars longer than the pale ones are clipped; much shorter ones waste integers."
        figures.append(Figure(title, caption, plots.ranges("ranges", title, held)))
    if error.weights:
        title = "Quantization error of weights"
        rows = [
            bars.Bar(row.layer, (("dB", row.sqnr_db or 0.0),), _decibels(row.sqnr_db)) for row in error.weights
        ]
        caption = "What rounding the weights to integers changed: signal to noise, longer is better."
        svg = bars.bars("weight-error", title, rows, {"dB": "series-2"}, _decibels, about="Signal to noise:")
        figures.append(Figure(title, caption, svg))
    return tuple(figures)


def _decibels(value: float | None) -> str:
    return NONE if value is None else f"{value:.1f} dB"


def activations_table(error: QuantizationAnalysis | None) -> Table:
    rows = tuple(
        (
            row.tensor,
            row.operator,
            _decibels(row.sqnr_db),
            _decibels(row.own_sqnr_db),
            f"{row.float_low:.4g} to {row.float_high:.4g}",
            f"{row.low:.4g} to {row.high:.4g}",
            f"{100 * row.clipped:.3g} %",
            f"{row.scale:.4g}",
            str(row.zero_point),
        )
        for row in (error.activations if error else ())
    )
    header = (
        "tensor", "made by", "SQNR", "own SQNR", "float values", "integers hold", "clipped", "scale", "zero",
    )  # fmt: skip
    return Table("Activations", header, rows, frozenset(range(2, 9)))


def weights_table(error: QuantizationAnalysis | None) -> Table:
    rows = tuple(
        (
            row.layer,
            " x ".join(map(str, row.shape)),
            row.granularity,
            _decibels(row.sqnr_db),
            f"{row.low:.4g} to {row.high:.4g}",
        )
        for row in (error.weights if error else ())
    )
    return Table("Weights", ("layer", "shape", "scales", "SQNR", "float values"), rows, frozenset({3, 4}))


def error_note(error: QuantizationAnalysis | None) -> str:
    if error is None:
        return ""
    said = (
        f"Both networks ran over {error.n_images:,} {error.split} images, on onnxruntime without optimizations."
        " SQNR is the ratio of signal to quantization noise."
    )
    if error.is_trained:
        said += " The quantized network was trained on: what that changed is in the figures, too."
    if error.n_unmatched:
        said += f" {error.n_unmatched} tensors have no counterpart in the float network and are left out."
    return said
