"""Operations that move no number or only reorder them: Reshape, Flatten, Transpose."""

from __future__ import annotations

import numpy as np

from edgecnn.export.tflite.graph import Node, Value
from edgecnn.export.tflite.lowering.context import Lowering, natural
from edgecnn.export.tflite.model import Tensor

# What a flattened image may pass through on its way to a fully connected layer, element by element.
_ELEMENTWISE = {
    "Reshape",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Relu",
    "Clip",
    "LeakyRelu",
    "HardSwish",
    "HardSigmoid",
    "Sigmoid",
    "Tanh",
    "QuantizeLinear",
    "DequantizeLinear",
}


def reshape(lower: Lowering, node: Node) -> None:
    """Reshape, Flatten, Squeeze, Unsqueeze: a RESHAPE, or nothing where the shape stays."""
    value, source = node.output, lower.tensor(node.data_input())
    if source.quantization is not None:
        source = lower.requantize(source, value.quantization, "its input and output have different scales")
    permutation, columns = carried_layout(source, node.data_input().shape, value.shape), None
    image = _as_flattened(node.data_input().shape, value.shape)
    if permutation is None and image and _can_follow(source) and _ends_in_gemm(lower, value):
        columns = np.arange(int(np.prod(value.shape[1:]))).reshape(image)
        columns = np.transpose(columns, [axis - 1 for axis in source.permutation if axis]).reshape(-1)
        permutation = (0, 1)
    if permutation is None:
        source = lower.rearrange(source, _runs_in_order(source, node.data_input().shape, value.shape))
        permutation = carried_layout(source, node.data_input().shape, value.shape)
        assert permutation is not None
    if image and permutation == (0, 1) and _read_by_gemm_only(lower, value):
        # FULLY_CONNECTED takes images as rows by itself.
        rows = lower.temporary(
            source, shape=value.shape, permutation=(0, 1), columns=columns, base=lower.before_reshape(source)
        )
        lower.tensors[value] = rows
        return
    lower.reshape(source, lower.result(value, permutation, columns))


def _read_by_gemm_only(lower: Lowering, value: Value) -> bool:
    """Whether only fully connected layers read the value, as their data."""
    if value in lower.graph.outputs:
        return False
    return all(
        n.op == "Gemm" and n.inputs.count(value) == 1 == n.inputs.index(value) + 1 for n in lower.users[value]
    )


def _can_follow(source: Tensor) -> bool:
    """Whether weights can follow the order of its images: each image lies in one piece."""
    return source.columns is None and source.permutation[0] == 0


def carried_layout(source: Tensor, before: tuple[int, ...], after: tuple[int, ...]) -> tuple[int, ...] | None:
    """The layout after reshaping the memory as it lies, None where that would mix up elements.

    Both shapes fall into the shortest runs of axes with equal products. A run keeps its meaning where its
    axes lie beside each other, in order, in the source; axes of size 1 lie anywhere.
    """
    if source.columns is not None:
        return natural(len(after)) if before == after else None
    runs = _runs(before, after)
    if runs is None:
        return None
    memory = [axis for axis in source.permutation if before[axis] > 1]
    order: list[int] = []
    position = 0
    by_first = {run_in[0]: (run_in, run_out) for run_in, run_out in runs if run_in}
    while position < len(memory):
        run_in, run_out = by_first.get(memory[position], ([], []))
        if not run_in or memory[position : position + len(run_in)] != run_in:
            return None
        order += run_out
        position += len(run_in)
    return _with_unit_axes(tuple(order), after)


def _runs_in_order(source: Tensor, before: tuple[int, ...], after: tuple[int, ...]) -> tuple[int, ...]:
    """The nearest layout that can be reshaped: the axes of each run beside each other, runs where they are."""
    runs = [run_in for run_in, _ in _runs(before, after) or []]
    runs.sort(key=lambda run: min(source.permutation.index(axis) for axis in run))
    order = [axis for run in runs for axis in run]
    units = [axis for axis in source.permutation if before[axis] <= 1]
    for axis in units:
        order.insert(min(source.permutation.index(axis), len(order)), axis)
    return tuple(order)


def _with_unit_axes(order: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Adds the axes of size 1: in rank 4 so that the layout is NHWC if it can be, else in ONNX's place."""
    rank = len(shape)
    for candidate in ((0, 2, 3, 1), natural(rank)):
        if len(candidate) == rank and [axis for axis in candidate if shape[axis] > 1] == list(order):
            return candidate
    result = list(order)
    for axis in range(rank):
        if shape[axis] <= 1:
            result.insert(axis, axis)
    return tuple(result)


def _runs(before: tuple[int, ...], after: tuple[int, ...]) -> list[tuple[list[int], list[int]]] | None:
    """Pairs of runs of axes (of size over 1) with equal products, as short as can be."""
    left = [axis for axis, size in enumerate(before) if size > 1]
    right = [axis for axis, size in enumerate(after) if size > 1]
    runs = []
    while left or right:
        if not left or not right:
            return None
        run_in, run_out = [left.pop(0)], [right.pop(0)]
        product_in, product_out = before[run_in[0]], after[run_out[0]]
        while product_in != product_out:
            if product_in < product_out:
                if not left:
                    return None
                run_in.append(left.pop(0))
                product_in *= before[run_in[-1]]
            else:
                if not right:
                    return None
                run_out.append(right.pop(0))
                product_out *= after[run_out[-1]]
        runs.append((run_in, run_out))
    return runs


def _as_flattened(before: tuple[int, ...], after: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of one image where the reshape flattens images to rows, else ()."""
    flattens = len(after) == 2 and len(before) > 2 and before[0] == after[0]
    return before[1:] if flattens else ()


def _ends_in_gemm(lower: Lowering, value: Value) -> bool:
    """Whether only fully connected layers read the rows: their weights can follow any order of columns."""
    if value in lower.graph.outputs:
        return False
    for node in lower.users[value]:
        if node.op == "Gemm" and node.inputs[0] is value and node.inputs.count(value) == 1:
            continue
        same_shape = node.outputs and node.output.shape == value.shape
        if not same_shape or node.op not in _ELEMENTWISE or not _ends_in_gemm(lower, node.output):
            return False
    return True


def transpose(lower: Lowering, node: Node) -> None:
    """Transpose only renames axes; whoever needs another order makes the TRANSPOSE."""
    source = lower.tensor(node.data_input())
    if source.quantization is not None:
        source = lower.requantize(
            source, node.output.quantization, "its input and output have different scales"
        )
    rank = len(source.shape)
    order = node.attributes.get("perm", list(range(rank))[::-1])
    renamed = tuple(list(order).index(axis) for axis in source.permutation)
    lower.rename(node.output, source, renamed)
