"""Gemm -> FULLY_CONNECTED; MatMul -> FULLY_CONNECTED, or BATCH_MATMUL where both operands are computed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.export.tflite.graph import Node, Value
from edgecnn.export.tflite.lowering.context import Lowering, natural
from edgecnn.export.tflite.lowering.convolution import activation_of
from edgecnn.export.tflite.lowering.elementwise import operand
from edgecnn.export.tflite.lowering.parameters import bias_tensor, kernel_tensor, symmetric_weights
from edgecnn.export.tflite.model import Quantization, Tensor
from edgecnn.export.tflite.problems import Unsupported


def gemm(lower: Lowering, node: Node) -> None:
    """Gemm with constant weights. After a flatten, their columns follow the NHWC order of the image."""
    weights, attributes = node.data_input(1), node.attributes
    if attributes.get("transA"):
        raise Unsupported("transA is not converted")
    if not weights.is_constant:
        raise Unsupported("its weights are computed, not constant")
    if not attributes.get("transB"):
        weights = _transposed(weights)
    data = lower.tensor(node.data_input())
    weights = _scaled(symmetric_weights(lower, weights, data), attributes.get("alpha", 1.0))
    bias = node.input(2)
    if bias is not None and attributes.get("beta", 1.0) != 1.0:
        bias = Value(bias.name, bias.shape, "float32", bias.numbers() * np.float32(attributes["beta"]))
    bias_constant = bias_tensor(lower, bias, data, weights, weights.shape[0])
    kernel = kernel_tensor(lower, _reordered(weights, data.columns), (0, 1), data)
    output = lower.result(node.output, (0, 1))
    lower.emit("FULLY_CONNECTED", [data, kernel, bias_constant], output, activation=activation_of(node))


def matmul(lower: Lowering, node: Node) -> None:
    """MatMul of a rank other than 2; of rank 2 with constant weights it became a Gemm."""
    first, second = node.data_input(), node.data_input(1)
    rank = len(node.output.shape)
    data = lower.tensor_in(first, natural(len(first.shape)))
    if second.is_constant and len(second.shape) == 2 and rank > 2:
        weights = symmetric_weights(lower, _transposed(second), data)
        bias = bias_tensor(lower, None, data, weights, weights.shape[0])
        inputs = [data, kernel_tensor(lower, weights, (0, 1), data), bias]
        lower.emit("FULLY_CONNECTED", [*inputs], lower.result(node.output, natural(rank)), keep_num_dims=True)
        return
    if min(len(first.shape), len(second.shape)) < 2:
        raise Unsupported("a vector times a matrix is converted only with a constant matrix")
    matrices = [_matrix(lower, value, rank) for value in (first, second)]
    lower.emit("BATCH_MATMUL", [*matrices], lower.result(node.output, natural(rank)))


def _matrix(lower: Lowering, value: Value, rank: int) -> Tensor:
    """A matrix, or a batch of them, in ONNX's order, with that many axes."""
    if value.data is None:
        return operand(lower, value, natural(rank))
    shape = (1,) * (rank - len(value.shape)) + value.shape
    if lower.node.output.quantization is None:
        # Beside float32, a constant of integers would make kernels quantize the other operand, too.
        return lower.constant(value.numbers().reshape(shape))
    return lower.constant(value.data.reshape(shape), value.dtype, value.quantization)


def _transposed(weights: Value) -> Value:
    assert weights.data is not None
    quantization = weights.quantization
    if quantization is not None and quantization.axis is not None:
        quantization = quantization.along(1 - quantization.axis)
    return Value(weights.name, weights.shape[::-1], weights.dtype, weights.data.T, quantization)


def _scaled(weights: Value, alpha: float) -> Value:
    assert weights.data is not None
    if alpha == 1.0:
        return weights
    quantization = weights.quantization
    if quantization is None:
        return Value(weights.name, weights.shape, weights.dtype, weights.data * np.float32(alpha))
    if alpha <= 0:
        raise Unsupported(f"alpha {alpha} of quantized weights is not positive")
    scaled = Quantization(quantization.scale * np.float32(alpha), quantization.zero_point, quantization.axis)
    return Value(weights.name, weights.shape, weights.dtype, weights.data, scaled)


def _reordered(weights: Value, columns: NDArray[Any] | None) -> Value:
    if columns is None:
        return weights
    assert weights.data is not None
    quantization = weights.quantization
    if quantization is not None and quantization.axis == 1:  # of a layer that runs in float32
        quantization = quantization.chosen(columns)
    return Value(weights.name, weights.shape, weights.dtype, weights.data[:, columns], quantization)
