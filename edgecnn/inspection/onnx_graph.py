"""The graph of an .onnx file as Python values: nodes, constants, and the shapes that the file states."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from edgecnn.errors import UsageError
from edgecnn.inspection import onnx_schema as schema
from edgecnn.inspection.ledger import TensorInfo, checked_rank, corrupt, n_elements
from edgecnn.inspection.protobuf import Message, MessageReader, read_varint, signed

_EXTERNAL = 1  # TensorProto.data_location
_FEW = 64  # Constants of at most so many elements are read: shapes, scales of whole tensors.
_RAW_FORMATS = {
    "float32": "f", "float64": "d", "float16": "e", "int64": "q", "int32": "i", "int16": "h", "int8": "b",
    "uint8": "B", "uint16": "H", "uint32": "I", "uint64": "Q", "bool": "?",
}  # fmt: skip


@dataclass(frozen=True, eq=False, slots=True)
class Constant:
    """`n_bytes` of elements lie in the file, or beside it (`is_external`); `numbers` where they are few."""

    shape: tuple[int, ...]
    dtype: str
    n_bytes: int
    is_external: bool = False
    numbers: tuple[Any, ...] | None = None

    @property
    def n_elements(self) -> int:
        return n_elements(self.shape) or 0


@dataclass(frozen=True, eq=False, slots=True)
class Node:
    """One node; an empty name among `inputs` is an optional input left out."""

    index: int
    op: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Message]
    message: Message

    def number(self, name: str, default: int) -> int:
        return int(self.attributes[name].last("i", default)) if name in self.attributes else default

    def numbers(self, name: str) -> list[int] | None:
        return self.attributes[name].all("ints") if name in self.attributes else None

    def text(self, name: str, default: str) -> str:
        return str(self.attributes[name].last("s", default)) if name in self.attributes else default

    def input(self, index: int) -> str:
        return self.inputs[index] if index < len(self.inputs) else ""

    @property
    def has_subgraph(self) -> bool:
        return any(a.values.get("g") or a.values.get("graphs") for a in self.attributes.values())


@dataclass(eq=False)
class Graph:
    """`stated` are the shapes and types of inputs, outputs and activations that the file itself tells."""

    message: Message
    opsets: dict[str, int]
    functions: frozenset[tuple[str, str]]
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Constant] = field(default_factory=dict)
    stated: dict[str, TensorInfo] = field(default_factory=dict)
    inputs: tuple[TensorInfo, ...] = ()
    outputs: tuple[TensorInfo, ...] = ()


def read_graph(data: bytes, folder: Path) -> Graph:
    """The graph of the model. Raises UsageError for what is no ONNX model, or one that lacks its data."""
    try:
        model = MessageReader(data, schema.MESSAGES).read("Model", 0, len(data))
    except UsageError as fault:
        if not _looks_like_onnx(data):
            raise UsageError("this is neither a TFLite nor an ONNX model") from fault
        raise
    body = model.last("graph")
    if body is None:
        raise UsageError("this is neither a TFLite nor an ONNX model")
    if not body.all("node"):
        raise UsageError("this ONNX model has no nodes")
    if not model.all("opset_import"):
        raise corrupt("it names no opset")
    opsets = {entry.last("domain", ""): entry.last("version", 0) for entry in model.all("opset_import")}
    functions = frozenset((f.last("domain", ""), f.last("name", "")) for f in model.all("functions"))
    graph = Graph(model, opsets, functions)
    for tensor in body.all("initializer"):
        graph.constants[tensor.last("name", "")] = _constant(data, tensor, folder)
    for index, message in enumerate(body.all("node")):
        _add_node(data, graph, index, message, folder)
    for value in (*body.all("value_info"), *body.all("input"), *body.all("output")):
        info = _value(value)
        graph.stated[info.name or ""] = info
    # Old files list their constants among the inputs.
    given = [_value(value) for value in body.all("input")]
    graph.inputs = tuple(info for info in given if info.name not in graph.constants)
    graph.outputs = tuple(_value(value) for value in body.all("output"))
    return graph


def _looks_like_onnx(data: bytes) -> bool:
    """Every writer of ONNX begins with the field `ir_version`, a small number."""
    return len(data) > 2 and data[0] == 0x08 and 0 < data[1] < 64


def _add_node(data: bytes, graph: Graph, index: int, message: Message, folder: Path) -> None:
    domain = message.last("domain", "")
    if not message.last("op_type"):
        raise corrupt(f"node {index} has no operator")
    node = Node(
        index=index,
        op=message.last("op_type"),
        domain="" if domain in schema.STANDARD_DOMAINS else domain,
        name=message.last("name", ""),
        inputs=tuple(message.all("input")),
        outputs=tuple(message.all("output")),
        attributes={attribute.last("name", ""): attribute for attribute in message.all("attribute")},
        message=message,
    )
    graph.nodes.append(node)
    if node.op == "Constant" and node.outputs:
        value = _constant_of_node(data, node, folder)
        if value is not None:
            graph.constants[node.outputs[0]] = value


def _constant_of_node(data: bytes, node: Node, folder: Path) -> Constant | None:
    for name, attribute in node.attributes.items():
        if name == "value" and attribute.last("t") is not None:
            return _constant(data, attribute.last("t"), folder)
        if name in ("value_float", "value_floats"):
            return _listed(attribute.all("f") or attribute.all("floats"), "float32", 4, name)
        if name in ("value_int", "value_ints"):
            return _listed(attribute.all("i") or attribute.all("ints"), "int64", 8, name)
    return None


def _listed(numbers: list[Any], dtype: str, n_bytes: int, name: str) -> Constant:
    shape = (len(numbers),) if name.endswith("s") else ()
    few = tuple(numbers) if len(numbers) <= _FEW else None
    return Constant(shape, dtype, n_bytes * len(numbers), numbers=few)


def _value(message: Message) -> TensorInfo:
    tensor_type = message.last("type").last("tensor_type") if message.last("type") else None
    name = message.last("name", "")
    if tensor_type is None:
        return TensorInfo(name, None, "unknown")
    stated = tensor_type.last("shape")
    shape = tuple(_axis(dim) for dim in stated.all("dim")) if stated is not None else None
    checked_rank(shape or (), "a tensor")
    return TensorInfo(name, shape, _data_type(tensor_type.last("elem_type", 0)))


def _axis(dim: Message) -> int | None:
    size = dim.last("dim_value")
    return size if size is not None and size >= 0 else None


def _data_type(number: int) -> str:
    return schema.DATA_TYPES[number] if 0 <= number < len(schema.DATA_TYPES) else f"type_{number}"


def _constant(data: bytes, tensor: Message, folder: Path) -> Constant:
    shape, dtype = tuple(tensor.all("dims")), _data_type(tensor.last("data_type", 0))
    checked_rank(shape, "a constant")
    if min(shape, default=0) < 0:
        raise corrupt(f"a constant has shape {list(shape)}")
    is_external = tensor.last("data_location", 0) == _EXTERNAL
    spans = [(name, span) for name in schema.DATA_FIELDS for span in tensor.all(name)]
    stored = sum(end - start for _, (start, end) in spans)
    n_bytes = _external_bytes(tensor, folder) if is_external else stored
    bits, count = schema.BITS.get(dtype), n_elements(shape) or 0
    is_raw = is_external or any(name == "raw_data" for name, _ in spans)
    if bits and is_raw and n_bytes != (count * bits + 7) // 8:
        raise corrupt(f"a constant of shape {list(shape)} and type {dtype} has {n_bytes:,} bytes")
    numbers = _numbers(data, spans, dtype, count) if count <= _FEW and not is_external else None
    return Constant(shape, dtype, n_bytes, is_external, numbers)


def _external_bytes(tensor: Message, folder: Path) -> int:
    """Bytes of a constant that lies in another file, which must be there and long enough; it is not read."""
    entries = {entry.last("key", ""): entry.last("value", "") for entry in tensor.all("external_data")}
    location = entries.get("location", "")
    parts = PurePosixPath(location.replace("\\", "/"))
    if not location or parts.is_absolute() or ".." in parts.parts:
        raise corrupt(f"a constant lies in a file outside of its folder ({location!r})")
    path = folder / parts
    if not path.is_file():
        fix = "keep the .onnx file and its data file in one folder, or save them as one file"
        raise UsageError(f"its external data is missing: {location!r}", fix=fix)
    size = path.stat().st_size
    try:
        offset = int(entries.get("offset") or 0)
        length = int(entries["length"]) if entries.get("length") else size - offset
    except ValueError:
        raise corrupt("a place in its external data is no number") from None
    if offset < 0 or length < 0 or offset + length > size:
        raise corrupt(f"a constant lies past the end of {location!r}")
    return length


def _numbers(data: bytes, spans: list[tuple[str, Any]], dtype: str, count: int) -> tuple[Any, ...] | None:
    """The elements of a small constant, None where they cannot be told."""
    found: list[Any] = []
    for name, (start, end) in spans:
        if name in ("int32_data", "int64_data", "uint64_data"):
            while start < end and len(found) <= count:
                value, start = read_varint(data, start, end)
                found.append(signed(value))
            continue
        item = {"float_data": "f", "double_data": "d"}.get(name) or _RAW_FORMATS.get(dtype)
        size = struct.calcsize("<" + item) if item else 0
        if item is None or name == "string_data" or (end - start) % size:
            return None
        found.extend(struct.unpack_from(f"<{(end - start) // size}{item}", data, start))
    return tuple(found) if len(found) == count else None
