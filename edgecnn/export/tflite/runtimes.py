"""What each runtime knows of the operators that we write: the highest version, or nothing.

Sources: `kernels/register.cc` of TensorFlow Lite 2.14 and LiteRT 2, `python_ops_resolver.cc` of TFLite
Micro.
"""

from __future__ import annotations

from edgecnn.errors import ConversionError, UsageError
from edgecnn.export.tflite.model import Model, Operator
from edgecnn.export.tflite.versions import lowest_version

_TFLITE_2_14 = {
    "ABS": 5, "ADD": 5, "ARG_MAX": 3, "ARG_MIN": 3, "AVERAGE_POOL_2D": 3, "BATCH_MATMUL": 4, "BROADCAST_TO": 3,
    "CAST": 4, "CEIL": 1, "CONCATENATION": 4, "CONV_2D": 7, "COS": 1, "DEPTHWISE_CONV_2D": 7,
    "DEPTH_TO_SPACE": 2, "DEQUANTIZE": 5, "DIV": 2, "ELU": 1, "EQUAL": 4, "EXP": 2, "FLOOR": 1,
    "FULLY_CONNECTED": 10, "GATHER": 7, "GELU": 2, "GREATER": 2, "GREATER_EQUAL": 3, "HARD_SWISH": 1,
    "LEAKY_RELU": 2, "LESS": 3, "LESS_EQUAL": 2, "LOG": 2, "LOGICAL_AND": 1, "LOGICAL_NOT": 1, "LOGICAL_OR": 1,
    "LOGISTIC": 3, "LOG_SOFTMAX": 2, "MAXIMUM": 4, "MAX_POOL_2D": 3, "MEAN": 3, "MINIMUM": 4, "MIRROR_PAD": 3,
    "MUL": 7, "NEG": 1, "PAD": 4, "PADV2": 4, "POW": 1, "PRELU": 1, "QUANTIZE": 3, "REDUCE_MAX": 3,
    "REDUCE_MIN": 3, "REDUCE_PROD": 2, "RELU": 3, "RELU6": 3, "RELU_N1_TO_1": 1, "RESHAPE": 1,
    "RESIZE_BILINEAR": 4, "RESIZE_NEAREST_NEIGHBOR": 4, "ROUND": 1, "SELECT_V2": 1, "SIN": 1, "SLICE": 6,
    "SOFTMAX": 3, "SPACE_TO_DEPTH": 2, "SPLIT": 4, "SPLIT_V": 2, "SQRT": 1, "STRIDED_SLICE": 8, "SUB": 5,
    "SUM": 2, "TANH": 3, "TRANSPOSE": 6, "TRANSPOSE_CONV": 4,
}  # fmt: skip
_LITERT_2 = {
    **_TFLITE_2_14,
    "CONCATENATION": 5, "CONV_2D": 8, "DEQUANTIZE": 8, "FULLY_CONNECTED": 14, "PAD": 5, "PADV2": 5,
    "QUANTIZE": 5, "SLICE": 7, "SQRT": 2, "TRANSPOSE": 7, "TRANSPOSE_CONV": 5,
}  # fmt: skip
# Kernels of the microcontroller runtime read no versions.
_MICRO_MISSING = frozenset(["GELU", "POW", "REDUCE_MIN", "REDUCE_PROD", "RELU_N1_TO_1"])
_ANY = 99
MOST_JOINED_BY_MICRO = 10

RUNTIMES: dict[str, dict[str, int]] = {
    "litert": _LITERT_2,
    "tflite-runtime==2.14": _TFLITE_2_14,
    "tflm": {code: _ANY for code in _TFLITE_2_14 if code not in _MICRO_MISSING},
}


def check_runtime(model: Model, runtime: str) -> None:
    """Raises ConversionError that names each operator which the runtime does not know as we write it."""
    found = [(operator.source, problem(operator, runtime)) for operator in model.operators]
    problems = [f"{source}: {what}" for source, what in found if what]
    if problems:
        what = f"{runtime} cannot run {len(problems)} of the operators:\n  " + "\n  ".join(problems)
        raise ConversionError(what, fix="choose another runtime, or replace these operations in the model")


def require_known(runtime: str) -> None:
    """Raises UsageError for a runtime that is not in RUNTIMES."""
    if runtime not in RUNTIMES:
        raise UsageError(f"runtime {runtime!r} is not known", fix=f"choose one of: {', '.join(RUNTIMES)}")


def problem(operator: Operator, runtime: str) -> str:
    """Why a runtime of RUNTIMES cannot run the operator as we write it; empty where it can."""
    known, is_micro, version = RUNTIMES[runtime], runtime == "tflm", lowest_version(operator)
    if operator.code not in known:
        return f"it has no {operator.code}"
    if version > known[operator.code]:
        return f"it knows {operator.code} up to version {known[operator.code]}, this is version {version}"
    if is_micro and operator.code == "TRANSPOSE" and len(operator.outputs[0].shape) > 5:
        return "it has no TRANSPOSE of more than 5 axes"
    if is_micro and operator.code == "DEQUANTIZE" and version == 5:
        return "it has no DEQUANTIZE with one scale a channel"
    if is_micro and operator.code == "CONCATENATION" and len(operator.inputs) > MOST_JOINED_BY_MICRO:
        return f"it has no CONCATENATION of more than {MOST_JOINED_BY_MICRO} inputs"
    types = [tensor.dtype for tensor in operator.inputs[:2] if tensor is not None]
    if is_micro and ("float16" in types or types == ["float32", "int8"]):
        return f"it has no {operator.code} of {' and '.join(types)}"
    return ""
