"""Conv -> CONV_2D, DEPTHWISE_CONV_2D."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgecnn.export.tflite.graph import Node, Value
from edgecnn.export.tflite.lowering.context import NHWC, Lowering
from edgecnn.export.tflite.lowering.parameters import (
    bias_tensor,
    channels_of,
    kernel_tensor,
    symmetric_weights,
)
from edgecnn.export.tflite.model import Tensor
from edgecnn.export.tflite.problems import Unsupported
from edgecnn.export.tflite.schema import ACTIVATIONS, PADDINGS


@dataclass(frozen=True)
class Window:
    """A sliding window over height and width. `pads` are (top, left, bottom, right)."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int]

    @property
    def options(self) -> dict[str, int]:
        return {"stride_h": self.strides[0], "stride_w": self.strides[1]}

    @property
    def dilation_options(self) -> dict[str, int]:
        return {"dilation_h": self.dilations[0], "dilation_w": self.dilations[1]}


def window_of(node: Node, kernel: tuple[int, int]) -> Window:
    """The window of a Conv or pooling node. Its pads are those that its output size needs: with `auto_pad`,
    with `ceil_mode`, and where the last rows are never reached.
    """
    strides = tuple(node.attributes.get("strides", (1, 1)))
    dilations = tuple(node.attributes.get("dilations", (1, 1)))
    given = tuple(node.attributes.get("pads", (0, 0, 0, 0)))
    auto = node.attributes.get("auto_pad", "NOTSET")
    before, after = [], []
    for axis in (0, 1):
        size, out = node.data_input().shape[2 + axis], node.output.shape[2 + axis]
        reach = (out - 1) * strides[axis] + (kernel[axis] - 1) * dilations[axis] + 1
        total = max(reach - size, 0)
        first = (
            given[axis] if auto in ("NOTSET", "") else total // 2 + (total % 2 if auto == "SAME_LOWER" else 0)
        )
        before.append(first)
        after.append(max(reach - size - first, 0))
    return Window(kernel, strides, dilations, (before[0], before[1], after[0], after[1]))


def is_same(window: Window, in_size: tuple[int, int], out_size: tuple[int, int]) -> bool:
    """Whether TFLite's SAME padding is the window's: as much before as after, the odd one after.

    Not where strides leave out the last rows or columns: VALID says the same there, and the XNNPACK of
    tflite-runtime 2.14 takes the negative sum of SAME's pads for a huge one.
    """
    for axis in (0, 1):
        if out_size[axis] != -(-in_size[axis] // window.strides[axis]):
            return False
        effective = (window.kernel[axis] - 1) * window.dilations[axis] + 1
        total = (out_size[axis] - 1) * window.strides[axis] + effective - in_size[axis]
        if total < 0 or window.pads[axis] != total // 2:
            return False
    return True


def pad_for(
    lower: Lowering, node: Node, data: Tensor, window: Window, fill: float | None = None
) -> tuple[Tensor, int]:
    """(the data, the padding option): SAME where it equals the ONNX pads, else a PAD before and VALID.

    `fill` is the real value to pad with, None for zero.
    """
    out_height_width = (node.output.shape[2], node.output.shape[3])
    if is_same(window, (data.shape[1], data.shape[2]), out_height_width):
        return data, PADDINGS["SAME"]
    if not any(window.pads):
        return data, PADDINGS["VALID"]
    top, left, bottom, right = window.pads
    return pad(lower, data, [(0, 0), (top, bottom), (left, right), (0, 0)], fill), PADDINGS["VALID"]


def pad(lower: Lowering, data: Tensor, pads: list[tuple[int, int]], fill: float | None = None) -> Tensor:
    """The data with that many elements before and after on each of its axes."""
    shape = tuple(size + before + after for size, (before, after) in zip(data.shape, pads, strict=True))
    padded = lower.temporary(data, shape=shape)
    if fill is None:
        lower.emit("PAD", [data, lower.vector(pads)], padded)
    else:
        value = np.full((), fill, np.float32)
        if data.quantization is not None:
            value = data.quantization.quantize(value, data.dtype)
        lower.emit(
            "PADV2", [data, lower.vector(pads), lower.constant(value, data.dtype, data.quantization)], padded
        )
    return padded


def activation_of(node: Node) -> int:
    return ACTIVATIONS[node.attributes.get("activation", "NONE")]


def conv(lower: Lowering, node: Node) -> None:
    """Conv of rank 4. Groups of one channel are depthwise; other groups are split, convolved and joined."""
    weights = node.data_input(1)
    if len(weights.shape) != 4:
        raise Unsupported(f"convolutions over {len(weights.shape) - 2} axes are not converted, only over 2")
    if not weights.is_constant:
        raise Unsupported("its weights are computed, not constant")
    data = lower.tensor_in(node.data_input(), NHWC)
    window = window_of(node, (weights.shape[2], weights.shape[3]))
    data, padding = pad_for(lower, node, data, window)
    options = {
        "padding": padding,
        "activation": activation_of(node),
        **window.options,
        **window.dilation_options,
    }
    groups, channels = node.attributes.get("group", 1), data.shape[3]
    if groups not in (1, channels) and data.quantization is None:
        weights = Value(weights.name, weights.shape, "float32", weights.numbers())  # to be split
    weights = symmetric_weights(lower, weights, data)
    bias = bias_tensor(lower, node.input(2), data, weights, weights.shape[0])
    output = lower.result(node.output, NHWC)
    if groups == channels != 1:
        options["depth_multiplier"] = weights.shape[0] // channels
        inputs = [data, kernel_tensor(lower, weights, (1, 2, 3, 0), data), bias]
        lower.emit("DEPTHWISE_CONV_2D", [*inputs], output, **options)
        return
    inputs = [data, kernel_tensor(lower, weights, (0, 2, 3, 1), data), bias]
    if groups == 1:
        lower.emit("CONV_2D", [*inputs], output, **options)
    else:
        _grouped(lower, inputs, output, groups, options)


def _grouped(
    lower: Lowering, inputs: list[Tensor], output: Tensor, groups: int, options: dict[str, int]
) -> None:
    """SPLIT, one CONV_2D a group, CONCATENATION: the runtimes differ in what they know of grouped CONV_2D."""
    data, weights, bias = inputs
    part = lower.temporary(data, shape=(*data.shape[:3], data.shape[3] // groups))
    parts = [lower.temporary(part) for _ in range(groups)]
    lower.emit("SPLIT", [lower.constant(np.array(3, np.int32)), data], parts, num_splits=groups)
    n_out = output.shape[3] // groups
    results = []
    for group, group_data in enumerate(parts):
        channels = slice(group * n_out, (group + 1) * n_out)
        result = lower.temporary(output, shape=(*output.shape[:3], n_out))
        kernel, group_bias = channels_of(lower, weights, channels), channels_of(lower, bias, channels)
        lower.emit("CONV_2D", [group_data, kernel, group_bias], result, **options)
        results.append(result)
    lower.emit("CONCATENATION", [*results], output, axis=3)
