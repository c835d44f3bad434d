"""Pooling over windows, and reductions over whole axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.export.tflite.folding import reduced_axes
from edgecnn.export.tflite.graph import Node, Value
from edgecnn.export.tflite.lowering.activations import emit_then_requantize
from edgecnn.export.tflite.lowering.context import NHWC, Lowering, natural, without
from edgecnn.export.tflite.lowering.convolution import (
    Window,
    activation_of,
    is_same,
    pad,
    pad_for,
    window_of,
)
from edgecnn.export.tflite.lowering.parameters import bias_tensor
from edgecnn.export.tflite.model import Quantization, Tensor
from edgecnn.export.tflite.problems import Unsupported
from edgecnn.export.tflite.quantization import LARGEST_COARSENING
from edgecnn.export.tflite.schema import PADDINGS

# Bytes of weights that single rounding is worth.
_MOST_AVERAGING_WEIGHTS = 2048
_LOWEST = float(np.finfo(np.float32).min)


def _pool_window(node: Node) -> Window:
    kernel = tuple(node.attributes["kernel_shape"])
    if len(kernel) != 2:
        raise Unsupported(f"pooling over {len(kernel)} axes is not converted, only over 2")
    if any(dilation != 1 for dilation in node.attributes.get("dilations", (1, 1))):
        raise Unsupported("dilated pooling has no TFLite equivalent")
    if len(node.outputs) > 1:
        raise Unsupported("the indices of the maxima are not converted")
    return window_of(node, (kernel[0], kernel[1]))


def _pool_options(node: Node, window: Window) -> dict[str, int]:
    height, width = window.kernel
    return {"filter_h": height, "filter_w": width, "activation": activation_of(node), **window.options}


def max_pool(lower: Lowering, node: Node) -> None:
    """MaxPool; integers keep their scale."""
    window = _pool_window(node)
    data = lower.tensor_in(node.data_input(), NHWC)
    if data.quantization is not None:
        data = lower.requantize(data, node.output.quantization, "its input and output have different scales")
    fill = None if _is_never_negative(lower, node.data_input(), data) else _LOWEST
    data, padding = pad_for(lower, node, data, window, fill)
    output = lower.result(node.output, NHWC)
    lower.emit("MAX_POOL_2D", [data], output, padding=padding, **_pool_options(node, window))


def _is_never_negative(lower: Lowering, value: Value, data: Tensor) -> bool:
    """Whether zero is as good as the lowest number to pad with: PAD is known to more delegates than PADV2."""
    if data.quantization is not None:
        return int(data.quantization.zero_point[0]) == np.iinfo(data.dtype).min
    producer = lower.producers.get(value)
    if producer is None:
        return False
    return producer.op in ("Relu", "Sigmoid") or producer.attributes.get("activation") in ("RELU", "RELU6")


def average_pool(lower: Lowering, node: Node) -> None:
    """AveragePool. TFLite never counts padding: where ONNX's count of a window differs, a MUL corrects it.

    The integer kernel gives its result in the scale of its input, whatever the file says: see
    `_average_rescaled`.
    """
    window = _pool_window(node)
    data = lower.tensor_in(node.data_input(), NHWC)
    output = lower.result(node.output, NHWC)
    in_size, out_size = (data.shape[1], data.shape[2]), (output.shape[1], output.shape[2])
    counts, real_counts = _counts(node, window, in_size, out_size), _real_counts(window, in_size, out_size)
    is_full = bool(np.all(counts == window.kernel[0] * window.kernel[1]))
    rescaled = data.quantization is not None and not data.quantization.same_as(
        output.quantization or data.quantization
    )
    if rescaled and is_full:
        _average_rescaled(lower, node, _padded(lower, data, window), output, window)
    elif is_same(window, in_size, out_size) and np.array_equal(counts, real_counts):
        _emit_average(lower, node, data, output, window, PADDINGS["SAME"])
    elif is_full:
        _emit_average(lower, node, _padded(lower, data, window), output, window, PADDINGS["VALID"])
    elif data.quantization is not None:
        _corrected_in_float(lower, node, data, output, window, counts)
    else:
        _corrected(lower, node, _padded(lower, data, window), output, window, counts)


def _average_rescaled(lower: Lowering, node: Node, data: Tensor, output: Tensor, window: Window) -> None:
    """Integers whose mean has another scale. MEAN and a depthwise convolution with equal weights round
    once, into the right scale; where there is no MEAN and the weights would be many, the pooling is
    requantized.
    """
    n_weights = data.shape[3] * window.kernel[0] * window.kernel[1]
    if window.kernel == data.shape[1:3] and not activation_of(node):
        lower.emit("MEAN", [data, lower.vector((1, 2))], output, keep_dims=True)
    elif n_weights <= _MOST_AVERAGING_WEIGHTS or _too_coarse(data, output):
        _average_by_convolution(lower, node, data, output, window)
    else:
        _emit_average(lower, node, data, output, window, PADDINGS["VALID"])


def _too_coarse(data: Tensor, output: Tensor) -> bool:
    assert data.quantization is not None and output.quantization is not None
    return bool(data.quantization.scale[0] > LARGEST_COARSENING * output.quantization.scale[0])


def _padded(lower: Lowering, data: Tensor, window: Window) -> Tensor:
    top, left, bottom, right = window.pads
    return pad(lower, data, [(0, 0), (top, bottom), (left, right), (0, 0)]) if any(window.pads) else data


def _emit_average(
    lower: Lowering, node: Node, data: Tensor, output: Tensor, window: Window, padding: int
) -> None:
    options = {"padding": padding, **_pool_options(node, window)}
    if data.quantization is None:
        lower.emit("AVERAGE_POOL_2D", [data], output, **options)
    else:
        emit_then_requantize(lower, "AVERAGE_POOL_2D", [data], output, data.quantization, **options)


def _corrected(
    lower: Lowering, node: Node, data: Tensor, output: Tensor, window: Window, counts: NDArray[Any]
) -> None:
    """The average over the padded windows, times window size / count."""
    full = window.kernel[0] * window.kernel[1]
    means = lower.temporary(output)
    options = {**_pool_options(node, window), "activation": 0, "padding": PADDINGS["VALID"]}
    lower.emit("AVERAGE_POOL_2D", [data], means, **options)
    factors = lower.constant((full / counts).astype(np.float32)[:, :, None])
    lower.emit("MUL", [means, factors], output, activation=activation_of(node))


def _corrected_in_float(
    lower: Lowering, node: Node, data: Tensor, output: Tensor, window: Window, counts: NDArray[Any]
) -> None:
    """As an integer, the correction would cost precision: it is done in float32 between two conversions."""
    real, result = (lower.temporary(tensor, dtype="float32", quantization=None) for tensor in (data, output))
    lower.emit("DEQUANTIZE", [data], real)
    _corrected(lower, node, _padded(lower, real, window), result, window, counts)
    lower.emit("QUANTIZE", [result], output)
    lower.note(f"{node.op} {node.name} runs in float32: it leaves the padding out of its counts")


def _average_by_convolution(lower: Lowering, node: Node, data: Tensor, output: Tensor, window: Window) -> None:
    assert data.quantization is not None
    channels, n_elements = data.shape[3], window.kernel[0] * window.kernel[1]
    scale = Quantization.per_tensor(1 / n_elements / 127, 0)
    ones = Value(
        "", (channels, 1, *window.kernel), "int8", np.full((channels, 1, *window.kernel), 127, np.int8), scale
    )
    bias = bias_tensor(lower, None, data, ones, channels)
    kernel = lower.constant_in(ones, (1, 2, 3, 0))
    options = {"padding": PADDINGS["VALID"], "depth_multiplier": 1, "activation": activation_of(node)}
    lower.emit("DEPTHWISE_CONV_2D", [data, kernel, bias], output, **options, **window.options)


def _counts(node: Node, window: Window, in_size: tuple[int, int], out_size: tuple[int, int]) -> NDArray[Any]:
    """How many elements ONNX divides each window's sum by, [height, width]."""
    if not node.attributes.get("count_include_pad"):
        return _real_counts(window, in_size, out_size)
    given = node.attributes.get("pads", (0, 0, 0, 0))
    padded = [in_size[axis] + window.pads[axis] + given[2 + axis] for axis in (0, 1)]
    return _window_counts(window, (0, 0), (padded[0], padded[1]), out_size)


def _real_counts(window: Window, in_size: tuple[int, int], out_size: tuple[int, int]) -> NDArray[Any]:
    """How many elements of each window lie inside the image."""
    return _window_counts(window, (window.pads[0], window.pads[1]), in_size, out_size)


def _window_counts(
    window: Window, before: tuple[int, int], size: tuple[int, int], out_size: tuple[int, int]
) -> NDArray[Any]:
    per_axis = []
    for axis in (0, 1):
        first = np.arange(out_size[axis]) * window.strides[axis] - before[axis]
        last = np.minimum(first + window.kernel[axis], size[axis])
        per_axis.append(np.maximum(last - np.maximum(first, 0), 1))
    return np.outer(per_axis[0], per_axis[1])


def global_average_pool(lower: Lowering, node: Node) -> None:
    _reduce(lower, node, "MEAN", tuple(range(2, len(node.data_input().shape))), keep=True, same_scale=False)


def reduction(code: str, *, same_scale: bool = False) -> Callable[[Lowering, Node], None]:
    """The lowering of a reduction over axes. `same_scale`: its integer kernel keeps the scale."""

    def lower_reduction(lower: Lowering, node: Node) -> None:
        axes = reduced_axes(node.attributes, [None, node.constant(1)], len(node.data_input().shape))
        if not axes:
            raise Unsupported("a reduction over no axes is not converted")
        _reduce(lower, node, code, axes, keep=bool(node.attributes.get("keepdims", 1)), same_scale=same_scale)

    return lower_reduction


def _reduce(
    lower: Lowering, node: Node, code: str, axes: tuple[int, ...], *, keep: bool, same_scale: bool
) -> None:
    source = lower.tensor(node.data_input())
    if source.columns is not None:
        source = lower.rearrange(source, natural(len(source.shape)))
    if same_scale and source.quantization is not None:
        source = lower.requantize(
            source, node.output.quantization, "its input and output have different scales"
        )
    memory_axes = sorted(source.permutation.index(axis) for axis in axes)
    permutation = source.permutation
    if not keep:
        permutation = without(permutation, axes)
    output: Tensor = lower.result(node.output, permutation)
    lower.emit(code, [source, lower.vector(memory_axes)], output, keep_dims=keep)
