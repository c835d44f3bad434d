"""BatchNormalization, and multiplications by a constant for each channel before it, become part of a layer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.export.tflite.graph import Graph, Node, Value
from edgecnn.export.tflite.model import Quantization

# A factor as near to 1 as this is what rounding left of two that cancel out.
_CLOSE_TO_ONE = 1e-5


def fold_batch_norm(graph: Graph) -> None:
    """BatchNormalization goes into the weights of the layer before it, else becomes a layer of its own."""
    for node in list(graph.nodes):
        if node.op != "BatchNormalization":
            continue
        numbers = [node.constant(i) for i in range(1, 5)]
        if any(array is None for array in numbers):
            continue  # Left as it is: the lowering says that it has no equivalent.
        gamma, beta, mean, variance = (np.asarray(array, np.float64) for array in numbers)
        factor = gamma / np.sqrt(variance + node.attributes.get("epsilon", 1e-5))
        offset = beta - mean * factor
        conv, whole, between = _layer_before(graph, node, factor)
        if conv is not None and _can_scale(conv, whole):
            _scale_outputs(conv, whole, offset)
            conv.outputs = node.outputs
            for folded in (node, *between):
                graph.nodes.remove(folded)
        elif len(node.data_input().shape) == 4 and np.all(factor):
            _as_depthwise(node, factor, offset)
        else:
            _as_mul_add(graph, node, factor, offset)


def _layer_before(
    graph: Graph, node: Node, factor: NDArray[Any]
) -> tuple[Node | None, NDArray[Any], list[Node]]:
    """(the layer that alone feeds the node, the factor from there, the nodes between the two).

    Quantization-aware training of torch puts a division between a convolution and its batch norm, which takes
    out of the result what it had multiplied into the weights.
    """
    producers, users = graph.producers(), graph.consumers()
    between: list[Node] = []
    reader = node
    while True:
        source = reader.data_input()
        producer = producers.get(source)
        if producer is None or graph.sole_consumer(source, users) is not reader:
            return None, factor, between
        if producer.op in ("Conv", "ConvTranspose", "Gemm"):
            return producer, factor, between
        constant = producer.constant(1) if producer.op in ("Mul", "Div") else None
        if constant is None or constant.shape != (1, factor.size, *[1] * (len(source.shape) - 2)):
            return None, factor, between
        numbers = constant.reshape(-1).astype(np.float64)
        factor = factor * numbers if producer.op == "Mul" else factor / numbers
        between.append(producer)
        reader = producer


def _can_scale(conv: Node, factor: NDArray[Any]) -> bool:
    """Whether each output channel can be multiplied by its factor: of integer weights, their scales."""
    weights, bias = conv.input(1), conv.input(2)
    if weights is None or not weights.is_constant or (bias is not None and not bias.is_constant):
        return False
    if weights.quantization is None:
        return bias is None or bias.quantization is None
    return bool(np.all(factor > 0)) and weights.quantization.axis in (None, 0) and _channels_first(conv)


def _channels_first(conv: Node) -> bool:
    """Whether axis 0 of the weights is the output channel."""
    return conv.op == "Conv" or (conv.op == "Gemm" and bool(conv.attributes.get("transB")))


def _scale_outputs(conv: Node, factor: NDArray[Any], offset: NDArray[Any]) -> None:
    """Multiplies each output channel by `factor` and adds `offset`."""
    weights, bias = conv.data_input(1), conv.constant(2)
    scaled = (
        _scaled_integers(weights, factor) if weights.quantization else _scaled_floats(conv, weights, factor)
    )
    shifted = offset if bias is None else bias * factor + offset
    new_bias = Value(f"{weights.name}_bias", shifted.shape, "float32", shifted.astype(np.float32))
    conv.inputs = [conv.inputs[0], scaled, new_bias]


def _scaled_integers(weights: Value, factor: NDArray[Any]) -> Value:
    """The same integers, which stand for other numbers."""
    old = weights.quantization
    assert old is not None
    if np.allclose(factor, 1, rtol=0, atol=_CLOSE_TO_ONE):
        return weights
    zero_point = np.broadcast_to(old.zero_point, factor.shape)
    quantization = Quantization((old.scale * factor).astype(np.float32), zero_point, 0)
    return Value(weights.name, weights.shape, weights.dtype, weights.data, quantization)


def _scaled_floats(conv: Node, weights: Value, factor: NDArray[Any]) -> Value:
    numbers = weights.numbers().astype(np.float64)
    if _channels_first(conv):
        numbers = numbers * factor.reshape(-1, *[1] * (numbers.ndim - 1))
    elif conv.op == "Gemm":
        numbers = numbers * factor
    else:
        groups = conv.attributes.get("group", 1)
        split = numbers.reshape(groups, -1, *numbers.shape[1:])
        numbers = (split * factor.reshape(groups, 1, -1, *[1] * (numbers.ndim - 2))).reshape(numbers.shape)
    return Value(weights.name, weights.shape, "float32", numbers.astype(np.float32))


def _as_depthwise(node: Node, factor: NDArray[Any], offset: NDArray[Any]) -> None:
    """A convolution of one weight a channel. As integers of 127 steps the weights are exact: between
    quantized layers it can be an integer operation.
    """
    channels = factor.size
    scale = (np.abs(factor) / 127).astype(np.float32)
    quantization = Quantization(scale, np.zeros(channels, np.int64), 0)
    integers = np.where(factor < 0, -127, 127).astype(np.int8).reshape(channels, 1, 1, 1)
    node.op, node.attributes = "Conv", {"group": channels, "kernel_shape": [1, 1]}
    name = f"{node.name}_{{}}"
    weights = Value(name.format("weights"), integers.shape, "int8", integers, quantization)
    bias = Value(name.format("bias"), (channels,), "float32", offset.astype(np.float32))
    node.inputs = [node.inputs[0], weights, bias]


def _as_mul_add(graph: Graph, node: Node, factor: NDArray[Any], offset: NDArray[Any]) -> None:
    source, output = node.data_input(), node.output
    shape = (-1, *[1] * (len(source.shape) - 2))
    scaled = Value(f"{output.name}_scaled", output.shape)
    constants = [
        Value(
            f"{output.name}_{name}",
            array.reshape(shape).shape,
            "float32",
            array.reshape(shape).astype(np.float32),
        )
        for name, array in (("factor", factor), ("offset", offset))
    ]
    position = graph.nodes.index(node)
    graph.nodes[position : position + 1] = [
        Node("Mul", [source, constants[0]], [scaled], {}, node.name),
        Node("Add", [scaled, constants[1]], [output], {}, node.name),
    ]
