"""MaxPool -> MAX_POOL_2D."""

from __future__ import annotations

import numpy as np

from edgecnn.export.tflite.graph import Node
from edgecnn.export.tflite.lowering.context import NHWC, Lowering
from edgecnn.export.tflite.lowering.convolution import activation_of, pad_for, window_of
from edgecnn.export.tflite.reader import Unsupported

_LOWEST = float(np.finfo(np.float32).min)


def max_pool(lower: Lowering, node: Node) -> None:
    """MaxPool; input and output share one scale."""
    kernel = tuple(node.attributes["kernel_shape"])
    if len(kernel) != 2:
        raise Unsupported(f"pooling over {len(kernel)} axes is not converted, only over 2")
    if any(dilation != 1 for dilation in node.attributes.get("dilations", (1, 1))):
        raise Unsupported("dilated pooling has no TFLite equivalent")
    if len(node.outputs) > 1:
        raise Unsupported("the indices of the maxima are not converted")
    data = lower.tensor_in(node.data_input(), NHWC)
    if data.quantization is not None:
        data = lower.requantize(data, node.output.quantization, "its input and output have different scales")
    window = window_of(node, (kernel[0], kernel[1]))
    data, padding = pad_for(lower, node, data, window, fill=_LOWEST)
    output = lower.result(node.output, NHWC)
    options = {"filter_h": kernel[0], "filter_w": kernel[1], **window.options}
    lower.emit("MAX_POOL_2D", [data], output, padding=padding, activation=activation_of(node), **options)
