"""The tables of a .tflite file as Python values; the bytes of each are marked as they are read."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from edgecnn.inspection import tflite_schema as schema
from edgecnn.inspection.flatbuffer import FlatReader, Table
from edgecnn.inspection.ledger import QUANTIZATION, Shape, TensorInfo, checked_rank, corrupt, n_elements

HEADER, MODEL, NAMES, METADATA, SIGNATURES = "header", "model_tables", "names", "metadata", "signatures"
TENSORS, OPERATORS, BUFFERS = "tensor_tables", "operator_tables", "buffer_tables"


# What a row of the result costs besides its names and shapes, in items of FlatReader.expand.
_TENSOR_COST, _OPERATOR_COST = 8, 32


@dataclass(frozen=True, slots=True)
class Buffer:
    """Where the constant of a tensor lies: its first byte and how many there are."""

    start: int = 0
    n_bytes: int = 0


@dataclass(frozen=True)
class Quantization:
    """How many scales a tensor has, the one where it is one, and whether they belong to blocks."""

    n_scales: int
    scale: float | None
    zero_point: int | None
    is_blockwise: bool

    @property
    def granularity(self) -> str:
        if self.is_blockwise:
            return "blockwise"
        return "per-channel" if self.n_scales > 1 else "per-tensor"


@dataclass(frozen=True, eq=False, slots=True)
class Tensor:
    """`shape` is that of one run; `open_shape` has None for each axis that callers may resize."""

    name: str
    shape: Shape
    open_shape: Shape
    dtype: str
    buffer: int
    quantization: Quantization | None
    is_sparse: bool
    is_external: bool

    def info(self, *, is_open: bool = False) -> TensorInfo:
        known = self.quantization
        scale, zero_point = (known.scale, known.zero_point) if known else (None, None)
        shape = self.open_shape if is_open else self.shape
        return TensorInfo(self.name or None, shape, self.dtype, scale, zero_point)

    def stored_bytes(self) -> int | None:
        """Bytes that its elements take, None where that does not follow from the shape."""
        bits, count = schema.BITS.get(self.dtype), n_elements(self.shape)
        return None if bits is None or count is None or self.is_sparse else (count * bits + 7) // 8


@dataclass(frozen=True, eq=False, slots=True)
class Operator:
    """`inputs` are indices of tensors, -1 where an optional one is left out."""

    code: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    activation: str | None
    adjoint: tuple[bool, bool]


@dataclass(frozen=True, eq=False)
class SubGraph:
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(eq=False)
class Model:
    reader: FlatReader
    description: str = ""
    buffers: tuple[Buffer, ...] = ()
    metadata_buffers: frozenset[int] = field(default_factory=frozenset)
    subgraphs: tuple[SubGraph, ...] = ()


def read_model(data: bytes) -> Model:
    """All tables of the file. Raises UsageError where they contradict the bytes or one another."""
    reader = FlatReader(data)
    root = reader.table(reader.scalar(0, "I"), MODEL)
    reader.mark(0, 8, HEADER)
    model = Model(reader, root.text(3, METADATA))
    model.buffers = tuple(_buffer(table) for table in _expanded(root, 4, BUFFERS))
    entries = [(entry.text(0), entry.scalar(1, "I")) for entry in _expanded(root, 6, METADATA)]
    model.metadata_buffers = frozenset([*(index for _, index in entries), *root.numbers(5, "i", METADATA)])
    codes = [_operator_code(table) for table in _expanded(root, 1, OPERATORS)]
    model.subgraphs = tuple(_subgraph(table, codes) for table in _expanded(root, 2, MODEL))
    if not model.subgraphs:
        raise corrupt("it has no subgraph")
    for signature in _expanded(root, 7, SIGNATURES):
        _read_signature(signature)
    for group in _expanded(root, 8, MODEL):
        group.text(0)
    for external in _expanded(root, 9, MODEL):
        external.text(4)
    return model


def _expanded(table: Table, slot: int, kind: str) -> tuple[Table, ...]:
    """The tables of a vector, whose number is counted: several vectors may be one and the same."""
    tables = table.tables(slot, kind)
    table.reader.expand(len(tables))
    return tables


def _buffer(table: Table) -> Buffer:
    """The constant's bytes are left to be marked by whoever knows what they are for."""
    target, reader = table.target(0), table.reader
    if target:
        n_bytes = reader.scalar(target, "I")
        reader.mark(target, target + 4, BUFFERS)
        start = target + 4
    else:  # In files of more than 2 GB the constants follow after the tables.
        start, n_bytes = table.scalar(1, "Q"), table.scalar(2, "Q")
        start, n_bytes = (start, n_bytes) if start > 1 else (0, 0)
    if start + n_bytes > len(reader.data):
        raise corrupt("a constant lies past its end")
    return Buffer(start, n_bytes)


def _operator_code(table: Table) -> tuple[str, int]:
    """(name, version). Old writers set the 8-bit field only, new ones both."""
    number = max(table.scalar(0, "b"), table.scalar(3, "i"))
    custom = table.text(1)
    known = 0 <= number < len(schema.OPERATOR_NAMES)
    name = schema.OPERATOR_NAMES[number] if known else f"BUILTIN_{number}"
    return f"CUSTOM:{custom}" if name == "CUSTOM" else name, table.scalar(2, "i", 1)


def _subgraph(table: Table, codes: list[tuple[str, int]]) -> SubGraph:
    table.text(4, NAMES)
    tensors = tuple(_tensor(one) for one in _expanded(table, 0, TENSORS))
    operators = tuple(_operator(one, codes) for one in _expanded(table, 3, OPERATORS))
    subgraph = SubGraph(tensors, operators, table.numbers(1, "i"), table.numbers(2, "i"))
    table.reader.expand(len(subgraph.inputs) + len(subgraph.outputs))
    for operator in operators:
        table.reader.expand(len(operator.inputs) + len(operator.outputs))
        _check_indices((*operator.inputs, *operator.outputs), len(tensors), lowest=-1)
    _check_indices((*subgraph.inputs, *subgraph.outputs), len(tensors), lowest=0)
    return subgraph


def _check_indices(indices: Iterable[int], n_tensors: int, *, lowest: int) -> None:
    wrong = next((index for index in indices if not lowest <= index < n_tensors), None)
    if wrong is not None:
        raise corrupt(f"it names tensor {wrong} of {n_tensors}")


def _tensor(table: Table) -> Tensor:
    shape, signature = table.numbers(0, "i"), table.numbers(7, "i")
    checked_rank(shape, "a tensor")
    of_signature = signature if len(signature) == len(shape) else shape
    number = table.scalar(1, "b")
    known_type = 0 <= number < len(schema.TENSOR_TYPES)
    for variant in _expanded(table, 9, TENSORS):
        variant.vector(0, "i")
    name = table.text(3, NAMES)
    table.reader.expand(_TENSOR_COST + len(name) + len(shape))
    return Tensor(
        name=name,
        shape=tuple(None if size < 0 else size for size in shape),
        open_shape=tuple(None if size < 0 else size for size in of_signature),
        dtype=schema.TENSOR_TYPES[number] if known_type else f"type_{number}",
        buffer=table.scalar(2, "I"),
        quantization=_quantization(table.child(4, QUANTIZATION)),
        is_sparse=_read_sparsity(table.child(6)),
        is_external=bool(table.scalar(10, "I")),
    )


def _quantization(table: Table | None) -> Quantization | None:
    if table is None:
        return None
    for slot in (0, 1):  # the ranges that some converters leave behind
        table.vector(slot, "f")
    scales_start, n_scales = table.vector(2, "f")
    zero_points_start, n_zero_points = table.vector(3, "q")
    details_type, details = table.scalar(4, "B"), table.child(5)
    if details is not None and details_type == 1:
        details.vector(0, "B")
    elif details is not None and details_type in (2, 3):
        details.vector(3, "i")
    is_blockwise = details is not None and details_type == 2
    if n_scales != 1:
        return Quantization(n_scales, None, None, is_blockwise) if n_scales or is_blockwise else None
    scale = table.reader.scalar(scales_start, "f")
    if not math.isfinite(scale):
        raise corrupt("a scale is not a number")
    zero_point = table.reader.scalar(zero_points_start, "q") if n_zero_points else 0
    return Quantization(1, scale, zero_point, is_blockwise)


def _read_sparsity(table: Table | None) -> bool:
    if table is None:
        return False
    for slot in (0, 1):
        table.vector(slot, "i")
    for dimension in _expanded(table, 2, TENSORS):
        for slot in (2, 4):
            item = {1: "i", 2: "H", 3: "B"}.get(dimension.scalar(slot, "B"))
            vector = dimension.child(slot + 1)
            if item and vector is not None:
                vector.vector(0, item)
    return True


def _operator(table: Table, codes: list[tuple[str, int]]) -> Operator:
    index = table.scalar(0, "I")
    if index >= len(codes):
        raise corrupt(f"an operator has code number {index} of {len(codes)}")
    kind, options = table.scalar(3, "B"), table.child(4)
    _read_options(options, schema.OPTION_VECTORS.get(kind, {}))
    _read_options(table.child(12), schema.OPTION_2_VECTORS.get(table.scalar(11, "B"), {}))
    for slot, item in ((5, "B"), (7, "?"), (8, "i")):
        table.vector(slot, item)
    custom_start, custom_size = table.scalar(9, "Q"), table.scalar(10, "Q")
    if custom_start > 1:
        table.reader.mark(custom_start, custom_start + custom_size, OPERATORS)
    code, version = codes[index]
    table.reader.expand(_OPERATOR_COST + len(code))
    return Operator(
        code=code,
        version=version,
        inputs=table.numbers(1, "i"),
        outputs=table.numbers(2, "i"),
        activation=_activation(options, schema.ACTIVATION_SLOTS.get(kind)),
        adjoint=_adjoint(options) if code == "BATCH_MATMUL" else (False, False),
    )


def _read_options(table: Table | None, vectors: dict[int, str]) -> None:
    if table is not None:
        for slot, item in vectors.items():
            if item == "text":
                table.text(slot)
            else:
                table.vector(slot, item)


def _activation(options: Table | None, slot: int | None) -> str | None:
    if options is None or slot is None:
        return None
    number = options.scalar(slot, "b")
    known = 0 <= number < len(schema.FUSED_ACTIVATIONS)
    return schema.FUSED_ACTIVATIONS[number] if known else f"ACTIVATION_{number}"


def _adjoint(options: Table | None) -> tuple[bool, bool]:
    return (bool(options.scalar(0, "B")), bool(options.scalar(1, "B"))) if options else (False, False)


def _read_signature(table: Table) -> None:
    table.text(2)
    for slot in (0, 1):
        for entry in _expanded(table, slot, SIGNATURES):
            entry.text(0)
