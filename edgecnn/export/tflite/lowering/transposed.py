"""ConvTranspose -> TRANSPOSE_CONV."""

from __future__ import annotations

import numpy as np

from edgecnn.export.tflite.graph import Node, Value
from edgecnn.export.tflite.lowering.context import NHWC, Lowering
from edgecnn.export.tflite.lowering.parameters import bias_tensor, kernel_tensor, symmetric_weights
from edgecnn.export.tflite.model import Tensor
from edgecnn.export.tflite.problems import Unsupported
from edgecnn.export.tflite.schema import PADDINGS


def conv_transpose(lower: Lowering, node: Node) -> None:
    """ConvTranspose; groups are split, convolved and joined. TFLite dilates no kernel: zeros are put in it."""
    weights = node.data_input(1)
    if not weights.is_constant or len(weights.shape) != 4:
        raise Unsupported("only constant weights over 2 axes are converted")
    data = lower.tensor_in(node.data_input(), NHWC)
    weights = _dilated(symmetric_weights(lower, weights, data), node.attributes.get("dilations", (1, 1)))
    groups = node.attributes.get("group", 1)
    output = lower.result(node.output, NHWC)
    if groups == 1:
        _convolve(lower, node, data, weights, node.input(2), output)
        return
    parts = [lower.temporary(data, shape=(*data.shape[:3], data.shape[3] // groups)) for _ in range(groups)]
    lower.emit("SPLIT", [lower.constant(np.array(3, np.int32)), data], parts, num_splits=groups)
    results = []
    for group, part in enumerate(parts):
        result = lower.temporary(output, shape=(*output.shape[:3], output.shape[3] // groups))
        own_weights, bias = _channels(weights, group, groups), _channels(node.input(2), group, groups)
        assert own_weights is not None
        _convolve(lower, node, part, own_weights, bias, result)
        results.append(result)
    lower.emit("CONCATENATION", [*results], output, axis=3)


def _channels(value: Value | None, group: int, groups: int) -> Value | None:
    """The part of weights or of a bias, along axis 0, that belongs to a group."""
    if value is None or value.data is None:
        return value
    n = value.shape[0] // groups
    channels = slice(group * n, (group + 1) * n)
    quantization = value.quantization
    if quantization is not None and quantization.axis == 0:
        quantization = quantization.chosen(channels)
        if len(value.shape) == 4 and n == 1:
            quantization = quantization.along(None)  # of one channel there is one scale
    return Value(value.name, (n, *value.shape[1:]), value.dtype, value.data[channels], quantization)


def _dilated(weights: Value, dilations: tuple[int, int]) -> Value:
    """The kernel with dilation - 1 zeros between its elements."""
    if tuple(dilations) == (1, 1):
        return weights
    assert weights.data is not None
    size = [(k - 1) * d + 1 for k, d in zip(weights.shape[2:], dilations, strict=True)]
    data = np.zeros((*weights.shape[:2], *size), weights.data.dtype)
    data[:, :, :: dilations[0], :: dilations[1]] = weights.data
    return Value(weights.name, data.shape, weights.dtype, data, weights.quantization)


def _convolve(
    lower: Lowering, node: Node, data: Tensor, weights: Value, bias: Value | None, output: Tensor
) -> None:
    """One TRANSPOSE_CONV. Pads that SAME does not give are cut off the full result."""
    strides = node.attributes.get("strides", (1, 1))
    size, out = node.data_input().shape[2:], node.output.shape[2:]
    full = [(size[axis] - 1) * strides[axis] + weights.shape[2 + axis] for axis in (0, 1)]
    begin = _crop_begin(node, full, out)
    constant = bias_tensor(lower, bias, data, _output_channels_first(weights), weights.shape[1])
    kernel = kernel_tensor(lower, weights, (1, 2, 3, 0), data)
    same = all(full[axis] >= out[axis] and begin[axis] == (full[axis] - out[axis]) // 2 for axis in (0, 1))
    same = same and all(-(-out[axis] // strides[axis]) == size[axis] for axis in (0, 1))
    whole = output if same else lower.temporary(output, shape=(output.shape[0], *full, output.shape[3]))
    options = {"padding": PADDINGS["SAME" if same else "VALID"], "stride_h": strides[0], "stride_w": strides[1]}
    lower.emit("TRANSPOSE_CONV", [lower.vector(whole.shape), kernel, data, constant], whole, **options)
    if not same:
        lower.emit("SLICE", [whole, lower.vector((0, *begin, 0)), lower.vector(output.shape)], output)


def _crop_begin(node: Node, full: list[int], out: tuple[int, ...]) -> list[int]:
    """How many rows and columns of the full result lie before the output."""
    auto = node.attributes.get("auto_pad", "NOTSET")
    pads = node.attributes.get("pads", (0, 0, 0, 0))
    begin = []
    for axis in (0, 1):
        total = full[axis] - out[axis]
        if auto in ("NOTSET", ""):
            begin.append(pads[axis])
        else:
            begin.append((total + 1) // 2 if auto == "SAME_LOWER" else total // 2)
        if begin[axis] + out[axis] > full[axis]:
            raise Unsupported("an output padding beyond the reach of the kernel is not converted")
    return begin


def _output_channels_first(weights: Value) -> Value:
    """The weights as far as the bias is concerned: its scales lie along axis 0."""
    quantization = weights.quantization
    if quantization is not None and quantization.axis is not None:
        if quantization.axis != 1:
            raise Unsupported("its weights have one scale an input channel, not one an output channel")
        quantization = quantization.along(0)
    return Value(weights.name, weights.shape, weights.dtype, weights.data, quantization)
