"""Graph -> TFLite operators: one function an ONNX operator, found in LOWERINGS.

To add an operator: write a function of (Lowering, Node) that emits TFLite operators and calls `result` for
each output of the node, and name it in LOWERINGS.
"""

from __future__ import annotations

from collections.abc import Callable

from edgecnn.export.tflite.decompositions import DECOMPOSITIONS
from edgecnn.export.tflite.folding import FOLDERS
from edgecnn.export.tflite.graph import Graph, Node, Value
from edgecnn.export.tflite.lowering import (
    activations,
    blocks,
    convolution,
    dense,
    elementwise,
    movement,
    pooling,
    quantizers,
    resize,
    selection,
    shapes,
    transposed,
)
from edgecnn.export.tflite.lowering.aliasing import copy_shared_memory
from edgecnn.export.tflite.lowering.blocks import order_channels_in_convolutions
from edgecnn.export.tflite.lowering.context import NHWC, Lowering, natural
from edgecnn.export.tflite.model import Model, Operator, Quantization, Tensor
from edgecnn.export.tflite.problems import Unsupported, raise_problems
from edgecnn.export.tflite.reader import KNOWN_OPERATORS

LOWERINGS: dict[str, Callable[[Lowering, Node], None]] = {
    "Abs": elementwise.unary("ABS"),
    "Add": elementwise.binary("ADD"),
    "And": elementwise.binary("LOGICAL_AND", fuses=False),
    "ArgMax": selection.place_of_extreme("ARG_MAX"),
    "ArgMin": selection.place_of_extreme("ARG_MIN"),
    "AveragePool": pooling.average_pool,
    "Cast": selection.cast,
    "Ceil": elementwise.unary("CEIL"),
    "Clip": activations.clip,
    "Concat": movement.concat,
    "Conv": convolution.conv,
    "ConvTranspose": transposed.conv_transpose,
    "Cos": elementwise.unary("COS"),
    "DepthToSpace": blocks.depth_to_space,
    "DequantizeLinear": quantizers.dequantize,
    "Div": elementwise.binary("DIV"),
    "Elu": activations.elu,
    "Equal": elementwise.binary("EQUAL", fuses=False),
    "Exp": elementwise.unary("EXP"),
    "Expand": movement.expand,
    "Flatten": shapes.reshape,
    "Floor": elementwise.unary("FLOOR"),
    "Gather": movement.gather,
    "Gelu": activations.gelu,
    "Gemm": dense.gemm,
    "GlobalAveragePool": pooling.global_average_pool,
    "Greater": elementwise.binary("GREATER", fuses=False),
    "GreaterOrEqual": elementwise.binary("GREATER_EQUAL", fuses=False),
    "HardSigmoid": activations.hard_sigmoid,
    "HardSwish": elementwise.unary("HARD_SWISH"),
    "LeakyRelu": activations.leaky_relu,
    "Less": elementwise.binary("LESS", fuses=False),
    "LessOrEqual": elementwise.binary("LESS_EQUAL", fuses=False),
    "Log": elementwise.unary("LOG"),
    "LogSoftmax": activations.with_fixed_scale("LOG_SOFTMAX"),
    "MatMul": dense.matmul,
    "Max": elementwise.binary("MAXIMUM", same_scale=True, fuses=False),
    "MaxPool": pooling.max_pool,
    "Min": elementwise.binary("MINIMUM", same_scale=True, fuses=False),
    "Mul": elementwise.binary("MUL"),
    "Neg": elementwise.unary("NEG"),
    "Not": elementwise.unary("LOGICAL_NOT"),
    "Or": elementwise.binary("LOGICAL_OR", fuses=False),
    "PRelu": activations.prelu,
    "Pad": movement.pad,
    "Pow": elementwise.binary("POW", fuses=False),
    "QuantizeLinear": quantizers.quantize,
    "Reciprocal": elementwise.reciprocal,
    "ReduceMax": pooling.reduction("REDUCE_MAX", same_scale=True),
    "ReduceMean": pooling.reduction("MEAN"),
    "ReduceMin": pooling.reduction("REDUCE_MIN", same_scale=True),
    "ReduceProd": pooling.reduction("REDUCE_PROD"),
    "ReduceSum": pooling.reduction("SUM"),
    "Relu": activations.clip,
    "Reshape": shapes.reshape,
    "Resize": resize.resize,
    "Round": elementwise.unary("ROUND"),
    "Sigmoid": activations.with_fixed_scale("LOGISTIC"),
    "Sin": elementwise.unary("SIN"),
    "Slice": movement.slice_,
    "Softmax": activations.with_fixed_scale("SOFTMAX", beta=1.0),
    "SpaceToDepth": blocks.space_to_depth,
    "Split": movement.split,
    "Sqrt": elementwise.unary("SQRT"),
    "Squeeze": shapes.reshape,
    "Sub": elementwise.binary("SUB"),
    "Tanh": activations.with_fixed_scale("TANH"),
    "Tile": movement.tile,
    "Transpose": shapes.transpose,
    "Unsqueeze": shapes.reshape,
    "Where": selection.where,
}


def lower(
    graph: Graph, *, keep_nchw_input: bool = False, runtime: str | None = None
) -> tuple[Model, list[str]]:
    """(the TFLite model, notes). Raises ConversionError that lists every node without an equivalent."""
    order_channels_in_convolutions(graph)
    lowering = Lowering(graph, runtime)
    for value in graph.inputs:
        layout = natural(len(value.shape)) if keep_nchw_input else _input_layout(lowering, value)
        lowering.model.inputs.append(lowering.result(value, layout))
    problems = list(graph.problems)
    for node in graph.nodes:
        lowering.node = node
        try:
            if node.op in LOWERINGS:
                LOWERINGS[node.op](lowering, node)
            elif node.op in FOLDERS:
                raise Unsupported("it is converted only where its inputs are constant")
            elif node.op in KNOWN_OPERATORS or node.op in DECOMPOSITIONS:
                raise Unsupported(
                    "it is converted only of float32, with one output, and with parameters that are constant "
                    "and in their usual range"
                )
        except Unsupported as reason:
            problems.append(f"{node.op} {node.name}: {reason}")
        for value in node.outputs:  # After a failure, the nodes behind it are still looked at.
            if value not in lowering.tensors:
                lowering.result(value, natural(len(value.shape)))
    raise_problems(problems)
    for value, name in zip(graph.outputs, graph.output_names, strict=True):
        lowering.model.outputs.append(_output(lowering, value, name))
    lowering.model.remove_unused()
    copy_shared_memory(lowering)
    return lowering.model, lowering.notes


def _input_layout(lowering: Lowering, value: Value) -> tuple[int, ...]:
    """NHWC for images, unless the model itself begins with a Transpose from NHWC."""
    rank = len(value.shape)
    users = lowering.users[value]
    already = users and all(n.op == "Transpose" and n.attributes.get("perm") == [0, 3, 1, 2] for n in users)
    return NHWC if rank == 4 and not already else natural(rank)


def _output(lowering: Lowering, value: Value, name: str) -> Tensor:
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
    tensor.memory.name = name
    return tensor


def use_uint8_interface(model: Model) -> None:
    """Lets integer inputs and outputs be uint8, by a QUANTIZE at each; they keep their scales and names."""
    for i, tensor in enumerate(model.inputs):
        if tensor.dtype == "int8":
            model.inputs[i] = _as_uint8(tensor)
            model.operators.insert(i, Operator("QUANTIZE", [model.inputs[i]], [tensor], {}, "uint8 input"))
    for i, tensor in enumerate(model.outputs):
        if tensor.dtype == "int8":
            model.outputs[i] = _as_uint8(tensor)
            model.operators.append(
                Operator("QUANTIZE", [tensor.memory], [model.outputs[i]], {}, "uint8 output")
            )


def _as_uint8(tensor: Tensor) -> Tensor:
    assert tensor.quantization is not None
    quantization = Quantization(tensor.quantization.scale, tensor.quantization.zero_point + 128)
    name, tensor.memory.name = tensor.memory.name, None
    return Tensor(tensor.shape, "uint8", None, quantization, name, tensor.permutation)
