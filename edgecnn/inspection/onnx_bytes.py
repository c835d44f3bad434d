"""What every byte of an .onnx file is for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from edgecnn.inspection import onnx_schema as schema
from edgecnn.inspection.ledger import CONSTANTS, QUANTIZATION
from edgecnn.inspection.onnx_graph import Graph
from edgecnn.inspection.protobuf import UNKNOWN, Message

NODES, NAMES, DOCUMENTATION, REST = "nodes", "names", "documentation", "rest"
SHAPES, INTERFACE, HEADERS, FUNCTIONS = "activation_shapes", "inputs_and_outputs", "tensor_headers", "functions"

# Fields whose bytes are for the same thing wherever they stand.
_BY_FIELD = {
    "name": NAMES, "doc_string": DOCUMENTATION, "metadata_props": DOCUMENTATION, "producer_name": DOCUMENTATION,
    "producer_version": DOCUMENTATION, "value_info": SHAPES, "input": INTERFACE, "output": INTERFACE,
    "node": NODES, "initializer": HEADERS, "sparse_initializer": HEADERS, "functions": FUNCTIONS,
    "quantization_annotation": QUANTIZATION,
}  # fmt: skip


def bytes_by_kind(graph: Graph, roles: Mapping[str, str]) -> Counter[str]:
    """Bytes by kind; `roles` tell what the constants are for. They add up to the size of the file."""
    counts: Counter[str] = Counter()
    _count(counts, graph.message, REST, roles)
    return counts


def _count(
    counts: Counter[str], message: Message, kind: str, roles: Mapping[str, str], owner: str = ""
) -> None:
    """Adds the bytes of the message's fields; what no rule names is of `kind`, that of the message.

    `owner` is the name of the constant whose elements a tensor of a Constant node holds.
    """
    if message.kind == "Node" and message.last("op_type") == "Constant":
        owner = next(iter(message.all("output")), "")
    if message.kind == "Tensor":
        _count_tensor(counts, message, roles.get(message.last("name", "") or owner, CONSTANTS))
    for name, n_bytes in message.sizes.items():
        of_field = _kind_of_field(message.kind, name, kind)
        if message.kind != "Tensor" or name not in schema.DATA_FIELDS:
            counts[of_field] += n_bytes
        for value in message.values.get(name, ()):
            if isinstance(value, Message):
                _count(counts, value, of_field, roles, owner)


def _count_tensor(counts: Counter[str], tensor: Message, role: str) -> None:
    """The elements are of the tensor's role, their tags and lengths are header."""
    for name in schema.DATA_FIELDS:
        elements = sum(end - start for start, end in tensor.all(name))
        counts[role] += elements
        counts[HEADERS] += tensor.sizes.get(name, 0) - elements


def _kind_of_field(message_kind: str, name: str, kind: str) -> str:
    if message_kind == "Node" and name in ("input", "output"):
        return NAMES
    if message_kind == "Attribute" and name == "name":
        return NODES
    if name == UNKNOWN:
        return REST
    return _BY_FIELD.get(name, kind)
