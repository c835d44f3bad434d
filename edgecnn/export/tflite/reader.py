"""ONNX -> Graph: batch fixed, every shape known, constants folded.

Constants become numpy arrays; those behind a DequantizeLinear stay the integers they are.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable
from typing import Any

import numpy as np
import onnx
import onnx.inliner
from numpy.typing import NDArray
from onnx import numpy_helper

from edgecnn.errors import ConversionError
from edgecnn.export.tflite.folding import FOLDERS, NUMPY_TYPES, folded_size
from edgecnn.export.tflite.graph import Graph, Node, Value
from edgecnn.export.tflite.inference import inferred_outputs
from edgecnn.export.tflite.problems import Unsupported, raise_problems
from edgecnn.export.tflite.quantized_values import as_int8, quantization_of, quantized_constant, transposed

OLDEST_OPSET = 11
_STANDARD_DOMAINS = ("", "ai.onnx")
_QDQ = ("QuantizeLinear", "DequantizeLinear")
# More than any CNN that fits an edge device has: a file that asks for more is broken, or made to do harm.
_LARGEST_FOLDED = 1 << 26
# Elements that all folding may read and write, beside so many times those that the file itself holds.
_MOST_FOLDED = 1 << 28
_TIMES_STORED = 8
MOST_ELEMENTS = (1 << 31) - 1
MOST_NODES = 10_000
_DEEPEST_CALL = 100

_NARROW = (
    "activations are clipped to fewer than 8 bits: each clip may cost an operator; quantize to the whole range "
    "(in torch: without reduce_range) for a smaller and faster file"
)

# Operators that are gone before anything is lowered: folded, or taken by a pass.
KNOWN_OPERATORS = frozenset(
    ["BatchNormalization", "Constant", "Dropout", "GatherND", "Identity", "Shape", *FOLDERS]
)


class Reader:
    """Walks the ONNX nodes once, in order, and makes of each a constant, or a node of known output shapes."""

    def __init__(self, model: onnx.ModelProto, batch: int, supported: Container[str]) -> None:
        self.supported = supported
        _refuse_too_many_nodes(model)
        self.model = onnx.inliner.inline_local_functions(model) if model.functions else model
        self.batch = batch
        self.opset = _opset(self.model)
        self.values: dict[str, Value] = {}
        # Of integer activations, the type in the ONNX file: here all are int8.
        self.integer_types: dict[str, str] = {}
        self.nodes: list[Node] = []
        self.folded_left = _MOST_FOLDED
        self.problems: list[str] = []
        self.notes: list[str] = []

    def read(self) -> Graph:
        graph = self.model.graph
        for initializer in graph.initializer:
            self.values[initializer.name] = _constant(initializer.name, _array(initializer))
        self.folded_left += _TIMES_STORED * sum(math.prod(value.shape) for value in self.values.values())
        inputs = [self._input(info) for info in graph.input if info.name not in self.values]
        for position, proto in enumerate(graph.node):
            self._node(proto, proto.name or f"#{position}")
        missing = [info.name for info in graph.output if info.name not in self.values]
        if missing:
            raise_problems(self.problems)
            raise ConversionError(f"the graph's output {missing[0]} is computed by no node")
        outputs = [self.values[info.name] for info in graph.output]
        names = [info.name for info in graph.output]
        return Graph(self.nodes, inputs, outputs, names, self.opset, self.problems, self.notes)

    def _input(self, info: onnx.ValueInfoProto) -> Value:
        tensor_type = info.type.tensor_type
        if not tensor_type.HasField("shape"):
            raise ConversionError(
                f"input {info.name} has no shape", fix="export the model with a fixed input shape"
            )
        shape = []
        for axis, dim in enumerate(tensor_type.shape.dim):
            fixed = dim.dim_value if dim.HasField("dim_value") else 0
            if not fixed and axis:
                name = dim.dim_param or "?"
                raise ConversionError(
                    f"input {info.name}: axis {axis} ({name}) has no fixed size; only the batch may be dynamic",
                    fix="export the model with a fixed height and width",
                )
            shape.append(fixed or self.batch)
        if min(shape, default=1) < 1 or math.prod(shape) > MOST_ELEMENTS:
            raise ConversionError(f"input {info.name} has the shape {shape}, which no device holds")
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor_type.elem_type).name
        value = Value(info.name, tuple(shape), dtype)
        self.values[info.name] = value
        return value

    def _node(self, proto: onnx.NodeProto, name: str) -> None:
        if proto.op_type not in self.supported:
            self.problems.append(f"{proto.op_type} {name}: this operator is not converted")
        inputs = [self.values.get(i) if i else None for i in proto.input]
        if any(i and i not in self.values for i in proto.input):
            return  # It hangs on a node that is already among the problems.
        try:
            attributes = {a.name: _attribute(a) for a in proto.attribute}
            self._add(proto, Node(proto.op_type, inputs, [], attributes, name))
        except Unsupported as reason:
            if proto.op_type in self.supported:
                self.problems.append(f"{proto.op_type} {name}: {reason}")

    def _add(self, proto: onnx.NodeProto, node: Node) -> None:
        if proto.domain not in _STANDARD_DOMAINS and node.op not in _QDQ:
            raise Unsupported(f"operators of domain {proto.domain} are not converted")
        constants = self._fold(node)
        if constants is not None:
            for name, value in zip(proto.output, constants, strict=False):
                value.name = name
                self.values[name] = value
            return
        if node.op == "QuantizeLinear":
            node.outputs = [self._quantized(proto.output[0], node)]
        elif node.op == "DequantizeLinear":
            node.outputs = [self._dequantized(proto.output[0], node)]
        elif node.op == "Clip" and node.data_input().quantization is not None:
            self._clip_integers(proto.output[0], node)
            return
        elif node.op == "Cast" and node.data_input().quantization is not None:
            self._cast_integers(proto.output[0], node)
            return
        else:
            node.outputs = inferred_outputs(proto, node, self.opset, self.model.ir_version)
            for value in node.outputs:
                if math.prod(value.shape) > MOST_ELEMENTS:
                    raise Unsupported(f"its output has the shape {list(value.shape)}, which no device holds")
        for value in node.outputs:
            self.values[value.name] = value
        self.nodes.append(node)

    def _fold(self, node: Node) -> list[Value] | None:
        """The node's outputs where they are constant, else None."""
        if node.op == "Constant":
            return [_constant("", np.asarray(_constant_attribute(node.attributes)))]
        if node.op == "Shape":
            start, end = node.attributes.get("start", 0), node.attributes.get("end")
            return [_constant("", np.array(node.data_input().shape[start:end], np.int64))]
        if not node.inputs or any(value is not None and not value.is_constant for value in node.inputs):
            return None
        self._spend(sum(math.prod(value.shape) for value in node.inputs if value is not None))
        first = node.data_input()
        if node.op == "QuantizeLinear":
            quantization, dtype = quantization_of(node)
            return [_constant("", quantization.quantize(first.numbers(), dtype))]
        if node.op == "DequantizeLinear":
            return [quantized_constant(node)]
        if node.op == "Transpose" and first.quantization is not None and first.data is not None:
            permutation = node.attributes.get("perm", range(len(first.shape))[::-1])
            return [transposed(first, tuple(permutation))]
        folder = FOLDERS.get(node.op)
        if folder is None:
            return None
        arrays = [None if value is None else value.numbers() for value in node.inputs]
        try:
            n_elements = folded_size(node.op, node.attributes, arrays)
            if n_elements > _LARGEST_FOLDED:
                raise Unsupported(f"it makes a constant of {n_elements:,} elements")
            self._spend(n_elements)
            return [_constant("", np.asarray(folder(node.attributes, arrays)))]
        except (ValueError, IndexError, TypeError, KeyError, ArithmeticError, MemoryError) as fault:
            raise Unsupported(f"its constant cannot be computed ({fault})") from None

    def _spend(self, n_elements: int) -> None:
        """Each node may be small enough, and there are thousands: what they do together is limited, too."""
        if n_elements > self.folded_left:
            raise Unsupported("constants that are computed have too many elements in all")
        self.folded_left -= n_elements

    def _quantized(self, name: str, node: Node) -> Value:
        """An integer activation. uint8 becomes int8: 128 is taken from the integers and the zero point."""
        quantization, dtype = quantization_of(node)
        if dtype not in ("int8", "uint8") or not quantization.is_per_tensor:
            what = (
                f"{dtype} activations" if quantization.is_per_tensor else "activations with one scale a channel"
            )
            raise Unsupported(f"{what} have no TFLite equivalent that the runtimes share; use int8 or uint8")
        self.integer_types[name] = dtype
        return Value(name, node.data_input().shape, "int8", None, as_int8(quantization, dtype))

    def _dequantized(self, name: str, node: Node) -> Value:
        source = node.data_input()
        quantization, dtype = quantization_of(node)
        if node.input(2) is None:  # Zeros, of the type that was quantized to.
            dtype = self.integer_types.get(source.name, dtype)
        if dtype not in ("int8", "uint8") or not quantization.is_per_tensor:
            raise Unsupported(f"cannot dequantize {dtype} activations")
        quantization = as_int8(quantization, dtype)
        if source.quantization is None:  # An input of the graph that is quantized.
            self.integer_types[source.name] = dtype
            source.quantization, source.dtype = quantization, "int8"
        elif not source.quantization.same_as(quantization):
            raise Unsupported(
                f"{source.name} was quantized with another scale or zero point than it is read with"
            )
        return Value(name, source.shape)

    def _clip_integers(self, name: str, node: Node) -> None:
        """A Clip between QuantizeLinear and DequantizeLinear, as torch writes activations of 7 bits: the same
        limits as real numbers, between a pair of its own.
        """
        integers = node.data_input()
        assert integers.quantization is not None
        limits: list[Value | None] = []
        for value in node.inputs[1:]:
            if value is not None and value.data is None:
                raise Unsupported("its limits are computed, not constant")
            if value is None or value.data is None:
                limits.append(None)
                continue
            shift = 128 if value.dtype == "uint8" else 0
            real = integers.quantization.dequantize(value.data.astype(np.int64) - shift)
            limits.append(_constant(value.name, real))
        if _NARROW not in self.notes:
            self.notes.append(_NARROW)
        before, clipped = Value(f"{name}_real", integers.shape), Value(f"{name}_clipped", integers.shape)
        after = Value(name, integers.shape, "int8", None, integers.quantization)
        self.values[name] = after
        self.integer_types[name] = self.integer_types.get(integers.name, "int8")
        self.nodes += [
            Node("DequantizeLinear", [integers], [before], {}, node.name),
            Node("Clip", [before, *limits], [clipped], {}, node.name),
            Node("QuantizeLinear", [clipped], [after], {}, node.name),
        ]

    def _cast_integers(self, name: str, node: Node) -> None:
        """A Cast between QuantizeLinear and DequantizeLinear, to the type that the integers have anyway."""
        if NUMPY_TYPES.get(node.attributes["to"]) not in ("int8", "uint8"):
            raise Unsupported("integers are cast to another type")
        self.values[name] = node.data_input()


def _refuse_too_many_nodes(model: onnx.ModelProto) -> None:
    """Counts functions by all the nodes that they stand for: a few that call one another make billions."""
    functions = {(one.domain, one.name): one for one in model.functions}
    sizes: dict[tuple[str, str], int] = {}

    def count(nodes: Iterable[onnx.NodeProto], callers: tuple[tuple[str, str], ...]) -> int:
        return sum(size_of((node.domain, node.op_type), callers) for node in nodes)

    def size_of(key: tuple[str, str], callers: tuple[tuple[str, str], ...]) -> int:
        if key not in functions:
            return 1
        if key in callers or len(callers) >= _DEEPEST_CALL:
            raise ConversionError(f"function {key[1]} calls itself, or others to a depth of {_DEEPEST_CALL}")
        if key not in sizes:
            sizes[key] = count(functions[key].node, (*callers, key))
        return sizes[key]

    n_nodes = count(model.graph.node, ())
    if n_nodes > MOST_NODES:
        raise ConversionError(
            f"the graph has {n_nodes:,} nodes; at most {MOST_NODES:,} are converted",
            fix="edgecnn is for networks that fit a small device",
        )


def _opset(model: onnx.ModelProto) -> int:
    versions = [entry.version for entry in model.opset_import if entry.domain in _STANDARD_DOMAINS]
    if not versions:
        raise ConversionError("the ONNX file names no opset")
    if versions[0] < OLDEST_OPSET:
        raise ConversionError(
            f"opset {versions[0]} is older than {OLDEST_OPSET}", fix="export again with opset_version=18"
        )
    return int(versions[0])


def _array(tensor: onnx.TensorProto) -> NDArray[Any]:
    try:
        return numpy_helper.to_array(tensor)
    except Exception as fault:  # noqa: BLE001
        raise ConversionError(
            f"constant {tensor.name} cannot be read: {fault}",
            fix="keep the .onnx file and its .data file in one folder, or save them as one file",
        ) from None


def _constant(name: str, array: NDArray[Any]) -> Value:
    if array.dtype == np.float64 or array.dtype == np.float16:
        array = array.astype(np.float32)
    return Value(name, array.shape, array.dtype.name, array)


def _constant_attribute(attributes: dict[str, Any]) -> Any:
    (value,) = attributes.values()
    if isinstance(value, float) or (isinstance(value, list) and value and isinstance(value[0], float)):
        return np.asarray(value, np.float32)
    return np.asarray(value)


def _attribute(attribute: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, onnx.TensorProto):
        return _array(value)
    if isinstance(value, onnx.GraphProto):
        raise Unsupported("control flow is not converted")
    if isinstance(value, bytes):
        return value.decode()
    return list(value) if attribute.type in (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS) else value
