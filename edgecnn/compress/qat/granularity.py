"""One scale for all weights of a layer, in place of one a channel."""

from __future__ import annotations

import numpy as np
import onnx

from edgecnn.compress.qat.graph import QuantizedConstant, read_graph
from edgecnn.export.onnx_constants import Constants, bias_integers

LARGEST = 127


def per_tensor(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the QDQ `model` whose weights and biases have one scale a layer.

    In a .tflite file the scale and zero point of a channel take 12 bytes, 16 where its bias has a scale of its
    own. Training must make up for the steps that are too wide for some channels.
    Raises QuantizationError for a graph that cannot be trained quantized.
    """
    graph = read_graph(model)
    written = onnx.ModelProto()
    written.CopyFrom(model)
    constants = Constants(written)
    scales = {name: _widest(weights) for name, weights in graph.weights.items() if weights.axis is not None}
    for name, scale in scales.items():
        integers = np.clip(np.rint(graph.weights[name].values / scale), -LARGEST, LARGEST).astype(np.int8)
        constants.requantize(name, integers, scale)
    for layer in written.graph.node:
        data, weights, bias = (*layer.input, "", "", "")[:3]
        if weights in scales and bias in graph.biases:
            scale = np.float32(graph.scales[graph.scale_of[data]]) * scales[weights]
            constants.requantize(bias, bias_integers(graph.biases[bias].values, scale), scale)
    constants.write()
    return written


def _widest(weights: QuantizedConstant) -> np.float32:
    """The largest scale of all channels that are not zeros: these have any scale."""
    used = np.moveaxis(weights.values, weights.axis or 0, 0).reshape(weights.scales.size, -1).any(axis=1)
    result: np.float32 = (weights.scales[used] if used.any() else weights.scales).max()
    return result
