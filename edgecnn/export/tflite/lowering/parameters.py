"""The constants of layers: weights and biases, as float32 and as integers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.export.tflite.graph import Value
from edgecnn.export.tflite.lowering.context import Lowering
from edgecnn.export.tflite.model import Quantization, Tensor
from edgecnn.export.tflite.problems import Unsupported

_DEQUANTIZE_BYTES = 150


def channels_of(lower: Lowering, tensor: Tensor, channels: slice) -> Tensor:
    """Some of the output channels (axis 0) of constant weights or a bias."""
    assert tensor.data is not None
    quantization = tensor.quantization.chosen(channels) if tensor.quantization else None
    return lower.constant(tensor.data[channels], tensor.dtype, quantization)


def symmetric_weights(lower: Lowering, weights: Value, data: Tensor) -> Value:
    """Constant weights as the operator takes them: symmetric integers for integer data, else float32.

    Quantized weights of a layer that runs in float32 stay integers in the file, if that saves bytes: see
    `kernel_tensor`. Asymmetric weights (zero point not 0) are quantized anew, symmetrically, for kernels
    ignore a zero point of weights.
    """
    if weights.quantization is None or (data.quantization is None and not _saves_bytes(weights)):
        return Value(weights.name, weights.shape, "float32", weights.numbers())
    if data.quantization is None:
        return weights
    if not np.any(weights.quantization.zero_point):
        return weights
    numbers, axis = weights.numbers(), weights.quantization.axis
    others = None if axis is None else tuple(a for a in range(numbers.ndim) if a != axis)
    largest = np.atleast_1d(np.abs(numbers).max(axis=others))
    scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    quantization = Quantization(scale, np.zeros(scale.size, np.int64), axis)
    lower.note(
        f"{lower.node.op} {lower.node.name}: its asymmetric weights were quantized anew with zero point 0 "
        "(TFLite takes no other); quantize weights symmetrically for equal results"
    )
    return Value(weights.name, weights.shape, "int8", quantization.quantize(numbers, "int8"), quantization)


def _saves_bytes(weights: Value) -> bool:
    """Whether int8 weights, their scales and a DEQUANTIZE are smaller than float32 weights."""
    assert weights.data is not None and weights.quantization is not None
    saved, spent = 3 * weights.data.size, 12 * weights.quantization.scale.size + _DEQUANTIZE_BYTES
    return weights.dtype == "int8" and saved > spent


def kernel_tensor(lower: Lowering, weights: Value, permutation: tuple[int, ...], data: Tensor) -> Tensor:
    """The weights in a layout. Integers for float data pass a DEQUANTIZE, which runtimes do once, at load."""
    kernel = lower.constant_in(weights, permutation)
    if kernel.quantization is None or data.quantization is not None:
        return kernel
    numbers = Tensor(kernel.shape, "float32")
    lower.emit("DEQUANTIZE", [kernel], numbers)
    return numbers


def bias_tensor(lower: Lowering, bias: Value | None, data: Tensor, weights: Value, n_out: int) -> Tensor:
    """The bias of n_out channels, zero where there is none; int32 of input x weight scale for integers."""
    if bias is not None and not bias.is_constant:
        raise Unsupported("its bias is computed, not constant")
    numbers = np.zeros(n_out, np.float32) if bias is None else bias.numbers().reshape(-1).astype(np.float32)
    numbers = np.broadcast_to(numbers, (n_out,))
    if data.quantization is None or weights.quantization is None:
        return lower.constant(numbers)
    scale = (data.quantization.scale * weights.quantization.scale).astype(np.float32)
    axis = None if weights.quantization.axis is None else 0
    quantization = Quantization(scale, np.zeros(scale.size, np.int64), axis)
    if bias is not None and bias.dtype == "int32" and _close(bias.quantization, scale):
        assert bias.data is not None
        return lower.constant(np.broadcast_to(bias.data.reshape(-1), (n_out,)), "int32", quantization)
    if bias is not None and bias.quantization is not None:
        lower.note(
            f"{lower.node.op} {lower.node.name}: its bias was quantized anew, with input scale x weight scale "
            "(TFLite takes no other)"
        )
    integers = quantization.quantize(numbers, "int32")
    _note_lost_bias(lower, numbers, quantization.dequantize(integers))
    return lower.constant(integers, "int32", quantization)


def _note_lost_bias(lower: Lowering, numbers: NDArray[Any], kept: NDArray[Any]) -> None:
    """Tells where the scale that TFLite wants of a bias is too coarse, or too fine, for it."""
    output = lower.node.output.quantization
    if output is not None and np.any(np.abs(numbers - kept) > output.scale[0]):
        name = f"{lower.node.op} {lower.node.name}"
        lower.note(f"{name}: input scale x weight scale does not suit its bias, which is off by over a step")


def _close(quantization: Quantization | None, scale: NDArray[Any]) -> bool:
    return quantization is not None and bool(np.allclose(quantization.scale, scale, rtol=1e-5, atol=0))
