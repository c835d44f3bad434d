"""Weights in fewer bits than the ONNX file has: a rewrite of the finished TFLite model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.errors import UsageError
from edgecnn.export.tflite.model import Model, Operator, Quantization, Tensor

# Operator -> the axis of its weights that is the output channel.
_CHANNEL_AXIS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}
# A DEQUANTIZE and its tensor take about as many bytes: a smaller constant would grow.
_SMALLEST_FLOAT16_BYTES = 256
# A scale is a float32 and a zero point an int64.
_SCALE_BYTES = 12


def shrink_weights(model: Model, weights: str) -> list[str]:
    """Rewrites the weights of convolutions and fully connected layers in place; returns notes.

    `weights`: "as-is"; "float16" (float models: halves the file, computes in float32); "int8" (float
    models: dynamic range, activations stay float32); "int4" (integer models: 4-bit weights, int8
    activations); "packed" (integer models: 4-bit where no integer needs more, so the numbers stay). Raises
    UsageError for any other.
    """
    if weights not in WEIGHTS:
        raise UsageError(f"weights {weights!r} are not known", fix=f"choose one of: {', '.join(WEIGHTS)}")
    before = _dtypes_of_weights(model)
    WEIGHTS[weights](model)
    notes = _kept_by_their_scales(model) if weights == "packed" else []
    if weights == "as-is" or notes or _dtypes_of_weights(model) != before:
        return notes
    if weights in ("int4", "packed"):
        why = "no layer's integers fit in 4 bits" if "int8" in before else "no layer has int8 weights"
    else:
        why = "no layer's weights would shrink" if "float32" in before else "no layer has float32 weights"
    return [f"weights {weights}: all stay as they are: {why}"]


def _dtypes_of_weights(model: Model) -> list[str]:
    constants = [t for operator in _weighted(model, also=("TRANSPOSE_CONV",)) for t in operator.inputs[1:]]
    return [tensor.dtype for tensor in constants if tensor is not None]


def _as_is(model: Model) -> None:
    pass


def _float16(model: Model) -> None:
    """float32 constants of weighted layers become float16 and a DEQUANTIZE, done once when loading."""
    replaced: dict[int, Tensor] = {}
    conversions: list[Operator] = []
    for operator in _weighted(model, also=("TRANSPOSE_CONV",)):
        for i, tensor in enumerate(operator.inputs):
            if tensor is None or tensor.data is None or tensor.dtype != "float32":
                continue
            if tensor.data.nbytes < _SMALLEST_FLOAT16_BYTES:
                continue
            if id(tensor) not in replaced:
                half = Tensor(tensor.shape, "float16", _as_float16(tensor.data))
                replaced[id(tensor)] = Tensor(tensor.shape, "float32")
                conversions.append(
                    Operator("DEQUANTIZE", [half], [replaced[id(tensor)]], {}, "float16 weights")
                )
            operator.inputs[i] = replaced[id(tensor)]
    model.operators[:0] = conversions


def _as_float16(array: NDArray[Any]) -> NDArray[Any]:
    largest = np.finfo(np.float16).max
    return np.clip(array, -largest, largest).astype(np.float16)


def _dynamic_int8(model: Model) -> None:
    """Symmetric int8 weights for float32 activations: one scale a channel, one in all for dense layers.

    Per-channel weights of fully connected layers give garbage in tflite-runtime 2.14.
    """
    made: dict[tuple[int, str], Tensor] = {}
    for operator in _weighted(model):
        weights = operator.inputs[1]
        if weights is None or weights.data is None or weights.dtype != "float32":
            continue
        n_scales = 1 if _axis_of(operator) is None else weights.shape[_axis_of(operator) or 0]
        if 3 * weights.data.size <= _SCALE_BYTES * n_scales:
            continue
        key = (id(weights), operator.code)
        if key not in made:
            made[key] = _quantized(weights.data, _axis_of(operator), "int8", 127)
        operator.inputs[1] = made[key]


def _int4(model: Model) -> None:
    """int8 weights of integer layers become int4; the biases follow, for their scale hangs on the weights'.

    Weights that use no more than 4 bits, as training for them leaves them, keep their integers and scales.
    """
    for operator, weights in _integer_weights(model):
        if _fits_in_4_bits(operator, weights):
            operator.inputs[1] = Tensor(weights.shape, "int4", weights.data, weights.quantization)
        else:
            _round_to_4_bits(operator, weights)


def _packed(model: Model) -> None:
    """int8 weights of integer layers become int4 where none of them needs more: the same network."""
    for operator, weights in _integer_weights(model):
        if _fits_in_4_bits(operator, weights):
            operator.inputs[1] = Tensor(weights.shape, "int4", weights.data, weights.quantization)


def _kept_by_their_scales(model: Model) -> list[str]:
    """Tells of the layers that would have 4 bits, had they one scale."""
    return [
        f"weights packed: {operator.source} keeps 8 bits: its integers fit in 4, but not every runtime has "
        "dense layers of 4 bits with a scale for each output"
        for operator, weights in _integer_weights(model)
        if _uses_4_bits(weights)
    ]


def _integer_weights(model: Model) -> Iterator[tuple[Operator, Tensor]]:
    """The layers whose int8 weights may have 4 bits, and these.

    Depthwise convolutions keep int8: they hold few weights, suffer most, and not all kernels know them in int4.
    """
    for operator in _weighted(model):
        data, weights = operator.inputs[:2]
        if operator.code == "DEPTHWISE_CONV_2D" or data is None or data.quantization is None:
            continue
        if weights is None or weights.data is None or weights.dtype != "int8" or weights.quantization is None:
            continue
        yield operator, weights


def _fits_in_4_bits(operator: Operator, weights: Tensor) -> bool:
    assert weights.quantization is not None
    return weights.quantization.axis in (None, _axis_of(operator)) and _uses_4_bits(weights)


def _uses_4_bits(weights: Tensor) -> bool:
    assert weights.data is not None
    return int(np.abs(weights.data.astype(np.int16)).max()) <= 7


def _round_to_4_bits(operator: Operator, weights: Tensor) -> None:
    assert weights.data is not None and weights.quantization is not None
    data, _, bias = (*operator.inputs, None)[:3]
    small = _quantized(weights.quantization.dequantize(weights.data), _axis_of(operator), "int4", 7)
    operator.inputs[1] = small
    if bias is not None and bias.data is not None and bias.quantization is not None:
        assert data is not None and data.quantization is not None and small.quantization is not None
        scale = (data.quantization.scale * small.quantization.scale).astype(np.float32)
        axis = None if small.quantization.axis is None else 0
        quantization = Quantization(scale, np.zeros(scale.size, np.int64), axis)
        integers = quantization.quantize(bias.quantization.dequantize(bias.data), "int32")
        operator.inputs[2] = Tensor(bias.shape, "int32", integers, quantization)


def _quantized(numbers: NDArray[Any], axis: int | None, dtype: str, limit: int) -> Tensor:
    others = None if axis is None else tuple(a for a in range(numbers.ndim) if a != axis)
    largest = np.atleast_1d(np.abs(numbers).max(axis=others))
    scale = np.where(largest > 0, largest / limit, 1).astype(np.float32)
    quantization = Quantization(scale, np.zeros(scale.size, np.int64), axis)
    integers = np.clip(quantization.quantize(numbers, "int8"), -limit, limit)
    return Tensor(numbers.shape, dtype, integers, quantization)


def _axis_of(operator: Operator) -> int | None:
    return None if operator.code == "FULLY_CONNECTED" else _CHANNEL_AXIS[operator.code]


def _weighted(model: Model, also: tuple[str, ...] = ()) -> list[Operator]:
    return [operator for operator in model.operators if operator.code in (*_CHANNEL_AXIS, *also)]


WEIGHTS: dict[str, Callable[[Model], None]] = {
    "as-is": _as_is,
    "float16": _float16,
    "int8": _dynamic_int8,
    "int4": _int4,
    "packed": _packed,
}
