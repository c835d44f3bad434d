"""DepthToSpace and SpaceToDepth: blocks of pixels that become channels, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.export.tflite.graph import Graph, Node, Value
from edgecnn.export.tflite.lowering.context import NHWC, Lowering
from edgecnn.export.tflite.lowering.movement import SAME_SCALE, take


def depth_to_space(lower: Lowering, node: Node) -> None:
    """TFLite takes a block's channels in the order of DCR: all of its first pixel, then all of the next."""
    block = node.attributes["blocksize"]
    source = lower.tensor_in(node.data_input(), NHWC)
    if source.quantization is not None:
        source = lower.requantize(source, node.output.quantization, SAME_SCALE)
    if node.attributes.get("mode", "DCR") == "CRD":
        source = take(lower, source, 3, _dcr_order(source.shape[3], block))
    lower.emit("DEPTH_TO_SPACE", [source], lower.result(node.output, NHWC), block_size=block)


def space_to_depth(lower: Lowering, node: Node) -> None:
    """ONNX and TFLite both give DCR order; CRD is what `patterns.name_pixel_unshuffle` asks for."""
    source = lower.tensor_in(node.data_input(), NHWC)
    if source.quantization is not None:
        source = lower.requantize(source, node.output.quantization, SAME_SCALE)
    block, output = node.attributes["blocksize"], lower.result(node.output, NHWC)
    if node.attributes.get("mode", "DCR") == "DCR":
        lower.emit("SPACE_TO_DEPTH", [source], output, block_size=block)
        return
    blocks = lower.temporary(output)
    lower.emit("SPACE_TO_DEPTH", [source], blocks, block_size=block)
    order = np.argsort(_dcr_order(output.shape[3], block))
    lower.rename(node.output, take(lower, blocks, 3, order), NHWC)


def _dcr_order(channels: int, block: int) -> NDArray[Any]:
    """Which channel of CRD order stands at each place of DCR order."""
    return np.arange(channels).reshape(-1, block * block).T.reshape(-1)


def order_channels_in_convolutions(graph: Graph) -> None:
    """The convolution before a DepthToSpace gives its channels in DCR order: the runtime reorders nothing."""
    for node in graph.nodes:
        if node.op != "DepthToSpace" or node.attributes.get("mode", "DCR") != "CRD":
            continue
        producer = graph.producers().get(node.data_input())
        if producer is None or producer.op != "Conv" or producer.attributes.get("group", 1) != 1:
            continue
        if graph.sole_consumer(node.data_input(), graph.consumers()) is not node:
            continue
        parameters = [value for value in producer.inputs[1:] if value is not None]
        if all(value.is_constant for value in parameters):
            order = _dcr_order(node.data_input().shape[1], node.attributes["blocksize"])
            producer.inputs[1:] = [_reordered(value, order) for value in parameters]
            node.attributes = {**node.attributes, "mode": "DCR"}


def _reordered(value: Value, order: NDArray[Any]) -> Value:
    assert value.data is not None
    quantization = value.quantization
    if quantization is not None and quantization.axis == 0:
        quantization = quantization.chosen(order)
    return Value(value.name, value.shape, value.dtype, value.data[order], quantization)
