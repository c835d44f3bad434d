"""ConvTranspose -> TRANSPOSE_CONV."""

from __future__ import annotations

from edgecnn.export.tflite.graph import Node, Value
from edgecnn.export.tflite.lowering.context import NHWC, Lowering
from edgecnn.export.tflite.lowering.parameters import bias_tensor, kernel_tensor, symmetric_weights
from edgecnn.export.tflite.reader import Unsupported
from edgecnn.export.tflite.schema import PADDINGS


def conv_transpose(lower: Lowering, node: Node) -> None:
    """ConvTranspose of one group. Pads that SAME does not give are cut off the full result."""
    weights = node.data_input(1)
    if not weights.is_constant or len(weights.shape) != 4:
        raise Unsupported("only constant weights over 2 axes are converted")
    if node.attributes.get("group", 1) != 1 or any(d != 1 for d in node.attributes.get("dilations", (1, 1))):
        raise Unsupported("groups and dilations have no TFLite equivalent")
    strides = node.attributes.get("strides", (1, 1))
    data = lower.tensor_in(node.data_input(), NHWC)
    size, out = node.data_input().shape[2:], node.output.shape[2:]
    full = [(size[axis] - 1) * strides[axis] + weights.shape[2 + axis] for axis in (0, 1)]
    begin = _crop_begin(node, full, out)
    weights = symmetric_weights(lower, weights, data)
    bias = bias_tensor(lower, node.input(2), data, _output_channels_first(weights), weights.shape[1])
    kernel = kernel_tensor(lower, weights, (1, 2, 3, 0), data)
    output = lower.result(node.output, NHWC)
    same = all(full[axis] >= out[axis] and begin[axis] == (full[axis] - out[axis]) // 2 for axis in (0, 1))
    same = same and all(-(-out[axis] // strides[axis]) == size[axis] for axis in (0, 1))
    whole = output if same else lower.temporary(output, shape=(output.shape[0], *full, output.shape[3]))
    options = {"padding": PADDINGS["SAME" if same else "VALID"], "stride_h": strides[0], "stride_w": strides[1]}
    lower.emit("TRANSPOSE_CONV", [lower.vector(whole.shape), kernel, data, bias], whole, **options)
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
