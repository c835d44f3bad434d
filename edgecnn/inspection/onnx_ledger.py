"""The ledger of an .onnx file: its layers, and what every byte is for.

QuantizeLinear and DequantizeLinear nodes are no layers where they only say how a layer's weights, inputs or
output are stored: their scales and types are noted at that layer. Those that run by themselves, at the inputs
and outputs of the model, stay.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from edgecnn.inspection import onnx_schema as schema
from edgecnn.inspection.ledger import (
    BIASES,
    CONSTANTS,
    QUANTIZATION,
    WEIGHTS,
    Contents,
    Layer,
    Shape,
    TensorInfo,
    Weights,
    corrupt,
    n_elements,
    product,
    sorted_kinds,
)
from edgecnn.inspection.onnx_bytes import bytes_by_kind
from edgecnn.inspection.onnx_graph import Constant, Graph, Node, read_graph
from edgecnn.inspection.onnx_shapes import shapes_of

_ROLES = {"W": WEIGHTS, "B": BIASES, "K": CONSTANTS, "A": WEIGHTS, "S": QUANTIZATION}
# Of a constant that several nodes read, what it is for: the first of these.
_ROLE_ORDER = (WEIGHTS, BIASES, QUANTIZATION, CONSTANTS)
_QUANTIZE, _DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
# Operators whose own inputs hold the scales: position of the weights' scale.
_INNER_WEIGHT_SCALES = {"QLinearConv": 4, "QLinearMatMul": 4}


def read_onnx(data: bytes, folder: Path) -> Contents:
    """What an .onnx file holds; `folder` is where its external data lies. Raises UsageError."""
    graph = read_graph(data, folder)
    scan = _Scan(graph)
    layers = tuple(scan.layer(node) for node in graph.nodes if not scan.is_folded(node))
    n_folded = sum(node.op in (_QUANTIZE, _DEQUANTIZE) and scan.is_folded(node) for node in graph.nodes)
    for node in graph.nodes:
        scan.note_roles(node)
    message = graph.message
    producer = f"{message.last('producer_name', '')} {message.last('producer_version', '')}".strip()
    return Contents(
        format="onnx",
        producer=producer or None,
        inputs=graph.inputs,
        outputs=graph.outputs,
        layers=layers,
        bytes_by_kind=sorted_kinds(bytes_by_kind(graph, scan.roles)),
        external_bytes=sum(c.n_bytes for c in graph.constants.values() if c.is_external),
        n_folded=n_folded,
    )


class _Scan:
    """Goes over the nodes once; a constant belongs to the first layer that computes with it."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.shapes = shapes_of(graph)
        self.roles: dict[str, str] = {}
        self._counted: set[str] = set()
        self._results = {info.name for info in graph.outputs}
        self._producers: dict[str, Node] = {}
        self._quantizers: dict[str, Node] = {}
        # Results of nodes that only unpack a constant -> the name of the constant.
        self._unpacked: dict[str, str] = {}
        for node in graph.nodes:
            self._note(node)

    def _note(self, node: Node) -> None:
        for name in node.outputs:
            self._producers[name] = node
        if node.op == _QUANTIZE:
            self._quantizers.setdefault(node.input(0), node)
        if node.op in schema.UNPACKING and node.outputs:
            source = self._unpacked.get(node.input(0), node.input(0))
            if source in self.graph.constants:
                self._unpacked[node.outputs[0]] = source

    def is_folded(self, node: Node) -> bool:
        if node.op == "Constant":
            return True
        if node.outputs and node.outputs[0] in self._unpacked:
            return True
        if not node.outputs or node.op not in (_QUANTIZE, _DEQUANTIZE):
            return False
        if node.op == _DEQUANTIZE:
            return node.outputs[0] not in self._results
        producer = self._producers.get(node.input(0))
        return producer is not None and producer.op not in (_QUANTIZE, _DEQUANTIZE)

    def layer(self, node: Node) -> Layer:
        constants = self._constants(node)
        params = [(name, role) for name, role in constants if role in (WEIGHTS, BIASES)]
        new = [self.graph.constants[name] for name, _ in params if name not in self._counted]
        self._counted.update(name for name, _ in params)
        return Layer(
            index=node.index,
            subgraph=0,
            operator=node.op,
            domain=node.domain or "ai.onnx",
            version=self.graph.opsets.get(node.domain, self.graph.opsets.get("ai.onnx")),
            name=node.name or next((name for name in node.outputs if name), None),
            inputs=tuple(self._activation(node, position) for position in self._activation_positions(node)),
            outputs=tuple(self._output(name) for name in node.outputs if name),
            n_params=sum(constant.n_elements for constant in new),
            n_macs=self._macs(node),
            weight_bytes=sum(constant.n_bytes for constant in new),
            weights=self._weights(node, params),
            activation=node.text("activation", "") or None,
        )

    def _constants(self, node: Node) -> list[tuple[str, str]]:
        """The constants that the node computes with, and what they are for."""
        found = []
        unpacks = bool(node.outputs) and node.outputs[0] in self._unpacked
        for position, name in enumerate(node.inputs):
            if unpacks and not position:
                continue  # It belongs to whoever reads the result.
            source = self._unpacked.get(name, name)
            constant = self.graph.constants.get(source)
            if constant is not None:
                is_quantized = self._producers[name].op == _DEQUANTIZE if name in self._unpacked else False
                found.append((source, _role(node.op, position, constant, is_quantized)))
        return list(dict.fromkeys(found))

    def _constant(self, name: str) -> Constant | None:
        """The constant of that name, or the one that it is a copy of."""
        return self.graph.constants.get(self._unpacked.get(name, name))

    def note_roles(self, node: Node) -> None:
        """What the bytes of the node's constants are for."""
        for name, role in self._constants(node):
            before = self.roles.get(name, CONSTANTS)
            self.roles[name] = min(role, before, key=_ROLE_ORDER.index)

    def _activation_positions(self, node: Node) -> list[int]:
        return [
            position
            for position, name in enumerate(node.inputs)
            if name and name not in self.graph.constants and name not in self._unpacked
        ]

    def _activation(self, node: Node, position: int) -> TensorInfo:
        """An input; behind a DequantizeLinear, as it is stored."""
        name = node.inputs[position]
        producer = self._producers.get(name)
        if producer is None or producer.op != _DEQUANTIZE:
            return self._info(name)
        source = self._producers.get(producer.input(0))
        origin = source.input(0) if source is not None and source.op == _QUANTIZE else producer.input(0)
        return self._quantized(self._info(name), producer, origin)

    def _output(self, name: str) -> TensorInfo:
        info, quantizer = self._info(name), self._quantizers.get(name)
        return self._quantized(info, quantizer, name) if quantizer is not None else info

    def _info(self, name: str) -> TensorInfo:
        stated, producer = self.graph.stated.get(name), self._producers.get(name)
        info = TensorInfo(name, self.shapes.get(name), stated.dtype if stated else "float32")
        if producer is not None and producer.op == _QUANTIZE:
            return self._quantized(info, producer, name)
        return info

    def _quantized(self, info: TensorInfo, node: Node, name: str) -> TensorInfo:
        """`info` with the scale and zero point of a QuantizeLinear or DequantizeLinear node."""
        scale, zero_point = self._constant(node.input(1)), self._constant(node.input(2))
        info = replace(info, name=name, dtype=self._integer_type(node))
        if scale is None or scale.n_elements != 1 or not scale.numbers:
            return info
        value = float(scale.numbers[0])
        if not math.isfinite(value):
            raise corrupt(f"the scale of {name!r} is not a number")
        zero = zero_point.numbers[0] if zero_point is not None and zero_point.numbers else 0
        return replace(info, scale=value, zero_point=zero if isinstance(zero, int) else 0)

    def _integer_type(self, node: Node) -> str:
        """The type of the integers of a QuantizeLinear or DequantizeLinear node."""
        zero_point = self._constant(node.input(2))
        if zero_point is not None:
            return zero_point.dtype
        source = self._producers.get(node.input(0)) if node.op == _DEQUANTIZE else None
        return self._integer_type(source) if source is not None and source.op == _QUANTIZE else "uint8"

    def _weights(self, node: Node, params: list[tuple[str, str]]) -> Weights | None:
        main = next((name for name, role in params if role == WEIGHTS), None)
        if main is None:
            return None
        bias = next((name for name, role in params if role == BIASES), None)
        scale = self._weight_scale(node, main)
        granularity = None
        if scale is not None:
            granularity = "per-channel" if scale.n_elements > 1 else "per-tensor"
        constants = self.graph.constants
        bias_dtype = constants[bias].dtype if bias else None
        return Weights(constants[main].shape, constants[main].dtype, granularity, bias_dtype)

    def _weight_scale(self, node: Node, constant: str) -> Constant | None:
        inner = node.input(_INNER_WEIGHT_SCALES.get(node.op, len(node.inputs)))
        for name in node.inputs:
            producer = self._producers.get(name)
            if producer is not None and producer.op == _DEQUANTIZE and self._unpacked.get(name) == constant:
                inner = producer.input(1)
        return self._constant(inner)

    def _macs(self, node: Node) -> int | None:
        """As `export.cost` counts; None where the shapes are not known or the node runs other nodes."""
        is_own = (node.domain, node.op) in self.graph.functions
        if node.op in schema.UNCOUNTED or node.has_subgraph or is_own:
            return None
        if node.op not in _COUNTED:
            return 0 if not node.domain or node.op in _KNOWN_ELSEWHERE else None
        inner = node.op in _INNER_WEIGHT_SCALES
        first, second = self._shape(node.input(0)), self._shape(node.input(3 if inner else 1))
        output = self._shape(node.outputs[0]) if node.outputs else None
        if first is None or second is None or output is None or len(first) < 2 or len(second) < 2:
            return None
        if node.op == "ConvTranspose":
            return product([n_elements(first), *second[1:]])
        if node.op in _CONVOLUTIONS:
            return product([n_elements(output), *second[1:]])
        return product([n_elements(output), first[-2 if node.number("transA", 0) else -1]])

    def _shape(self, name: str) -> Shape | None:
        return self.shapes.get(name)


_PRODUCTS = ("Gemm", "MatMul", "QLinearMatMul", "MatMulInteger")
_CONVOLUTIONS = ("Conv", "QLinearConv", "ConvInteger", "FusedConv")
_COUNTED = frozenset([*_CONVOLUTIONS, *_PRODUCTS, "ConvTranspose"])
# Operators of other domains that multiply nothing.
_KNOWN_ELSEWHERE = frozenset([_QUANTIZE, _DEQUANTIZE])


def _role(op: str, position: int, constant: Constant, is_quantized: bool) -> str:
    roles = schema.INPUT_ROLES.get(op, "")
    if position < len(roles):
        return _ROLES[roles[position]]
    is_number = is_quantized or constant.dtype.startswith(("float", "bfloat"))
    return WEIGHTS if is_number and constant.n_elements > 1 else CONSTANTS
