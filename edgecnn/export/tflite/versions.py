"""Operator versions: the lowest that describes an operator, and the highest each runtime knows.

A runtime refuses an operator whose version it does not know, and misreads one whose version is too low.
Sources, of TensorFlow Lite and LiteRT: `tools/versioning/op_version.cc` (lowest), `kernels/register.cc`
(highest).
"""

from __future__ import annotations

from collections.abc import Callable

from edgecnn.export.tflite.model import Operator, Tensor

# Operators that knew int8 from their first version on; all others know it since their second or later.
_INT8_IS_1 = frozenset(["HARD_SWISH", "LEAKY_RELU", "PRELU", "QUANTIZE", "RELU_N1_TO_1", "RESHAPE"])
_BROADCAST_5D = {"SUB": 3, "MAXIMUM": 3, "MINIMUM": 3, "DIV": 2}


def lowest_version(operator: Operator) -> int:
    """The lowest version of the operator's definition that says what this one means."""
    rule = _RULES.get(operator.code)
    version = rule(operator) if rule else 1
    if operator.code not in _INT8_IS_1 and _dtype(operator.inputs[0]) == "int8":
        version = max(version, 2)
    if operator.code in _BROADCAST_5D:
        shapes = [tensor.shape for tensor in operator.inputs if tensor is not None]
        if len(set(shapes)) > 1 and max(map(len, shapes)) > 4:
            version = max(version, _BROADCAST_5D[operator.code])
    return version


def _dtype(tensor: Tensor | None) -> str:
    return tensor.dtype if tensor is not None else ""


def _rank(operator: Operator) -> int:
    return max(len(tensor.shape) for tensor in operator.inputs if tensor is not None)


def _types(operator: Operator) -> tuple[str, str]:
    return _dtype(operator.inputs[0]), _dtype(operator.inputs[1])


def _per_channel(tensor: Tensor | None) -> bool:
    return tensor is not None and tensor.quantization is not None and tensor.quantization.scale.size > 1


def _conv(operator: Operator) -> int:
    data, weights = operator.inputs[0], operator.inputs[1]
    if data is not None and weights is not None and data.shape[3] != weights.shape[3]:
        return 6
    match _types(operator):
        case ("int8", "int8"):
            return 3
        case ("int8", "int4"):
            return 7
        case ("float32", "int8"):
            return 5 if _per_channel(operator.inputs[1]) else 2
    return 1


def _depthwise(operator: Operator) -> int:
    match _types(operator):
        case ("int8", "int8"):
            return 3
        case ("int8", "int4"):
            return 7
        case ("float32", "int8"):
            return 6 if _per_channel(operator.inputs[1]) else 4
    dilated = operator.options.get("dilation_w", 1) != 1 or operator.options.get("dilation_h", 1) != 1
    return 2 if dilated else 1


def _fully_connected(operator: Operator) -> int:
    version = 1
    match _types(operator):
        case ("float32", "int8"):
            version = 12 if _per_channel(operator.inputs[1]) else 3
        case ("int8", "int4"):
            version = 10
        case ("int8", "int8"):
            version = 4
    if operator.options.get("keep_num_dims"):
        version = max(version, 5)
    if len(operator.inputs) == 2:
        version = max(version, 6)
    return version


def _mul(operator: Operator) -> int:
    first, second = operator.inputs
    output = operator.outputs[0]
    if first is None or second is None or output.dtype != "int8":
        return 1
    scales = [t.quantization.scale[0] for t in (first, second, output) if t.quantization is not None]
    return 3 if len(scales) == 3 and scales[0] * scales[1] / scales[2] >= 1 else 2


def _transpose_conv(operator: Operator) -> int:
    if operator.options.get("activation"):
        return 4
    if len(operator.inputs) == 4:
        return 3
    return 2 if _dtype(operator.inputs[1]) == "int8" else 1


def _dequantize(operator: Operator) -> int:
    match _dtype(operator.inputs[0]):
        case "float16":
            return 3
        case "int4":
            return 6
        case "int8":
            return 5 if _per_channel(operator.inputs[0]) else 2
    return 1


_RULES: dict[str, Callable[[Operator], int]] = {
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _fully_connected,
    "MUL": _mul,
    "TRANSPOSE_CONV": _transpose_conv,
    "DEQUANTIZE": _dequantize,
    "QUANTIZE": lambda operator: 3 if _per_channel(operator.outputs[0]) else 1,
    "TRANSPOSE": lambda operator: {5: 4}.get(_rank(operator), 6 if _rank(operator) > 5 else 1),
    "SPLIT": lambda operator: 2 if _dtype(operator.inputs[1]) == "int8" else 1,
    "BROADCAST_TO": lambda operator: 3 if _dtype(operator.inputs[0]) == "int8" else 2,
    "SLICE": lambda operator: 5 if _rank(operator) > 4 else 1,
    "STRIDED_SLICE": lambda operator: 4 if _rank(operator) > 4 else 1,
    "PAD": lambda operator: 4 if _rank(operator) > 4 else 1,
    "PADV2": lambda operator: 4 if _rank(operator) > 4 else 1,
    "RESIZE_BILINEAR": lambda operator: 3 if operator.options.get("half_pixel_centers") else 1,
    "RESIZE_NEAREST_NEIGHBOR": lambda operator: (
        3 if operator.options.get("half_pixel_centers") or operator.options.get("align_corners") else 1
    ),
}
