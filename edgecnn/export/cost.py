"""What a network costs, counted from its float ONNX graph, and what of a model file is weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper, shape_inference

# Types that weights and biases are stored in.
WEIGHT_BITS = {"float32": 32, "float16": 16, "int32": 32, "int8": 8, "int4": 4}


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


@dataclass(frozen=True)
class Storage:
    """How well a .tflite file stores its weights and biases.

    `entropy_bytes`: the least that an ideal order-0 entropy coder would need for them; `n_zeros` of them are
    stored although they are exactly zero, a share of `zero_share`, and take `zero_bytes`.
    """

    entropy_bytes: int
    n_zeros: int
    zero_share: float
    zero_bytes: int


def tflite_storage(tflite: bytes) -> Storage:
    """What the weights and biases of a .tflite file could be coded in, and the zeros among them.

    The bound is Shannon's, for each tensor n * H(its values) (C. Shannon, "A mathematical theory of
    communication", 1948): no coder that takes one value at a time needs less. Of floats a decoder must be told
    each distinct value as well, so that is added, up to what they take as they are; of integers it knows them.
    """
    found = [_numbers(*stored) for stored in _stored_weights(tflite)]
    zeros = [int(np.count_nonzero(numbers == 0)) for numbers, _ in found]
    n_all = sum(numbers.size for numbers, _ in found)
    zero_bits = sum(n * bits for n, (_, bits) in zip(zeros, found, strict=True))
    return Storage(
        entropy_bytes=math.ceil(sum(_entropy_bits(numbers, bits) for numbers, bits in found) / 8),
        n_zeros=sum(zeros),
        zero_share=sum(zeros) / n_all if n_all else 0.0,
        zero_bytes=math.ceil(zero_bits / 8),
    )


def _stored_weights(tflite: bytes) -> Iterator[tuple[str, int, NDArray[Any]]]:
    """Type, number of values and bytes of each constant that holds weights or biases; shared ones once.

    int32 without a scale is no bias, but a shape or axes.
    """
    from ai_edge_litert import schema_py_generated as schema

    names = {code: name for name, code in vars(schema.TensorType).items() if isinstance(code, int)}
    model = schema.Model.GetRootAs(tflite, 0)
    seen: set[int] = set()
    for graph in map(model.Subgraphs, range(model.SubgraphsLength())):
        for tensor in map(graph.Tensors, range(graph.TensorsLength())):
            buffer, dtype = tensor.Buffer(), names[tensor.Type()].lower()
            length = model.Buffers(buffer).DataLength()
            is_scaled = tensor.Quantization() is not None and tensor.Quantization().ScaleLength() > 0
            if not length or buffer in seen or dtype not in WEIGHT_BITS or (dtype == "int32" and not is_scaled):
                continue
            seen.add(buffer)
            n_values = math.prod(tensor.Shape(axis) for axis in range(tensor.ShapeLength()))
            yield dtype, n_values, model.Buffers(buffer).DataAsNumpy()


def _numbers(dtype: str, n_values: int, content: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """The values of a tensor, and the bits that each takes. Of int4 the lower half of a byte is first."""
    if dtype != "int4":
        return content.view(dtype), WEIGHT_BITS[dtype]
    halves = np.stack([content & 15, content >> 4], axis=1).ravel()[:n_values].astype(np.int8)
    return np.where(halves > 7, halves - 16, halves), WEIGHT_BITS[dtype]


def _entropy_bits(numbers: NDArray[Any], bits: int) -> float:
    _, counts = np.unique(numbers, return_counts=True)
    coded = float(-np.sum(counts * np.log2(counts / numbers.size)))
    table = counts.size * bits if np.issubdtype(numbers.dtype, np.floating) else 0
    return min(coded + table, float(numbers.size * bits))
