"""Operations on two tensors, element by element with broadcasting, and float functions of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.export.tflite.graph import Node, Value
from edgecnn.export.tflite.lowering.context import NHWC, Lowering, natural
from edgecnn.export.tflite.lowering.convolution import activation_of
from edgecnn.export.tflite.model import Tensor
from edgecnn.export.tflite.problems import Unsupported


def binary(code: str, *, same_scale: bool = False, fuses: bool = True) -> Callable[[Lowering, Node], None]:
    """The lowering of an operator of two operands. `same_scale`: integer kernels need one scale everywhere."""

    def lower_binary(lower: Lowering, node: Node) -> None:
        if len(node.inputs) != 2:
            raise Unsupported(f"{len(node.inputs)} operands are not converted, only 2")
        permutation = common_layout(lower, node)
        operands = [operand(lower, node.data_input(i), permutation) for i in (0, 1)]
        if operands[0].dtype != operands[1].dtype:
            raise Unsupported(f"its operands have two types, {operands[0].dtype} and {operands[1].dtype}")
        if same_scale and operands[0].quantization is not None:
            why = "its inputs and output have different scales"
            operands = [lower.requantize(tensor, node.output.quantization, why) for tensor in operands]
        options = {"activation": activation_of(node)} if fuses else {}
        lower.emit(code, [*operands], lower.result(node.output, permutation), **options)

    return lower_binary


def common_layout(lower: Lowering, node: Node) -> tuple[int, ...]:
    """The order of axes for several tensors: that of an input of full rank, NHWC before others."""
    rank = len(node.output.shape)
    layouts = [
        lower.tensor(value).permutation
        for value in node.inputs
        if value is not None and not value.is_constant and len(value.shape) == rank
    ]
    return NHWC if NHWC in layouts or (not layouts and rank == 4) else (layouts or [natural(rank)])[0]


def operand(lower: Lowering, value: Value, permutation: tuple[int, ...]) -> Tensor:
    """A value as it broadcasts against a tensor with its axes in that order."""
    rank, missing = len(permutation), len(permutation) - len(value.shape)
    if value.data is not None:
        shape = (1,) * missing + value.shape
        quantization = value.quantization
        if quantization is not None and not quantization.is_per_tensor:
            raise Unsupported("an operand with one scale a channel has no TFLite equivalent")
        array = np.transpose(value.data.reshape(shape), permutation)
        return lower.constant(_without_leading_ones(array), value.dtype, quantization)
    tensor = lower.tensor(value)
    if missing:
        tensor = lower.rearrange(tensor, natural(len(value.shape)))
        expanded = lower.temporary(tensor, shape=(1,) * missing + value.shape, permutation=natural(rank))
        lower.emit("RESHAPE", [tensor, lower.vector(expanded.shape)], expanded)
        tensor = expanded
    return lower.rearrange(tensor, permutation)


def _without_leading_ones(array: NDArray[Any]) -> NDArray[Any]:
    """Broadcasting supplies leading axes of size 1; kernels know a vector of channels best."""
    while array.ndim > 1 and array.shape[0] == 1:
        array = array[0]
    return array.reshape(1) if array.ndim == 0 else array


def unary(code: str) -> Callable[[Lowering, Node], None]:
    """The lowering of a function of each element: float32, or integers with a kernel for any two scales."""

    def lower_unary(lower: Lowering, node: Node) -> None:
        source = lower.tensor(node.data_input())
        lower.emit(code, [source], lower.result(node.output, source.permutation, source.columns))

    return lower_unary


def reciprocal(lower: Lowering, node: Node) -> None:
    source = lower.tensor(node.data_input())
    one = lower.constant(np.ones(1, np.float32))
    lower.emit("DIV", [one, source], lower.result(node.output, source.permutation, source.columns))
