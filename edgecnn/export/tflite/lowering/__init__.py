"""Graph -> TFLite operators: one function an ONNX operator, found in LOWERINGS.

To add an operator: write a function of (Lowering, Node) that emits TFLite operators and calls `result` for
each output of the node, and name it in LOWERINGS.
"""

from __future__ import annotations

from collections.abc import Callable

from edgecnn.export.tflite.graph import Graph, Node, Value
from edgecnn.export.tflite.lowering import activations, convolution, dense, pooling, quantizers, shapes
from edgecnn.export.tflite.lowering.context import NHWC, Lowering, natural
from edgecnn.export.tflite.model import Model, Tensor
from edgecnn.export.tflite.reader import Unsupported, raise_problems

LOWERINGS: dict[str, Callable[[Lowering, Node], None]] = {
    "Conv": convolution.conv,
    "DequantizeLinear": quantizers.dequantize,
    "Flatten": shapes.reshape,
    "Gemm": dense.gemm,
    "MaxPool": pooling.max_pool,
    "QuantizeLinear": quantizers.quantize,
    "Relu": activations.relu,
    "Reshape": shapes.reshape,
    "Squeeze": shapes.reshape,
    "Transpose": shapes.transpose,
    "Unsqueeze": shapes.reshape,
}


def lower(graph: Graph, *, keep_nchw_input: bool = False) -> tuple[Model, list[str]]:
    """(the TFLite model, notes). Raises ConversionError that lists every node without an equivalent."""
    lowering = Lowering(graph)
    for value in graph.inputs:
        layout = natural(len(value.shape)) if keep_nchw_input else _input_layout(lowering, value)
        lowering.model.inputs.append(lowering.result(value, layout))
    problems = list(graph.problems)
    for node in graph.nodes:
        lowering.node = node
        try:
            if node.op in LOWERINGS:
                LOWERINGS[node.op](lowering, node)
        except Unsupported as reason:
            problems.append(f"{node.op} {node.name}: {reason}")
        for value in node.outputs:  # After a failure, the nodes behind it are still looked at.
            if value not in lowering.tensors:
                lowering.result(value, natural(len(value.shape)))
    raise_problems(problems)
    for value in graph.outputs:
        lowering.model.outputs.append(_output(lowering, value))
    return lowering.model, lowering.notes


def _input_layout(lowering: Lowering, value: Value) -> tuple[int, ...]:
    """NHWC for images, unless the model itself begins with a Transpose from NHWC."""
    rank = len(value.shape)
    users = lowering.users[value]
    already = users and all(n.op == "Transpose" and n.attributes.get("perm") == [0, 3, 1, 2] for n in users)
    return NHWC if rank == 4 and not already else natural(rank)


def _output(lowering: Lowering, value: Value) -> Tensor:
    """The tensor of an output, under its name: NHWC where the network leaves it so, else in ONNX's order."""
    if value.is_constant:
        tensor = lowering.tensor(value)
    else:
        tensor = lowering.tensors[value]
        if tensor.permutation != NHWC:
            tensor = lowering.rearrange(tensor, natural(len(tensor.shape)))
    taken = [*lowering.model.inputs, *lowering.model.outputs]
    if tensor.data is not None or any(tensor.memory is other.memory for other in taken):
        copy = lowering.temporary(tensor)
        lowering.emit("RESHAPE", [tensor, lowering.vector(tensor.shape)], copy)
        tensor = copy
    tensor.memory.name = value.name
    return tensor
