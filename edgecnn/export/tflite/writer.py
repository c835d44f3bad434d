"""A TFLite model in memory -> the bytes of its file, as few as every stock runtime takes.

Everything that can be shared is written once: FlatBuffer tables and vectors are looked up by content before
they are written, and constants by their bytes. Internal tensors carry no name, operators no options that
equal the defaults, and small vectors fill the gaps that 16-byte alignment leaves between the constants.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.export.tflite.flatbuffer import BUFFER_ALIGNMENT, FieldValue, FlatWriter
from edgecnn.export.tflite.model import Model, Operator, Quantization, Tensor
from edgecnn.export.tflite.schema import (
    FILE_IDENTIFIER,
    NEEDS_OPTIONS,
    OPERATORS,
    OPTIONS,
    SCHEMA_VERSION,
    TENSOR_TYPES,
)
from edgecnn.export.tflite.versions import lowest_version


def write(
    model: Model,
    *,
    debug_names: bool = False,
    signature: bool = False,
    attachments: Mapping[str, bytes] | None = None,
) -> bytes:
    """The .tflite file of the model. With `debug_names`, internal tensors keep their ONNX names; `attachments`
    are buffers with a name, for whoever knows to look for them (the format calls them metadata).
    """
    plan = _plan(model, attachments or {})
    out = FlatWriter(sum(map(len, plan.constants)) + 4096)
    # Offsets point forward, so what is pointed at is written first: constants, then tables, the root at last.
    buffers = _write_buffers(out, list(plan.constants), _small_vectors(plan))
    subgraph = _write_subgraph(out, plan, debug_names=debug_names)
    entries = _write_attachments(out, plan, attachments or {})
    codes = out.offsets([_write_code(out, *code) for code in plan.code_index])
    root = out.table(
        10,
        (0, "uint32", SCHEMA_VERSION, 0),
        (1, "offset", codes, 0),
        (2, "offset", out.offsets([subgraph]), 0),
        (4, "offset", buffers, 0),
        (6, "offset", entries, 0),
        (7, "offset", _write_signature(out, plan) if signature else 0, 0),
    )
    return out.finish(root, FILE_IDENTIFIER)


@dataclass(frozen=True)
class _Plan:
    """What is written, and under which number: tensors by identity, constants by their bytes (buffer 0 is the
    empty one), operator codes by name and version.
    """

    model: Model
    tensors: list[Tensor]
    index: dict[int, int]
    constants: dict[bytes, int]
    code_index: dict[tuple[str, int], int]


def _plan(model: Model, attachments: Mapping[str, bytes]) -> _Plan:
    tensors = model.tensors()
    contents = [_constant_bytes(tensor) for tensor in tensors if tensor.data is not None and tensor.data.size]
    constants = {content: i + 1 for i, content in enumerate(dict.fromkeys([*contents, *attachments.values()]))}
    codes = dict.fromkeys(_code_of(operator) for operator in model.operators)
    index = {id(tensor): i for i, tensor in enumerate(tensors)}
    return _Plan(model, tensors, index, constants, {code: i for i, code in enumerate(codes)})


def _code_of(operator: Operator) -> tuple[str, int]:
    return operator.code, lowest_version(operator)


def _write_subgraph(out: FlatWriter, plan: _Plan, *, debug_names: bool) -> int:
    model, index = plan.model, plan.index
    tensors = [
        _write_tensor(out, tensor, plan.constants, keep_name=debug_names or _is_public(tensor, model))
        for tensor in plan.tensors
    ]
    operators = [_write_operator(out, operator, plan) for operator in model.operators]
    return out.table(
        6,
        (0, "offset", out.offsets(tensors), 0),
        (1, "offset", out.numbers(_indices(model.inputs, index)), 0),
        (2, "offset", out.numbers(_indices(model.outputs, index)), 0),
        (3, "offset", out.offsets(operators), 0),
    )


def _write_attachments(out: FlatWriter, plan: _Plan, attachments: Mapping[str, bytes]) -> int:
    entries = [
        out.table(2, (0, "offset", out.string(name), 0), (1, "uint32", plan.constants[content], 0))
        for name, content in attachments.items()
    ]
    return out.offsets(entries) if entries else 0


def _is_public(tensor: Tensor, model: Model) -> bool:
    return any(tensor is public.memory for public in (*model.inputs, *model.outputs))


def _write_signature(out: FlatWriter, plan: _Plan) -> int:
    """The one signature, by which some callers name inputs and outputs."""

    def named(tensors: list[Tensor]) -> int:
        maps = [
            out.table(
                2,
                (0, "offset", out.string(tensor.memory.name or ""), 0),
                (1, "uint32", plan.index[id(tensor.memory)], 0),
            )
            for tensor in tensors
        ]
        return out.offsets(maps)

    fields: list[FieldValue] = [
        (0, "offset", named(plan.model.inputs), 0),
        (1, "offset", named(plan.model.outputs), 0),
        (2, "offset", out.string("serving_default"), 0),
    ]
    return out.offsets([out.table(5, *fields)])


def _write_buffers(out: FlatWriter, constants: list[bytes], small: list[NDArray[Any]]) -> int:
    """The vector of buffers; number 0 is the empty one.

    Greedy: of the constants left, the one that fits best where we stand; where none fits without padding,
    a small vector that has to be written anyway takes the place of the padding.
    """
    offsets: dict[int, int] = {}
    left = set(range(len(constants)))
    while left:
        best = min(left, key=lambda i: (out.padding_before(len(constants[i])), -len(constants[i]), i))
        padding = out.padding_before(len(constants[best]))
        fits = (i for i, vector in enumerate(small) if (vector.nbytes + 4) % BUFFER_ALIGNMENT == padding)
        filler = next(fits, None) if padding else None
        if filler is not None:
            out.numbers(small.pop(filler))
            continue
        offsets[best] = out.constant(np.frombuffer(constants[best], np.uint8))
        left.remove(best)
    tables = [out.table(3, (0, "offset", offsets[i], 0)) for i in range(len(constants))]
    return out.offsets([out.table(3), *tables])


def _small_vectors(plan: _Plan) -> list[NDArray[Any]]:
    """The distinct 4-byte vectors of the file besides constants: shapes, scales, operators' indices."""
    vectors = [np.asarray(tensor.shape, np.int32) for tensor in plan.tensors]
    vectors += [tensor.quantization.scale for tensor in plan.tensors if tensor.quantization is not None]
    for operator in plan.model.operators:
        vectors += [_indices(operator.inputs, plan.index), _indices(operator.outputs, plan.index)]
    return list({(vector.dtype.str, vector.tobytes()): vector for vector in vectors if vector.size}.values())


def _indices(tensors: Sequence[Tensor | None], index: dict[int, int]) -> NDArray[Any]:
    return np.array([-1 if tensor is None else index[id(tensor.memory)] for tensor in tensors], np.int32)


def _constant_bytes(tensor: Tensor) -> bytes:
    """The constant as it lies in the file; int4 is packed two a byte, low nibble first."""
    assert tensor.data is not None
    if tensor.dtype != "int4":
        return np.ascontiguousarray(tensor.data).tobytes()
    nibbles = tensor.data.reshape(-1).astype(np.int8).view(np.uint8) & 0x0F
    if nibbles.size % 2:
        nibbles = np.append(nibbles, np.uint8(0))
    return (nibbles[0::2] | (nibbles[1::2] << 4)).astype(np.uint8).tobytes()


def _write_tensor(out: FlatWriter, tensor: Tensor, constants: dict[bytes, int], *, keep_name: bool) -> int:
    is_constant = tensor.data is not None and tensor.data.size
    return out.table(
        11,
        (0, "offset", out.numbers(np.asarray(tensor.shape, np.int32)) if tensor.shape else 0, 0),
        (1, "int8", TENSOR_TYPES[tensor.dtype], 0),
        (2, "uint32", constants[_constant_bytes(tensor)] if is_constant else 0, 0),
        (3, "offset", out.string(tensor.name) if keep_name and tensor.name else 0, 0),
        (4, "offset", _write_quantization(out, tensor.quantization), 0),
    )


def _write_quantization(out: FlatWriter, quantization: Quantization | None) -> int:
    if quantization is None:
        return 0
    return out.table(
        7,
        (2, "offset", out.numbers(quantization.scale.astype(np.float32)), 0),
        (3, "offset", out.numbers(quantization.zero_point.astype(np.int64)), 0),
        (6, "int32", quantization.axis or 0, 0),
    )


def _write_code(out: FlatWriter, code: str, version: int) -> int:
    """Old readers look at the 8-bit field only, new ones take the larger of both: write both."""
    number = OPERATORS[code][0]
    return out.table(4, (0, "int8", min(number, 127), 0), (2, "int32", version, 1), (3, "int32", number, 0))


def _write_operator(out: FlatWriter, operator: Operator, plan: _Plan) -> int:
    table_number, options = _write_options(out, operator)
    return out.table(
        14,
        (0, "uint32", plan.code_index[_code_of(operator)], 0),
        (1, "offset", out.numbers(_indices(operator.inputs, plan.index)), 0),
        (2, "offset", out.numbers(_indices(operator.outputs, plan.index)), 0),
        (3, "uint8", table_number, 0),
        (4, "offset", options, 0),
    )


def _write_options(out: FlatWriter, operator: Operator) -> tuple[int, int]:
    """(number of the option table in the schema's union, its offset), or zeros where all is default."""
    table_name = OPERATORS[operator.code][1]
    if table_name is None:
        return 0, 0
    number, slots = OPTIONS[table_name]
    fields = [
        (slots[name][0], slots[name][1], value, slots[name][2]) for name, value in operator.options.items()
    ]
    if operator.code not in NEEDS_OPTIONS and all(value == default for _, _, value, default in fields):
        return 0, 0
    return number, out.table(1 + max(slot for slot, _, _ in slots.values()), *fields)
