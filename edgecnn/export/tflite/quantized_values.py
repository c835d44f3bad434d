"""QuantizeLinear and DequantizeLinear nodes read as a Quantization, and the constants between them."""

from __future__ import annotations

import numpy as np

from edgecnn.export.tflite.graph import Node, Value
from edgecnn.export.tflite.model import Quantization
from edgecnn.export.tflite.problems import Unsupported


def quantization_of(node: Node) -> tuple[Quantization, str]:
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


def as_int8(quantization: Quantization, dtype: str) -> Quantization:
    shift = 128 if dtype == "uint8" else 0
    return Quantization(quantization.scale, quantization.zero_point - shift, quantization.axis)


def quantized_constant(node: Node) -> Value:
    """A constant that stays integers: int8 weights (uint8 shifted), int32 biases, int4 one to a byte."""
    quantization, dtype = quantization_of(node)
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


def transposed(value: Value, permutation: tuple[int, ...]) -> Value:
    assert value.data is not None and value.quantization is not None
    quantization = value.quantization
    if quantization.axis is not None:
        quantization = quantization.along(permutation.index(quantization.axis))
    data = np.transpose(value.data, permutation)
    return Value("", data.shape, value.dtype, data, quantization)
