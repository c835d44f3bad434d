"""What every lowering works with: tensors and their layout, constants, and the operators emitted so far."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.export.tflite.graph import Graph, Node, Value
from edgecnn.export.tflite.lowering.equivalents import EQUIVALENTS
from edgecnn.export.tflite.model import Model, Operator, Quantization, Tensor
from edgecnn.export.tflite.problems import Unsupported
from edgecnn.export.tflite.runtimes import problem

NHWC = (0, 2, 3, 1)


def natural(rank: int) -> tuple[int, ...]:
    """The layout of ONNX: axes in order."""
    return tuple(range(rank))


def permuted(shape: tuple[int, ...], permutation: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(shape[axis] for axis in permutation)


def without(permutation: tuple[int, ...], axes: Collection[int]) -> tuple[int, ...]:
    """The layout that is left when a tensor loses these ONNX axes, the others renumbered."""
    left = [axis for axis in permutation if axis not in axes]
    return tuple(sorted(left).index(axis) for axis in left)


class Lowering:
    """Emits TFLite operators for graph nodes, one after the other.

    Layout is carried, not made: each tensor knows which ONNX axis each of its axes is, a lowering says in
    which order it needs them, and only where the two differ does a TRANSPOSE appear.
    """

    def __init__(self, graph: Graph, runtime: str | None = None) -> None:
        self.graph, self.runtime = graph, runtime
        self.users, self.producers = graph.consumers(), graph.producers()
        self.model = Model()
        self.notes: list[str] = list(graph.notes)
        self.tensors: dict[Value, Tensor] = {}
        self.node = Node("", [], [])
        self._constants: dict[Any, Tensor] = {}
        self._reshaped_from: dict[int, Tensor] = {}
        self._rearranged: dict[tuple[int, tuple[int, ...]], Tensor] = {}

    def note(self, text: str) -> None:
        """Something the user should know of the file: what was changed, where, and why. Each is told once."""
        if text not in self.notes:
            self.notes.append(text)

    def tensor(self, value: Value) -> Tensor:
        """The tensor of an activation, in whatever layout it is; of a constant, in ONNX's."""
        if value not in self.tensors:
            if value.data is None:
                raise Unsupported(f"its input {value.name} is not there")
            return self.constant(value.data, value.dtype, value.quantization)
        return self.tensors[value]

    def tensor_in(self, value: Value, permutation: tuple[int, ...]) -> Tensor:
        """The tensor of a value with its axes in that order."""
        if value.is_constant:
            return self.constant_in(value, permutation)
        return self.rearrange(self.tensor(value), permutation)

    def constant_in(self, value: Value, permutation: tuple[int, ...]) -> Tensor:
        assert value.data is not None
        quantization = value.quantization
        if quantization is not None and quantization.axis is not None:
            quantization = quantization.along(permutation.index(quantization.axis))
        return self.constant(np.transpose(value.data, permutation), value.dtype, quantization)

    def rearrange(self, tensor: Tensor, permutation: tuple[int, ...]) -> Tensor:
        """The tensor with its axes in that order: by RESHAPE where only axes of size 1 move, or TRANSPOSE."""
        if tensor.columns is not None:
            raise Unsupported("its input is a flattened image whose order cannot be carried here")
        if tensor.permutation == permutation:
            return tensor
        key = (id(tensor), permutation)
        if key not in self._rearranged:
            order = [tensor.permutation.index(axis) for axis in permutation]
            shape = tuple(tensor.shape[axis] for axis in order)
            result = Tensor(shape, tensor.dtype, None, tensor.quantization, None, permutation)
            moving = [axis for axis in order if tensor.shape[axis] > 1]
            if moving == sorted(moving):
                self.reshape(tensor, result)
            else:
                self.emit("TRANSPOSE", [tensor, self.vector(order)], result)
            self._rearranged[key] = result
        return self._rearranged[key]

    def constant(
        self, array: NDArray[Any], dtype: str | None = None, quantization: Quantization | None = None
    ) -> Tensor:
        """A constant tensor; the same one where the same constant was asked for before."""
        array = np.ascontiguousarray(array).reshape(array.shape)
        dtype = dtype or array.dtype.name
        parameters = None
        if quantization is not None:
            parameters = (quantization.scale.tobytes(), quantization.zero_point.tobytes(), quantization.axis)
        key = (array.tobytes(), array.shape, dtype, parameters)
        if key not in self._constants:
            permutation = natural(array.ndim)
            self._constants[key] = Tensor(array.shape, dtype, array, quantization, None, permutation)
        return self._constants[key]

    def vector(self, numbers: Any) -> Tensor:
        """An int32 constant: a shape, axes, pads, a permutation."""
        return self.constant(np.asarray(numbers, np.int32))

    def result(self, value: Value, permutation: tuple[int, ...], columns: NDArray[Any] | None = None) -> Tensor:
        """The tensor that is to hold a value, with its axes in that order."""
        shape = permuted(value.shape, permutation)
        tensor = Tensor(shape, value.dtype, None, value.quantization, value.name, permutation, columns)
        self.tensors[value] = tensor
        return tensor

    def reshape(self, source: Tensor, output: Tensor) -> None:
        """Emits a RESHAPE. Of two in a row the first is skipped; it goes if nothing else reads it."""
        source = self.before_reshape(source)
        self._reshaped_from[id(output)] = source
        if source.shape == output.shape:
            output.base = source
        else:
            self.emit("RESHAPE", [source, self.vector(output.shape)], output)

    def before_reshape(self, tensor: Tensor) -> Tensor:
        """The tensor of the file that holds the same numbers in another shape, or itself."""
        return self._reshaped_from.get(id(tensor.memory), tensor.memory)

    def rename(self, value: Value, tensor: Tensor, permutation: tuple[int, ...]) -> None:
        """Lets a value live in the memory of that tensor, with its axes under other names."""
        self.tensors[value] = self.temporary(tensor, permutation=permutation, base=tensor.memory)

    def temporary(self, like: Tensor, **changes: Any) -> Tensor:
        """An unnamed tensor as the given one but for the changes."""
        fields = {
            "shape": like.shape, "dtype": like.dtype, "quantization": like.quantization,
            "permutation": like.permutation, "columns": like.columns,
        }  # fmt: skip
        return Tensor(**{**fields, **changes})

    def emit(
        self, code: str, inputs: list[Tensor | None], output: Tensor | list[Tensor], **options: Any
    ) -> None:
        outputs = output if isinstance(output, list) else [output]
        memory = [None if tensor is None else tensor.memory for tensor in inputs]
        operator = Operator(code, memory, outputs, options, f"{self.node.op} {self.node.name}")
        if self.runtime and code in EQUIVALENTS and problem(operator, self.runtime):
            EQUIVALENTS[code](self, operator)
        else:
            self.model.operators.append(operator)

    def requantize(self, tensor: Tensor, quantization: Quantization | None, why: str) -> Tensor:
        """The tensor in another scale or zero point, by a QUANTIZE that the notes tell of."""
        assert quantization is not None and tensor.quantization is not None
        if tensor.quantization.same_as(quantization):
            return tensor
        result = self.temporary(tensor, quantization=quantization)
        self.emit("QUANTIZE", [tensor], result)
        self.note(f"{self.node.op} {self.node.name}: QUANTIZE added, {why}")
        return result
