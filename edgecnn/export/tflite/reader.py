"""ONNX -> Graph: batch fixed, every shape known, constants folded.

Constants become numpy arrays; those behind a DequantizeLinear stay the integers they are.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from typing import Any

import numpy as np
import onnx
import onnx.inliner
from onnx import numpy_helper
from onnx.shape_inference import infer_node_outputs

from edgecnn.errors import ConversionError
from edgecnn.export.tflite.folding import FOLDERS, NUMPY_TYPES
from edgecnn.export.tflite.graph import Graph, Node, Value
from edgecnn.export.tflite.model import Quantization

OLDEST_OPSET = 11
_STANDARD_DOMAINS = ("", "ai.onnx")
_QDQ = ("QuantizeLinear", "DequantizeLinear")
# What shape inference may need to see of a constant: shapes, axes, pads, scales. Never weights.
_LARGEST_SHAPE_CONSTANT = 64
# More elements than any constant of a CNN that fits an edge device: a file that asks for more is broken.
_LARGEST_FOLDED = 1 << 26

_NARROW = (
    "activations are clipped to fewer than 8 bits: each clip may cost an operator; quantize to the whole range "
    "(in torch: without reduce_range) for a smaller and faster file"
)

# Operators that are gone before anything is lowered: folded, or taken by a pass.
KNOWN_OPERATORS = frozenset(
    ["BatchNormalization", "Cast", "Constant", "Dropout", "Identity", "Shape", *FOLDERS]
)


class Reader:
    """Walks the ONNX nodes once, in order, and makes of each a constant, or a node of known output shapes."""

    def __init__(self, model: onnx.ModelProto, batch: int, supported: Container[str]) -> None:
        self.supported = supported
        self.model = onnx.inliner.inline_local_functions(model) if model.functions else model
        self.batch = batch
        self.opset = _opset(self.model)
        self.values: dict[str, Value] = {}
        self.nodes: list[Node] = []
        self.problems: list[str] = []
        self.notes: list[str] = []

    def read(self) -> Graph:
        graph = self.model.graph
        for initializer in graph.initializer:
            self.values[initializer.name] = _constant(initializer.name, _array(initializer))
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
            node.outputs = self._infer(proto, node)
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
        first = node.data_input()
        if node.op == "QuantizeLinear":
            quantization, dtype = _quantization(node)
            return [_constant("", quantization.quantize(first.numbers(), dtype))]
        if node.op == "DequantizeLinear":
            return [_quantized_constant(node)]
        if node.op == "Transpose" and first.quantization is not None and first.data is not None:
            permutation = node.attributes.get("perm", range(len(first.shape))[::-1])
            return [_transposed(first, tuple(permutation))]
        folder = FOLDERS.get(node.op)
        if folder is None:
            return None
        arrays = [None if value is None else value.numbers() for value in node.inputs]
        if node.op in ("ConstantOfShape", "Expand"):
            shape = [int(size) for size in np.atleast_1d(node.data_input(-1).numbers())]
            if math.prod(shape) > _LARGEST_FOLDED:
                raise Unsupported(f"it makes a constant of shape {shape}")
        try:
            return [_constant("", np.asarray(folder(node.attributes, arrays)))]
        except (ValueError, IndexError, TypeError, KeyError, ArithmeticError, MemoryError) as fault:
            raise Unsupported(f"its constant cannot be computed ({fault})") from None

    def _quantized(self, name: str, node: Node) -> Value:
        """An integer activation. uint8 becomes int8: 128 is taken from the integers and the zero point."""
        quantization, dtype = _quantization(node)
        if dtype not in ("int8", "uint8") or not quantization.is_per_tensor:
            what = (
                f"{dtype} activations" if quantization.is_per_tensor else "activations with one scale a channel"
            )
            raise Unsupported(f"{what} have no TFLite equivalent that the runtimes share; use int8 or uint8")
        return Value(name, node.data_input().shape, "int8", None, _as_int8(quantization, dtype))

    def _dequantized(self, name: str, node: Node) -> Value:
        source = node.data_input()
        quantization, dtype = _quantization(node)
        if dtype not in ("int8", "uint8") or not quantization.is_per_tensor:
            raise Unsupported(f"cannot dequantize {dtype} activations")
        quantization = _as_int8(quantization, dtype)
        if source.quantization is None:
            source.quantization, source.dtype = (
                quantization,
                "int8",
            )  # An input of the graph that is quantized.
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

    def _infer(self, proto: onnx.NodeProto, node: Node) -> list[Value]:
        """The outputs, with the shapes that ONNX's own inference gives."""
        types, data = {}, {}
        for name, value in zip(proto.input, node.inputs, strict=True):
            if value is None:
                continue
            dtype = np.dtype("float32" if value.quantization else value.dtype)
            types[name] = onnx.helper.make_tensor_type_proto(
                onnx.helper.np_dtype_to_tensor_dtype(dtype), value.shape
            )
            if value.data is not None and value.data.size <= _LARGEST_SHAPE_CONSTANT:
                data[name] = numpy_helper.from_array(np.ascontiguousarray(value.numbers()), name)
        try:
            schema = onnx.defs.get_schema(node.op, self.opset, "")
            inferred: Mapping[str, Any] = infer_node_outputs(
                schema, proto, types, data,
                opset_imports=[onnx.helper.make_opsetid("", self.opset)], ir_version=self.model.ir_version,
            )  # fmt: skip
        except Exception as fault:  # onnx raises its own and pybind's exceptions, of no common class
            raise Unsupported(f"its shape cannot be inferred ({str(fault).strip()})") from None
        outputs = [_typed_value(name, inferred.get(name)) for name in proto.output if name]
        if node.attributes.get("ceil_mode"):
            _drop_windows_beyond(node, outputs)
        return outputs


def _drop_windows_beyond(node: Node, outputs: list[Value]) -> None:
    """With `ceil_mode`, a window that would begin in the padding after the image is none.

    So PyTorch and onnxruntime have it; ONNX's own inference counts it before opset 19.
    """
    strides = node.attributes.get("strides", [1, 1])
    pads = node.attributes.get("pads", [0, 0, 0, 0])
    for value in outputs:
        shape = list(value.shape)
        for axis, (stride, before) in enumerate(zip(strides, pads, strict=False)):
            if (shape[2 + axis] - 1) * stride >= node.data_input().shape[2 + axis] + before:
                shape[2 + axis] -= 1
        value.shape = tuple(shape)


class Unsupported(Exception):  # noqa: N818  (a reason, gathered into one ConversionError)
    """Why one node cannot be converted."""


def raise_problems(problems: list[str]) -> None:
    """Raises one ConversionError that lists them all."""
    if problems:
        n = len(problems)
        what = f"{n} node{'s' if n > 1 else ''} cannot be converted to TFLite:\n  " + "\n  ".join(problems)
        raise ConversionError(what, fix="replace these operations in the model, or keep the ONNX file")


def _opset(model: onnx.ModelProto) -> int:
    versions = [entry.version for entry in model.opset_import if entry.domain in _STANDARD_DOMAINS]
    if not versions:
        raise ConversionError("the ONNX file names no opset")
    if versions[0] < OLDEST_OPSET:
        raise ConversionError(
            f"opset {versions[0]} is older than {OLDEST_OPSET}", fix="export again with opset_version=18"
        )
    return int(versions[0])


def _array(tensor: onnx.TensorProto) -> np.ndarray:
    try:
        return numpy_helper.to_array(tensor)
    except Exception as fault:
        raise ConversionError(
            f"constant {tensor.name} cannot be read: {fault}",
            fix="keep the .onnx file and its .data file in one folder, or save them as one file",
        ) from None


def _constant(name: str, array: np.ndarray) -> Value:
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


def _typed_value(name: str, type_proto: Any) -> Value:
    shape: list[int] = []
    known = type_proto is not None and type_proto.tensor_type.HasField("shape")
    if known:
        for dim in type_proto.tensor_type.shape.dim:
            known = known and dim.HasField("dim_value")
            shape.append(dim.dim_value)
    if not known:
        raise Unsupported(f"the shape of its output {name} depends on data")
    dtype = onnx.helper.tensor_dtype_to_np_dtype(type_proto.tensor_type.elem_type).name
    return Value(name, tuple(shape), dtype)


def _quantization(node: Node) -> tuple[Quantization, str]:
    """The parameters of a QuantizeLinear or DequantizeLinear, and the type of its integers."""
    scale, zero_point_value = node.constant(1), node.input(2)
    if scale is None:
        raise Unsupported("its scale is computed, not constant")
    if node.attributes.get("block_size"):
        raise Unsupported("blocked quantization has no TFLite equivalent")
    scale = np.atleast_1d(scale).astype(np.float32).reshape(-1)
    zero_point = np.zeros(scale.size, np.int64)
    if zero_point_value is not None and zero_point_value.data is not None:
        dtype = zero_point_value.dtype
        zero_point = np.atleast_1d(zero_point_value.data).astype(np.int64).reshape(-1)
    elif node.op == "DequantizeLinear":
        dtype = node.data_input().dtype
    else:
        dtype = {2: "uint8", 3: "int8"}.get(node.attributes.get("output_dtype", 2), "another type")
    if np.any(scale <= 0) or not np.all(np.isfinite(scale)):
        raise Unsupported("a scale is not a positive number")
    rank = len(node.data_input().shape)
    axis = node.attributes.get("axis", 1) % rank if scale.size > 1 else None
    return Quantization(scale, zero_point, axis), dtype


def _as_int8(quantization: Quantization, dtype: str) -> Quantization:
    shift = 128 if dtype == "uint8" else 0
    return Quantization(quantization.scale, quantization.zero_point - shift, quantization.axis)


def _quantized_constant(node: Node) -> Value:
    """A constant that stays integers: int8 weights (uint8 shifted), int32 biases, int4 one to a byte."""
    quantization, dtype = _quantization(node)
    integers = node.data_input().data
    assert integers is not None
    dtype = node.data_input().dtype
    if dtype in ("uint8", "uint4"):
        shift = 128 if dtype == "uint8" else 8
        integers = (integers.astype(np.int16) - shift).astype(np.int8)
        quantization = Quantization(quantization.scale, quantization.zero_point - shift, quantization.axis)
        dtype = dtype[1:]
    elif dtype == "int4":
        integers = integers.astype(np.int8)
    elif dtype not in ("int8", "int32"):
        raise Unsupported(f"constants of type {dtype} cannot be dequantized")
    return Value("", integers.shape, dtype, integers, quantization)


def _transposed(value: Value, permutation: tuple[int, ...]) -> Value:
    assert value.data is not None and value.quantization is not None
    quantization = value.quantization
    if quantization.axis is not None:
        quantization = quantization.along(permutation.index(quantization.axis))
    data = np.transpose(value.data, permutation)
    return Value("", data.shape, value.dtype, data, quantization)
