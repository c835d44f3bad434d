"""A TFLite model in memory -> the bytes of its file, as few as every stock runtime takes.

Everything that can be shared is written once: FlatBuffer tables and vectors are looked up by content before
they are written, and constants by their bytes. Internal tensors carry no name, operators no options that
equal the defaults, and small vectors fill the gaps that 16-byte alignment leaves between the constants.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

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
    tensors = model.tensors()
    index = {id(tensor): i for i, tensor in enumerate(tensors)}
    constants: dict[bytes, int] = {}
    for tensor in tensors:
        if tensor.data is not None and tensor.data.size:
            constants.setdefault(_constant_bytes(tensor), len(constants) + 1)
    attached = attachments or {}
    for content in attached.values():
        constants.setdefault(content, len(constants) + 1)
    out = FlatWriter(sum(map(len, constants)) + 4096)
    buffers = _write_buffers(out, list(constants), _small_vectors(tensors, model, index))
    codes = {operator: (operator.code, lowest_version(operator)) for operator in model.operators}
    code_index = {code: i for i, code in enumerate(dict.fromkeys(codes.values()))}
    subgraph = _write_subgraph(
        out,
        model,
        [_write_tensor(out, t, constants, keep_name=debug_names or _is_public(t, model)) for t in tensors],
        [_write_operator(out, operator, code_index[code], index) for operator, code in codes.items()],
        index,
    )
    entries = [
        out.table(2, (0, "offset", out.string(name), 0), (1, "uint32", constants[content], 0))
        for name, content in attached.items()
    ]
    root = out.table(
        10,
        (0, "uint32", SCHEMA_VERSION, 0),
        (1, "offset", out.offsets([_write_code(out, *code) for code in code_index]), 0),
        (2, "offset", out.offsets([subgraph]), 0),
        (4, "offset", buffers, 0),
        (6, "offset", out.offsets(entries) if entries else 0, 0),
        (7, "offset", _write_signature(out, model, index) if signature else 0, 0),
    )
    return out.finish(root, FILE_IDENTIFIER)


def _write_subgraph(
    out: FlatWriter, model: Model, tensors: list[int], operators: list[int], index: dict[int, int]
) -> int:
    return out.table(
        6,
        (0, "offset", out.offsets(tensors), 0),
        (1, "offset", out.numbers(_indices(model.inputs, index)), 0),
        (2, "offset", out.numbers(_indices(model.outputs, index)), 0),
        (3, "offset", out.offsets(operators), 0),
    )


def _is_public(tensor: Tensor, model: Model) -> bool:
    return any(tensor is public.memory for public in (*model.inputs, *model.outputs))


def _write_signature(out: FlatWriter, model: Model, index: dict[int, int]) -> int:
    """The one signature, by which some callers name inputs and outputs."""

    def named(tensors: list[Tensor]) -> int:
        maps = [
            out.table(
                2,
                (0, "offset", out.string(tensor.memory.name or ""), 0),
                (1, "uint32", index[id(tensor.memory)], 0),
            )
            for tensor in tensors
        ]
        return out.offsets(maps)

    fields: list[FieldValue] = [
        (0, "offset", named(model.inputs), 0),
        (1, "offset", named(model.outputs), 0),
        (2, "offset", out.string("serving_default"), 0),
    ]
    return out.offsets([out.table(5, *fields)])


def _write_buffers(out: FlatWriter, constants: list[bytes], small: list[np.ndarray]) -> int:
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


def _small_vectors(tensors: list[Tensor], model: Model, index: dict[int, int]) -> list[np.ndarray]:
    """The distinct 4-byte vectors of the file besides constants: shapes, scales, operators' indices."""
    vectors = [np.asarray(tensor.shape, np.int32) for tensor in tensors]
    vectors += [tensor.quantization.scale for tensor in tensors if tensor.quantization is not None]
    for operator in model.operators:
        vectors += [_indices(operator.inputs, index), _indices(operator.outputs, index)]
    return list({(vector.dtype.str, vector.tobytes()): vector for vector in vectors if vector.size}.values())


def _indices(tensors: Sequence[Tensor | None], index: dict[int, int]) -> np.ndarray:
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


def _write_operator(out: FlatWriter, operator: Operator, code_index: int, index: dict[int, int]) -> int:
    table_number, options = _write_options(out, operator)
    return out.table(
        14,
        (0, "uint32", code_index, 0),
        (1, "offset", out.numbers(_indices(operator.inputs, index)), 0),
        (2, "offset", out.numbers(_indices(operator.outputs, index)), 0),
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
