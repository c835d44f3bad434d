"""Constant folding: the operations that exporters leave on weights and shapes, done once in numpy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Attributes = dict[str, Any]
Folder = Callable[[Attributes, list[Any]], Any]

# Of ONNX's element types, those that constants of a CNN have.
NUMPY_TYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
}


def axes_of(attributes: Attributes, arrays: list[Any], index: int = 1) -> list[int] | None:
    """Axes stand in an attribute in old opsets, in an input in new ones."""
    if "axes" in attributes:
        return [int(axis) for axis in attributes["axes"]]
    given = arrays[index] if len(arrays) > index else None
    return None if given is None else [int(axis) for axis in np.atleast_1d(given)]


def reduced_axes(attributes: Attributes, arrays: list[Any], rank: int) -> tuple[int, ...]:
    """The axes that a reduction of `rank` axes goes over, counted from 0: all of them where it names none, and
    none where `noop_with_empty_axes` says so.
    """
    axes = axes_of(attributes, arrays)
    if not axes:
        return () if attributes.get("noop_with_empty_axes") else tuple(range(rank))
    return tuple(axis % rank for axis in axes)


def slices_of(attributes: Attributes, arrays: list[Any], rank: int) -> tuple[slice, ...]:
    """The numpy index that an ONNX Slice stands for."""
    starts, ends = arrays[1], arrays[2]
    axes = arrays[3] if len(arrays) > 3 and arrays[3] is not None else range(len(starts))
    steps = arrays[4] if len(arrays) > 4 and arrays[4] is not None else [1] * len(starts)
    index = [slice(None)] * rank
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        before_first = step < 0 and end < -(2**31)
        index[axis] = slice(int(start), None if before_first else int(end), int(step))
    return tuple(index)


def reshaped(shape: tuple[int, ...], wanted: NDArray[Any], *, allow_zero: bool = False) -> tuple[int, ...]:
    """ONNX Reshape's result: 0 copies a dimension, -1 takes what is left."""
    result = [
        shape[i] if size == 0 and not allow_zero else int(size) for i, size in enumerate(wanted.reshape(-1))
    ]
    if -1 in result:
        rest = int(np.prod([size for size in result if size != -1]))
        result[result.index(-1)] = int(np.prod(shape)) // max(rest, 1)
    return tuple(result)


def expanded(array: NDArray[Any], axes: list[int]) -> NDArray[Any]:
    return np.expand_dims(array, tuple(axes))


def _squeeze(attributes: Attributes, arrays: list[Any]) -> NDArray[Any]:
    axes = axes_of(attributes, arrays)
    result: NDArray[Any] = np.squeeze(arrays[0], None if axes is None else tuple(axes))
    return result


def _concat(attributes: Attributes, arrays: list[Any]) -> NDArray[Any]:
    return np.concatenate(arrays, attributes["axis"])


def _divide(_: Attributes, arrays: list[Any]) -> NDArray[Any]:
    a, b = arrays
    quotient: NDArray[Any]
    if np.issubdtype(a.dtype, np.integer):
        quotient = (np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))).astype(a.dtype)
    else:
        quotient = a / b
    return quotient


def _constant_of_shape(attributes: Attributes, arrays: list[Any]) -> NDArray[Any]:
    fill = attributes.get("value", np.zeros(1, np.float32))
    return np.full(tuple(arrays[0]), fill.reshape(-1)[0], fill.dtype)


def _reduce(function: Callable[..., NDArray[Any]]) -> Folder:
    def fold(attributes: Attributes, arrays: list[Any]) -> NDArray[Any]:
        axes = reduced_axes(attributes, arrays, np.ndim(arrays[0]))
        return function(arrays[0], axis=axes, keepdims=bool(attributes.get("keepdims", 1)))

    return fold


def folded_size(op: str, attributes: Attributes, arrays: list[Any]) -> int:
    """How many elements folding makes: known before it takes the memory."""
    shapes = [np.shape(array) for array in arrays if array is not None]
    if op == "Range":
        start, end, step = (array.item() for array in arrays)
        result: int = max(0, math.ceil((end - start) / step))
        return result
    if op in ("ConstantOfShape", "Expand"):
        wanted = tuple(int(size) for size in np.atleast_1d(arrays[-1]))
        return math.prod(np.broadcast_shapes(shapes[0], wanted) if op == "Expand" else wanted)
    if op == "Concat":
        return sum(map(math.prod, shapes))
    if op == "Gather":
        return math.prod(shapes[1]) * math.prod(shapes[0]) // max(1, shapes[0][attributes.get("axis", 0)])
    if op in _BROADCASTING:
        return math.prod(np.broadcast_shapes(*shapes))
    return math.prod(shapes[0])


_BROADCASTING = frozenset({"Add", "Sub", "Mul", "Div", "Pow", "Equal", "Where", "Min", "Max"})

FOLDERS: dict[str, Folder] = {
    "Identity": lambda _, x: x[0],
    "Dropout": lambda _, x: x[0],
    "Cast": lambda attributes, x: x[0].astype(NUMPY_TYPES[attributes["to"]]),
    "CastLike": lambda _, x: x[0].astype(x[1].dtype),
    "Reshape": lambda a, x: x[0].reshape(reshaped(x[0].shape, x[1], allow_zero=bool(a.get("allowzero")))),
    "Flatten": lambda a, x: x[0].reshape(int(np.prod(x[0].shape[: a.get("axis", 1)])), -1),
    "Transpose": lambda a, x: np.transpose(x[0], a.get("perm")),
    "Squeeze": _squeeze,
    "Unsqueeze": lambda a, x: expanded(x[0], axes_of(a, x) or []),
    "Concat": _concat,
    "Slice": lambda a, x: x[0][slices_of(a, x, x[0].ndim)],
    "Gather": lambda a, x: np.take(x[0], x[1], a.get("axis", 0)),
    "Expand": lambda _, x: x[0] * np.ones(tuple(x[1]), x[0].dtype),
    "ConstantOfShape": _constant_of_shape,
    "Range": lambda _, x: np.arange(x[0].item(), x[1].item(), x[2].item(), dtype=x[0].dtype),
    "Add": lambda _, x: x[0] + x[1],
    "Sub": lambda _, x: x[0] - x[1],
    "Mul": lambda _, x: x[0] * x[1],
    "Div": _divide,
    "Neg": lambda _, x: -x[0],
    "Abs": lambda _, x: np.abs(x[0]),
    "Sqrt": lambda _, x: np.sqrt(x[0]),
    "Reciprocal": lambda _, x: 1 / x[0],
    "Pow": lambda _, x: np.power(x[0], x[1]).astype(x[0].dtype),
    "Exp": lambda _, x: np.exp(x[0]),
    "Log": lambda _, x: np.log(x[0]),
    "Floor": lambda _, x: np.floor(x[0]),
    "Ceil": lambda _, x: np.ceil(x[0]),
    "Equal": lambda _, x: x[0] == x[1],
    "Where": lambda _, x: np.where(x[0], x[1], x[2]),
    "Min": lambda _, x: np.minimum.reduce(x),
    "Max": lambda _, x: np.maximum.reduce(x),
    "ReduceProd": _reduce(np.prod),
    "ReduceSum": _reduce(np.sum),
    "ReduceMax": _reduce(np.max),
    "ReduceMin": _reduce(np.min),
    "ReduceMean": _reduce(np.mean),
}  # fmt: skip
