"""Biases that take back what quantization shifts: rounded weights move the mean of what a layer gives.

Source: M. Nagel et al., "Data-free quantization through weight equalization and bias correction", 2019, section
4.2; here the means are those of calibration images, layer after layer, with the layers before it corrected.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from edgecnn.analysis.matching import MatchedLayer, match
from edgecnn.analysis.quantization import tensors_of

# Means of a channel settle early.
N_IMAGES = 64


def correct_biases(qdq_model: onnx.ModelProto, float_model: onnx.ModelProto, images_nchw: NDArray[Any]) -> int:
    """Moves the int32 biases of `qdq_model`, in place: every channel of every layer gets the mean of
    `float_model` over the first of the float32 `images_nchw` [n, c, h, w]. How many layers were corrected.
    """
    images = images_nchw[:N_IMAGES]
    constants = {tensor.name: tensor for tensor in qdq_model.graph.initializer}
    corrected = 0
    layers = match(float_model.graph, qdq_model.graph).layers
    wanted = _means(float_model, [layer.float_output for layer in layers], images)
    for layer, exact in zip(layers, wanted, strict=True):
        bias = _quantized_bias(qdq_model.graph, layer)
        if bias is None or bias.input[0] not in constants:
            continue
        (found,) = _means(qdq_model, [layer.qdq_output], images)
        steps = numpy_helper.to_array(constants[bias.input[0]])
        scale = numpy_helper.to_array(constants[bias.input[1]]).astype(np.float64)
        moved = np.rint(steps + (exact - found) / scale)
        limits = np.iinfo(np.int32)
        moved = np.clip(moved, limits.min, limits.max).astype(np.int32)
        constants[bias.input[0]].CopyFrom(numpy_helper.from_array(moved, bias.input[0]))
        corrected += 1
    return corrected


def _quantized_bias(graph: onnx.GraphProto, layer: MatchedLayer) -> onnx.NodeProto | None:
    """What dequantizes the int32 bias of `layer`; None for one without a bias, or with one in float32."""
    made_by = {name: node for node in graph.node for name in node.output}
    node = made_by[layer.qdq_output]
    maker = made_by.get(node.input[2]) if len(node.input) > 2 else None
    return maker if maker is not None and maker.op_type == "DequantizeLinear" else None


def _means(model: onnx.ModelProto, names: list[str], images: NDArray[Any]) -> list[NDArray[Any]]:
    """The mean of each channel of the tensors `names` [n, channels, ...] over `images`: float64 [channels]."""
    sums: list[NDArray[Any] | float] = [0.0] * len(names)
    for values in tensors_of(model, names, images):
        for position, value in enumerate(values):
            by_channel = value.reshape(*value.shape[:2], -1).astype(np.float64)
            sums[position] = sums[position] + by_channel.mean(axis=2).sum(axis=0)
    return [np.asarray(total) / len(images) for total in sums]
