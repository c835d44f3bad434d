"""What a network costs, counted from its float ONNX graph, and what of a model file is weights."""

from __future__ import annotations

import math
from dataclasses import dataclass

import onnx
from onnx import numpy_helper, shape_inference


@dataclass(frozen=True)
class Cost:
    """`n_params`: weights and biases; `n_macs`: multiply-accumulates of one inference at batch 1."""

    n_params: int
    n_macs: int


def count(model: onnx.ModelProto) -> Cost:
    """The cost of a float ONNX model. Convolutions and matrix products make the MACs; biases, activations and
    pooling are not counted (the convention of the MobileNet and SqueezeNet papers).
    """
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for value in (*fixed.graph.input, *fixed.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    graph = shape_inference.infer_shapes(fixed, data_prop=True).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        shapes[value.name] = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
    n_macs = sum(_macs(node, shapes) for node in graph.node)
    weights = [tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT]
    return Cost(sum(math.prod(tensor.dims) for tensor in weights), n_macs)


def _macs(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> int:
    if node.op_type == "Conv":
        # Each output value sums over one filter: in_channels / groups x kernel height x kernel width.
        return math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])
    if node.op_type == "ConvTranspose":
        return math.prod(shapes[node.input[0]]) * math.prod(shapes[node.input[1]][1:])
    if node.op_type == "Gemm":
        transposed = any(a.name == "transA" and a.i for a in node.attribute)
        return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][0 if transposed else -1]
    if node.op_type == "MatMul":
        return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]
    return 0


def onnx_weight_bytes(model: onnx.ModelProto) -> int:
    """Bytes of the constants of an ONNX model, biases and scales included."""
    return sum(numpy_helper.to_array(tensor).nbytes for tensor in model.graph.initializer)


def tflite_weight_bytes(tflite: bytes) -> int:
    """Bytes of the constants (the buffers) of a .tflite file, biases and shapes included."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(tflite, 0)
    return sum(model.Buffers(index).DataLength() for index in range(model.BuffersLength()))
