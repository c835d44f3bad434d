"""The ledger as people read it: one line, the layers, and where the bytes are."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress, groupby, zip_longest
from pathlib import Path

from edgecnn.inspection.ledger import Inspection, Layer, Shape, TensorInfo
from edgecnn.inspection.words import KIND_LABELS, shape_text
from edgecnn.report.letters import printable, shortened
from edgecnn.report.tables import NONE, Table
from edgecnn.units import format_share, format_size

# Tables are no wider than this: what does not fit goes to further rows, or to a second table.
WIDTH = 118
_BETWEEN_COLUMNS = 2
_WIDEST_OPERATOR, _WIDEST_SHAPE, _WIDEST_NAME = 32, 18, 80
# Of a file that is made to do harm, what a person may want to see.
_MOST_LAYERS, _LONGEST_NAME = 5_000, 400

# A column: its header, whether it holds numbers, and for each layer its lines.
Column = tuple[str, bool, list[list[str]]]


def headline(inspection: Inspection) -> str:
    """What the file is, its size and cost, and what goes in and comes out."""
    totals = inspection.totals
    more = f" (and {format_size(inspection.external_bytes)} beside it)" if inspection.external_bytes else ""
    n_uncounted = totals.n_uncounted_layers
    at_least = "at least " if n_uncounted else ""
    uncounted = f" ({n_uncounted} layers cannot be counted)" if n_uncounted else ""
    parts = [
        f"{printable(Path(inspection.path).name)}: {_format_name(inspection)}",
        f"{format_size(inspection.size_bytes)}{more}",
        f"{totals.n_params:,} params",
        f"{at_least}{totals.n_macs:,} MACs{uncounted}",
    ]
    ends = [
        f"{word} {', '.join(map(_tensor, tensors)) or NONE}"
        for word, tensors in (("in", inspection.inputs), ("out", inspection.outputs))
    ]
    return "; ".join([", ".join(parts), *ends])


def all_tables(inspection: Inspection) -> list[Table]:
    """The layers, what did not fit beside them, and the bytes by kind."""
    return [*layers(inspection), sizes(inspection)]


def layers(inspection: Inspection) -> list[Table]:
    """One row a layer, with further rows for further inputs; a second table for what makes it too wide."""
    columns, optional = _columns(inspection), _optional_columns(inspection)
    kept = list(columns)
    for column in list(optional):
        if _width([*kept, column]) <= WIDTH:
            kept.append(column)
            optional.remove(column)
    tables = [_table(_layers_title(inspection), kept)]
    return [*tables, _continued([columns[0], *optional])] if optional else tables


def _continued(columns: Sequence[Column]) -> Table:
    """The columns that found no place, without the layers that have nothing to say in them."""
    number, *others = columns
    told = [any(cells[i] not in ([NONE], [""]) for _, _, cells in others) for i in range(len(number[2]))]
    return _table(
        "Layers, continued",
        [(name, is_number, list(compress(cells, told))) for name, is_number, cells in columns],
    )


def sizes(inspection: Inspection) -> Table:
    """Every byte of the file, by what it is for."""
    rows = [
        (KIND_LABELS.get(kind, kind), f"{n:,}", format_share(n / inspection.size_bytes))
        for kind, n in inspection.bytes_by_kind.items()
    ]
    rows.append(("the file", f"{inspection.size_bytes:,}", format_share(1.0)))
    return Table("Where the bytes are", ("what", "bytes", "share"), tuple(rows), frozenset({1, 2}))


def _format_name(inspection: Inspection) -> str:
    if inspection.format == "tflite":
        return "TFLite"
    versions = sorted(
        {layer.version for layer in inspection.layers if layer.domain == "ai.onnx" and layer.version}
    )
    return f"ONNX opset {versions[-1]}" if versions else "ONNX"


def _layers_title(inspection: Inspection) -> str:
    totals = inspection.totals
    title = f"{totals.n_layers} layers"
    if len(inspection.layers) > _MOST_LAYERS:
        title += f", the first {_MOST_LAYERS:,} shown (--json has all)"
    return f"{title}, {totals.n_folded} quantize and dequantize nodes within" if totals.n_folded else title


def _columns(inspection: Inspection) -> list[Column]:
    rows, totals = inspection.layers[:_MOST_LAYERS], inspection.totals
    several = any(layer.subgraph for layer in inspection.layers)
    total = ["total", NONE, NONE, f"{totals.n_params:,}", f"{totals.n_macs:,}", f"{totals.weight_bytes:,}", ""]
    columns: list[Column] = [
        ("#", True, [[_number(layer, several)] for layer in rows]),
        ("operator", False, [_wrapped(_operator(layer), _WIDEST_OPERATOR) for layer in rows]),
        ("input", False, [_shapes(layer.input_shapes) for layer in rows]),
        ("output", False, [_shapes(layer.output_shapes) for layer in rows]),
        ("params", True, [[_count(layer.n_params)] for layer in rows]),
        ("MACs", True, [["?" if layer.n_macs is None else _count(layer.n_macs)] for layer in rows]),
        ("bytes", True, [[_count(layer.weight_bytes)] for layer in rows]),
        ("weights", False, [[_weights(layer)] for layer in rows]),
    ]
    for (_, _, cells), text in zip(columns, ["", *total], strict=True):
        cells.append([text])
    return columns


def _optional_columns(inspection: Inspection) -> list[Column]:
    """Columns that are there where a layer has something to say in them."""
    rows = inspection.layers[:_MOST_LAYERS]
    public = {tensor.name for tensor in (*inspection.inputs, *inspection.outputs)}
    names = [NONE if layer.name in public else _name(layer.name) for layer in rows]
    columns: list[Column] = [
        ("bias", False, [[_bias(layer)] for layer in rows]),
        ("scale, zero", False, [[_output_quantization(layer)] for layer in rows]),
        ("name", False, [_wrapped(name, _WIDEST_NAME) for name in names]),
    ]
    told = [column for column in columns if any(cell != [NONE] for cell in column[2])]
    for _, _, cells in told:
        cells.append([""])
    return told


def _table(title: str, columns: Sequence[Column]) -> Table:
    rows: list[tuple[str, ...]] = []
    for cells in zip(*(column[2] for column in columns), strict=True):
        rows.extend(zip_longest(*cells, fillvalue=""))
    while rows and not any(rows[-1]):
        rows.pop()
    header = tuple(name for name, _, _ in columns)
    right = frozenset(i for i, (_, is_number, _) in enumerate(columns) if is_number)
    return Table(title, header, tuple(rows), right)


def _width(columns: Sequence[Column]) -> int:
    widths = [max(len(name), *(len(line) for cell in cells for line in cell)) for name, _, cells in columns]
    return sum(widths) + _BETWEEN_COLUMNS * (len(widths) - 1)


def _number(layer: Layer, several: bool) -> str:
    """The index; with the subgraph's where there are `several`."""
    return f"{layer.subgraph}:{layer.index}" if several else str(layer.index)


def _operator(layer: Layer) -> str:
    domain = f"{layer.domain}." if layer.domain not in (None, "ai.onnx") else ""
    version = f" v{layer.version}" if layer.domain is None else ""
    return _name(f"{domain}{layer.operator}{version}{f' +{layer.activation}' if layer.activation else ''}")


def _name(text: str | None) -> str:
    """A text of the file, as it can be shown."""
    return printable(shortened(text or NONE, _LONGEST_NAME))


def _shapes(shapes: Sequence[Shape | None]) -> list[str]:
    """One line a shape; equal ones that follow one another stand once."""
    lines = []
    for text, equal in groupby(map(shape_text, shapes)):
        n = len(list(equal))
        lines += _wrapped(text, _WIDEST_SHAPE) + ([f"({n} times)"] if n > 1 else [])
    return lines or [NONE]


def _tensor(tensor: TensorInfo) -> str:
    quantized = f" ({tensor.scale:.4g}, {tensor.zero_point})" if tensor.scale is not None else ""
    return f"{_name(tensor.name)} {shape_text(tensor.shape)} {tensor.dtype}{quantized}"


def _weights(layer: Layer) -> str:
    if layer.weights is None:
        return NONE
    granularity = (layer.weights.granularity or "").removeprefix("per-")
    return f"{layer.weights.dtype}/{granularity}" if granularity else layer.weights.dtype


def _bias(layer: Layer) -> str:
    return (layer.weights.bias_dtype if layer.weights else None) or NONE


def _output_quantization(layer: Layer) -> str:
    first = layer.outputs[0] if layer.outputs else None
    return f"{first.scale:.4g}, {first.zero_point}" if first and first.scale is not None else NONE


def _count(n: int) -> str:
    return f"{n:,}" if n else NONE


def _wrapped(text: str, width: int) -> list[str]:
    return [text[i : i + width] for i in range(0, len(text), width)] or [NONE]
