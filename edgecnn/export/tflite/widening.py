"""Convolutions and pooling over one axis, as in networks for sound and sensors, become those over two."""

from __future__ import annotations

import numpy as np

from edgecnn.export.tflite.graph import Graph, Node, Value

_OPERATIONS = ("Conv", "ConvTranspose", "MaxPool", "AveragePool")
# Per-axis attributes, and what they are for an axis of size 1.
_NEUTRAL = {"kernel_shape": 1, "strides": 1, "dilations": 1, "output_padding": 0}


def widen(graph: Graph) -> None:
    """[N, C, L] becomes [N, C, 1, L] before each such node, and back after it."""
    for node in list(graph.nodes):
        if node.op not in _OPERATIONS or len(node.data_input().shape) != 3 or len(node.outputs) != 1:
            continue
        source, output = node.data_input(), node.output
        wide_source, wide_output = _widened(source), _widened(output)
        axes = Value(f"{node.name}_axes", (1,), "int64", np.array([2]))
        node.inputs[0], node.outputs = wide_source, [wide_output]
        weights = node.input(1)
        if weights is not None and weights.is_constant:
            node.inputs[1] = _widened(weights)
        for name, neutral in _NEUTRAL.items():
            if name in node.attributes:
                node.attributes[name] = [neutral, *node.attributes[name]]
        if "pads" in node.attributes:
            before, after = node.attributes["pads"]
            node.attributes["pads"] = [0, before, 0, after]
        position = graph.nodes.index(node)
        graph.nodes.insert(position + 1, Node("Squeeze", [wide_output, axes], [output], {}, node.name))
        graph.nodes.insert(position, Node("Unsqueeze", [source, axes], [wide_source], {}, node.name))


def _widened(value: Value) -> Value:
    shape = (*value.shape[:2], 1, value.shape[2])
    data = None if value.data is None else value.data.reshape(shape)
    quantization = value.quantization
    assert quantization is None or quantization.axis in (None, 0, 1), value.name
    return Value(f"{value.name}_2d", shape, value.dtype, data, quantization)
