"""What each TFLite operator should give, in exact arithmetic: integers and float64, nothing of any runtime.

Written from TFLite's quantization specification and operator documentation, not from the converter: a .tflite
file is read back from its bytes, its integers become the real numbers that they stand for, operators work on
these without rounding, and only what an operator hands on is rounded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

TYPES = {0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 6: "bool", 9: "int8"}
Options = Any
Arrays = list[Any]
Exact = Callable[[Options, Arrays], Any]


class Tensor:
    """A tensor of the file: its scale and zero point broadcast against its elements."""

    def __init__(self, record: Any, buffers: list[Any]) -> None:
        self.shape = tuple(int(size) for size in (record.shape if record.shape is not None else ()))
        self.dtype = np.dtype(TYPES[record.type])
        data, parameters = buffers[record.buffer].data, record.quantization
        self.data = None if data is None else np.frombuffer(bytes(data), self.dtype).reshape(self.shape)
        self.is_quantized = parameters is not None and parameters.scale is not None
        if self.is_quantized:
            shape = [1] * len(self.shape)
            if len(parameters.scale) > 1:
                shape[parameters.quantizedDimension] = -1
            self.scale = np.asarray(parameters.scale, np.float64).reshape(shape)
            self.zero_point = np.asarray(parameters.zeroPoint, np.int64).reshape(shape)

    def real(self, stored: np.ndarray) -> np.ndarray:
        """What the stored elements stand for."""
        if self.is_quantized:
            return (stored.astype(np.int64) - self.zero_point) * self.scale
        return stored.astype(np.float64) if self.dtype.kind == "f" else stored

    def stored(self, real: np.ndarray) -> np.ndarray:
        """Real numbers as the tensor holds them: the nearest integers, saturated."""
        if not self.is_quantized:
            return np.asarray(real, self.dtype)
        limits = np.iinfo(self.dtype)
        integers = np.rint(real / self.scale) + self.zero_point
        return np.clip(integers, limits.min, limits.max).astype(self.dtype)


class ExactModel:
    """A .tflite file as its definition has it."""

    def __init__(self, data: bytes) -> None:
        from ai_edge_litert import schema_py_generated as schema

        names = {number: name for name, number in vars(schema.BuiltinOperator).items() if name[0] != "_"}
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
        graph = model.subgraphs[0]
        self.tensors = [Tensor(record, model.buffers) for record in graph.tensors]
        self.inputs, self.outputs = list(graph.inputs), list(graph.outputs)
        self.operators = [
            (
                names[model.operatorCodes[operator.opcodeIndex].builtinCode],
                list(operator.inputs),
                list(operator.outputs),
                operator.builtinOptions,
            )
            for operator in graph.operators
        ]

    def run(self, arrays: list[np.ndarray], *, rounding: bool = True) -> list[np.ndarray]:
        """The outputs as they are stored. Without `rounding`, only the outputs are rounded."""
        known = {i: t.real(t.data) for i, t in enumerate(self.tensors) if t.data is not None}
        for i, array in zip(self.inputs, arrays, strict=True):
            known[i] = self.tensors[i].real(array)
        for code, inputs, outputs, options in self.operators:
            given = [known[i] if i >= 0 else None for i in inputs]
            shape = self.tensors[outputs[0]].shape
            results = EXACT[code](options, [*given, shape] if code in NEEDS_SHAPE else given)
            for i, result in zip(outputs, results if isinstance(results, list) else [results], strict=True):
                tensor = self.tensors[i]
                assert result.shape == tensor.shape, (code, result.shape, tensor.shape)
                known[i] = tensor.real(tensor.stored(result)) if rounding else result
        return [self.tensors[i].stored(known[i]) for i in self.outputs]


def option(options: Options, name: str, default: Any = 0) -> Any:
    """An option; a file without the table, or the field, means the default."""
    return getattr(options, name, default) if options is not None else default


def activated(options: Options, x: np.ndarray) -> np.ndarray:
    low, high = {0: (-np.inf, np.inf), 1: (0, np.inf), 2: (-1, 1), 3: (0, 6)}[
        option(options, "fusedActivationFunction")
    ]
    return np.clip(x, low, high)


def windows(x: np.ndarray, kernel: tuple[int, int], options: Options, fill: float) -> np.ndarray:
    """[batch, out height, out width, channels, kernel height, kernel width] of NHWC images."""
    strides = (option(options, "strideH"), option(options, "strideW"))
    dilations = (option(options, "dilationHFactor", 1), option(options, "dilationWFactor", 1))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    pads = [(0, 0)] * 4
    if option(options, "padding") == 0:  # SAME
        for axis in (0, 1):
            size = x.shape[1 + axis]
            out = -(-size // strides[axis])
            total = max((out - 1) * strides[axis] + reach[axis] - size, 0)
            pads[1 + axis] = (total // 2, total - total // 2)
    padded = np.pad(x, pads, constant_values=fill)
    view = np.lib.stride_tricks.sliding_window_view(padded, reach, (1, 2))
    return view[:, :: strides[0], :: strides[1], :, :: dilations[0], :: dilations[1]]


def conv(options: Options, arrays: Arrays) -> np.ndarray:
    x, weights, bias = arrays
    seen = windows(x, weights.shape[1:3], options, 0.0)
    return activated(options, np.einsum("nhwcij,oijc->nhwo", seen, weights, optimize=True) + bias)


def depthwise(options: Options, arrays: Arrays) -> np.ndarray:
    x, weights, bias = arrays
    seen = windows(x, weights.shape[1:3], options, 0.0)
    per_channel = weights[0].reshape(*weights.shape[1:3], x.shape[3], -1)
    result = np.einsum("nhwcij,ijcm->nhwcm", seen, per_channel, optimize=True)
    return activated(options, result.reshape(*result.shape[:3], -1) + bias)


def transpose_conv(options: Options, arrays: Arrays) -> np.ndarray:
    shape, weights, x, bias = (*arrays, None)[:4]
    stride = (option(options, "strideH"), option(options, "strideW"))
    kernel = weights.shape[1:3]
    full = np.zeros((x.shape[0], *((x.shape[1 + a] - 1) * stride[a] + kernel[a] for a in (0, 1)), shape[3]))
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            rows = slice(i, i + (x.shape[1] - 1) * stride[0] + 1, stride[0])
            columns = slice(j, j + (x.shape[2] - 1) * stride[1] + 1, stride[1])
            full[:, rows, columns] += np.einsum("nhwc,oc->nhwo", x, weights[:, i, j])
    begin = [(full.shape[1 + a] - shape[1 + a]) // 2 if option(options, "padding") == 0 else 0 for a in (0, 1)]
    cut = full[:, begin[0] : begin[0] + shape[1], begin[1] : begin[1] + shape[2]]
    return activated(options, cut if bias is None else cut + bias)


def fully_connected(options: Options, arrays: Arrays) -> np.ndarray:
    x, weights, bias = arrays
    keep = option(options, "keepNumDims", False)
    rows = x if keep else x.reshape(-1, weights.shape[1])
    return activated(options, rows @ weights.T + (0 if bias is None else bias))


def average_pool(options: Options, arrays: Arrays) -> np.ndarray:
    seen = windows(arrays[0], (options.filterHeight, options.filterWidth), options, np.nan)
    return activated(options, np.nanmean(seen, (4, 5)))


def max_pool(options: Options, arrays: Arrays) -> np.ndarray:
    seen = windows(arrays[0], (options.filterHeight, options.filterWidth), options, -np.inf)
    return activated(options, seen.max((4, 5)))


def reduced(function: Callable[..., np.ndarray]) -> Exact:
    return lambda options, a: function(
        a[0], axis=tuple(int(i) for i in a[1]), keepdims=bool(option(options, "keepDims", False))
    )


def binary(function: Callable[..., np.ndarray]) -> Exact:
    return lambda options, a: activated(options, function(a[0], a[1]))


def softmax(options: Options, arrays: Arrays) -> np.ndarray:
    x = arrays[0] * option(options, "beta", 0.0)
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def log_softmax(_: Options, arrays: Arrays) -> np.ndarray:
    x = arrays[0] - arrays[0].max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def padded(options: Options, arrays: Arrays) -> np.ndarray:
    fill = arrays[2].reshape(-1)[0] if len(arrays) > 2 else 0.0
    return np.pad(arrays[0], arrays[1], constant_values=fill)


def split_at(axis: np.ndarray, x: np.ndarray, sizes: list[int]) -> list[np.ndarray]:
    return np.split(x, np.cumsum(sizes)[:-1], int(np.reshape(axis, -1)[0]))


def split(options: Options, arrays: Arrays) -> list[np.ndarray]:
    axis, x = arrays
    n = options.numSplits
    return split_at(axis, x, [x.shape[int(np.reshape(axis, -1)[0])] // n] * n)


def sliced(_: Options, arrays: Arrays) -> np.ndarray:
    x, begin, size = arrays
    return x[tuple(slice(b, b + s if s >= 0 else None) for b, s in zip(begin, size, strict=True))]


def strided_slice(_: Options, arrays: Arrays) -> np.ndarray:
    x, begin, end, step = arrays
    return x[tuple(slice(*limits) for limits in zip(begin, end, step, strict=True))]


def positions(options: Options, size: int, out: int, *, bilinear: bool) -> np.ndarray:
    """Where output pixels lie in the input; the specification computes them in float32."""
    align, half = option(options, "alignCorners", False), option(options, "halfPixelCenters", False)
    over, under = (size - 1, out - 1) if align and out > 1 else (size, out)
    scale = np.float32(over) / np.float32(under)
    x = np.arange(out, dtype=np.float32)
    if bilinear:
        return (x + np.float32(0.5)) * scale - np.float32(0.5) if half else x * scale
    x = (x + np.float32(0.5 if half else 0)) * scale
    return np.floor(x + np.float32(0.5)) if align else np.floor(x)


def resize_nearest(options: Options, arrays: Arrays) -> np.ndarray:
    x = arrays[0]
    for axis, out in zip((1, 2), arrays[1], strict=True):
        size = x.shape[axis]
        chosen = np.clip(positions(options, size, int(out), bilinear=False), 0, size - 1).astype(int)
        x = np.take(x, chosen, axis)
    return x


def resize_bilinear(options: Options, arrays: Arrays) -> np.ndarray:
    x = arrays[0]
    for axis, out in zip((1, 2), arrays[1], strict=True):
        size = x.shape[axis]
        at = np.clip(positions(options, size, int(out), bilinear=True).astype(np.float64), 0, size - 1)
        low = np.floor(at).astype(int)
        weight = (at - low).reshape([-1 if a == axis else 1 for a in range(4)])
        high = np.minimum(low + 1, size - 1)
        x = np.take(x, low, axis) * (1 - weight) + np.take(x, high, axis) * weight
    return x


def depth_to_space(options: Options, arrays: Arrays) -> np.ndarray:
    block = options.blockSize
    n, height, width, channels = arrays[0].shape
    blocks = arrays[0].reshape(n, height, width, block, block, channels // block**2)
    return blocks.transpose(0, 1, 3, 2, 4, 5).reshape(n, height * block, width * block, -1)


def space_to_depth(options: Options, arrays: Arrays) -> np.ndarray:
    block = options.blockSize
    n, height, width, channels = arrays[0].shape
    blocks = arrays[0].reshape(n, height // block, block, width // block, block, channels)
    return blocks.transpose(0, 1, 3, 2, 4, 5).reshape(n, height // block, width // block, -1)


def leaky_relu(options: Options, arrays: Arrays) -> np.ndarray:
    return np.where(arrays[0] > 0, arrays[0], arrays[0] * option(options, "alpha", 0.0))


def same(_: Options, arrays: Arrays) -> np.ndarray:
    return arrays[0]


# These say the shape of their result nowhere but in the result.
NEEDS_SHAPE = frozenset(["RESHAPE"])

EXACT: dict[str, Exact] = {
    "ADD": binary(np.add),
    "AVERAGE_POOL_2D": average_pool,
    "BATCH_MATMUL": lambda _, a: a[0] @ a[1],
    "BROADCAST_TO": lambda _, a: np.broadcast_to(a[0], a[1]),
    "CONCATENATION": lambda options, a: np.concatenate(a, option(options, "axis")),
    "CONV_2D": conv,
    "DEPTHWISE_CONV_2D": depthwise,
    "DEPTH_TO_SPACE": depth_to_space,
    "DEQUANTIZE": same,
    "DIV": binary(np.divide),
    "EXP": lambda _, a: np.exp(a[0]),
    "FULLY_CONNECTED": fully_connected,
    "GATHER": lambda options, a: np.take(a[0], a[1], option(options, "axis")),
    "HARD_SWISH": lambda _, a: a[0] * np.clip(a[0] + 3, 0, 6) / 6,
    "LEAKY_RELU": leaky_relu,
    "LOGISTIC": lambda _, a: 1 / (1 + np.exp(-a[0])),
    "LOG_SOFTMAX": log_softmax,
    "MAXIMUM": lambda _, a: np.maximum(a[0], a[1]),
    "MAX_POOL_2D": max_pool,
    "MEAN": reduced(np.mean),
    "MINIMUM": lambda _, a: np.minimum(a[0], a[1]),
    "MIRROR_PAD": lambda options, a: np.pad(
        a[0], a[1], mode="symmetric" if option(options, "mode") else "reflect"
    ),
    "MUL": binary(np.multiply),
    "PAD": padded,
    "PADV2": padded,
    "PRELU": lambda _, a: np.where(a[0] > 0, a[0], a[0] * a[1]),
    "QUANTIZE": same,
    "REDUCE_MAX": reduced(np.max),
    "REDUCE_MIN": reduced(np.min),
    "RESHAPE": lambda _, a: a[0].reshape(a[-1]),
    "RESIZE_BILINEAR": resize_bilinear,
    "RESIZE_NEAREST_NEIGHBOR": resize_nearest,
    "SLICE": sliced,
    "SOFTMAX": softmax,
    "SPACE_TO_DEPTH": space_to_depth,
    "SPLIT": split,
    "SPLIT_V": lambda _, a: split_at(a[2], a[0], [int(n) for n in a[1]]),
    "STRIDED_SLICE": strided_slice,
    "SUB": binary(np.subtract),
    "TANH": lambda _, a: np.tanh(a[0]),
    "TRANSPOSE": lambda _, a: np.transpose(a[0], a[1]),
    "TRANSPOSE_CONV": transpose_conv,
}
