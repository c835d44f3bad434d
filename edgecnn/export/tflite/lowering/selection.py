"""Comparisons and what is done with them: Where, Cast, the place of a maximum."""

from __future__ import annotations

from collections.abc import Callable

from edgecnn.export.tflite.graph import Node
from edgecnn.export.tflite.lowering.context import Lowering, natural, without
from edgecnn.export.tflite.lowering.elementwise import common_layout, operand
from edgecnn.export.tflite.problems import Unsupported
from edgecnn.export.tflite.schema import TENSOR_TYPES

_CASTABLE = ("float32", "int32", "int64", "bool")


def where(lower: Lowering, node: Node) -> None:
    permutation = common_layout(lower, node)
    inputs = [operand(lower, node.data_input(i), permutation) for i in range(3)]
    lower.emit("SELECT_V2", [*inputs], lower.result(node.output, permutation))


def cast(lower: Lowering, node: Node) -> None:
    source, target = lower.tensor(node.data_input()), node.output.dtype
    if source.dtype not in _CASTABLE or target not in _CASTABLE:
        raise Unsupported(f"{source.dtype} is not cast to {target}")
    lower.emit("CAST", [source], lower.result(node.output, source.permutation, source.columns))


def place_of_extreme(code: str) -> Callable[[Lowering, Node], None]:
    """The lowering of ArgMax or ArgMin. Indices are int64 as in ONNX; tflm knows int32 only."""

    def lower_place(lower: Lowering, node: Node) -> None:
        if node.attributes.get("select_last_index"):
            raise Unsupported("TFLite gives the first of equal values, not the last")
        source = lower.tensor(node.data_input())
        if source.columns is not None:
            source = lower.rearrange(source, natural(len(source.shape)))
        axis = node.attributes.get("axis", 0) % len(source.shape)
        memory_axis = source.permutation.index(axis)
        kept = bool(node.attributes.get("keepdims", 1))
        permutation = source.permutation if kept else without(source.permutation, [axis])
        output = lower.result(node.output, permutation)
        if lower.runtime == "tflm":
            output.dtype = "int32"
            lower.note(f"{node.op} {node.name}: its indices are int32, tflm knows no int64 here")
        shape = (*source.shape[:memory_axis], *source.shape[memory_axis + 1 :])
        places = lower.temporary(output, shape=shape) if kept else output
        lower.emit(code, [source, lower.vector(memory_axis)], places, output_type=TENSOR_TYPES[output.dtype])
        if kept:
            lower.emit("RESHAPE", [places, lower.vector(output.shape)], output)

    return lower_place
