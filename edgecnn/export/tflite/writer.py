"""A TFLite model in memory -> the bytes of its file, as few as every stock runtime takes.

Everything that can be shared is written once: FlatBuffer tables and vectors are looked up by content before
they are written, and constants by their bytes. Internal tensors carry no name, operators no options that
equal the defaults, and small vectors fill the gaps that 16-byte alignment leaves between the constants.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np

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

BUFFER_ALIGNMENT = 16

# Kind -> (method of flatbuffers.Builder, bytes).
_SCALARS = {
    "bool": ("PrependBoolSlot", 1),
    "int8": ("PrependInt8Slot", 1),
    "uint8": ("PrependUint8Slot", 1),
    "int32": ("PrependInt32Slot", 4),
    "uint32": ("PrependUint32Slot", 4),
    "float32": ("PrependFloat32Slot", 4),
    "offset": ("PrependUOffsetTRelativeSlot", 4),
}

# One field of a table: (slot, kind, value, default).
FieldValue = tuple[int, str, Any, Any]


class FlatWriter:
    """A FlatBuffer builder that never writes the same table or vector twice."""

    def __init__(self, capacity: int) -> None:
        self.builder = flatbuffers.Builder(capacity)
        self._known: dict[Any, int] = {}

    def table(self, n_slots: int, *fields: FieldValue) -> int:
        """The offset of a table. Large fields first, so that the small ones share one padded word."""
        present = tuple(
            sorted((f for f in fields if f[2] != f[3]), key=lambda f: (-_SCALARS[f[1]][1], f[0])),
        )
        key = ("table", n_slots, present)
        if key not in self._known:
            self.builder.StartObject(n_slots)
            for slot, kind, value, default in present:
                getattr(self.builder, _SCALARS[kind][0])(slot, value, default)
            self._known[key] = self.builder.EndObject()
        return self._known[key]

    def offsets(self, offsets: Sequence[int]) -> int:
        """A vector of tables."""
        self.builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self.builder.PrependUOffsetTRelative(offset)
        return int(self.builder.EndVector())

    def string(self, text: str) -> int:
        if ("string", text) not in self._known:
            self._known["string", text] = self.builder.CreateString(text)
        return self._known["string", text]

    def numbers(self, values: np.ndarray) -> int:
        """A vector of scalars."""
        key = (values.dtype.str, values.tobytes())
        if key not in self._known:
            self._known[key] = self.builder.CreateNumpyVector(np.ascontiguousarray(values).reshape(-1))
        return self._known[key]

    def padding_before(self, n_bytes: int) -> int:
        """How many bytes of padding a constant of that many bytes would need if it were written now."""
        return int(-(self.builder.Offset() + n_bytes) % BUFFER_ALIGNMENT)

    def constant(self, data: np.ndarray) -> int:
        """A vector of bytes whose first byte lies on BUFFER_ALIGNMENT."""
        self.builder.Prep(BUFFER_ALIGNMENT, data.size)
        return int(self.builder.CreateNumpyVector(data))


def write(model: Model, *, debug_names: bool = False, signature: bool = False) -> bytes:
    """The .tflite file of the model. With `debug_names`, internal tensors keep their ONNX names."""
    tensors = model.tensors()
    index = {id(tensor): i for i, tensor in enumerate(tensors)}
    constants: dict[bytes, int] = {}
    for tensor in tensors:
        if tensor.data is not None and tensor.data.size:
            constants.setdefault(_constant_bytes(tensor), len(constants) + 1)
    out = FlatWriter(sum(map(len, constants)) + 4096)
    buffers = _write_buffers(out, list(constants), _small_vectors(tensors, model, index))
    public = {id(tensor.memory) for tensor in (*model.inputs, *model.outputs)}
    tensor_offsets = [
        _write_tensor(out, tensor, constants, keep_name=debug_names or id(tensor) in public)
        for tensor in tensors
    ]
    codes = [(operator.code, lowest_version(operator)) for operator in model.operators]
    code_index = {code: i for i, code in enumerate(dict.fromkeys(codes))}
    operators = [
        _write_operator(out, operator, code_index[code], index)
        for operator, code in zip(model.operators, codes, strict=True)
    ]
    subgraph = out.table(
        6,
        (0, "offset", out.offsets(tensor_offsets), 0),
        (1, "offset", out.numbers(_indices(model.inputs, index)), 0),
        (2, "offset", out.numbers(_indices(model.outputs, index)), 0),
        (3, "offset", out.offsets(operators), 0),
    )
    root = out.table(
        10,
        (0, "uint32", SCHEMA_VERSION, 0),
        (1, "offset", out.offsets([_write_code(out, *code) for code in code_index]), 0),
        (2, "offset", out.offsets([subgraph]), 0),
        (4, "offset", buffers, 0),
        (7, "offset", _write_signature(out, model, index) if signature else 0, 0),
    )
    out.builder.Finish(root, file_identifier=FILE_IDENTIFIER)
    return bytes(out.builder.Output())


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
