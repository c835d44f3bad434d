"""A TFLite model in memory: what the lowering emits and the writer packs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Quantization:
    """Affine quantization: real = scale * (q - zero_point).

    `scale` (float32) and `zero_point` (int64) are vectors of one value, or of one a channel; `axis` is the
    channel axis (TFLite: quantized_dimension), None where there is one scale for the whole tensor.
    """

    scale: NDArray[Any]
    zero_point: NDArray[Any]
    axis: int | None = None

    @classmethod
    def per_tensor(cls, scale: float, zero_point: int) -> Quantization:
        return cls(np.array([scale], np.float32), np.array([zero_point], np.int64))

    @property
    def is_per_tensor(self) -> bool:
        return self.axis is None

    def same_as(self, other: Quantization) -> bool:
        """Whether both map integers to the same real numbers, bit by bit."""
        return (
            self.axis == other.axis
            and np.array_equal(self.scale, other.scale)
            and np.array_equal(self.zero_point, other.zero_point)
        )

    def along(self, axis: int | None) -> Quantization:
        return Quantization(self.scale, self.zero_point, axis)

    def chosen(self, channels: Any) -> Quantization:
        """The parameters of some of the channels, in that order: a slice or an array of indices."""
        if self.scale.size == 1:
            return self
        return Quantization(self.scale[channels], self.zero_point[channels], self.axis)

    def broadcast(self, values: NDArray[Any], rank: int) -> NDArray[Any]:
        """`values` (one a channel) shaped to multiply a tensor of that rank."""
        if self.axis is None:
            return values.reshape(())
        return values.reshape([-1 if axis == self.axis else 1 for axis in range(rank)])

    def dequantize(self, integers: NDArray[Any]) -> NDArray[Any]:
        """The float32 numbers that the integers stand for."""
        zero_point = self.broadcast(self.zero_point, integers.ndim)
        scale = self.broadcast(self.scale, integers.ndim)
        result: NDArray[Any] = ((integers.astype(np.int64) - zero_point) * scale).astype(np.float32)
        return result

    def quantize(self, values: NDArray[Any], dtype: str) -> NDArray[Any]:
        """The nearest integers of `dtype`, ties to even, saturated."""
        scale = self.broadcast(self.scale, values.ndim).astype(np.float64)
        zero_point = self.broadcast(self.zero_point, values.ndim)
        limits = np.iinfo(dtype)
        integers = np.rint(values.astype(np.float64) / scale) + zero_point
        result: NDArray[Any] = np.clip(integers, limits.min, limits.max).astype(dtype)
        return result


@dataclass(eq=False)
class Tensor:
    """One TFLite tensor. `shape` is in the order of its memory.

    `permutation[i]` names the ONNX axis of its axis i. `columns` is set on the rank-2 result of a flatten
    that left its features in NHWC order: element j of a row is element columns[j] of the ONNX row. `base`
    is set on what is no tensor of its own, but another tensor with its axes renamed.
    """

    shape: tuple[int, ...]
    dtype: str
    data: NDArray[Any] | None = None
    quantization: Quantization | None = None
    name: str | None = None
    permutation: tuple[int, ...] = ()
    columns: NDArray[Any] | None = None
    base: Tensor | None = None

    @property
    def memory(self) -> Tensor:
        """The tensor of the file: itself, or the one that it renames the axes of."""
        return self.base or self


@dataclass(eq=False)
class Operator:
    """One TFLite operator. `inputs` holds None for an optional one left out; `source` names the ONNX node."""

    code: str
    inputs: list[Tensor | None]
    outputs: list[Tensor]
    options: dict[str, Any] = field(default_factory=dict)
    source: str = ""


@dataclass(eq=False)
class Model:
    operators: list[Operator] = field(default_factory=list)
    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)

    def remove_unused(self) -> None:
        """Drops the operators whose results nothing reads."""
        needed = {id(tensor.memory) for tensor in self.outputs}
        used = []
        for operator in reversed(self.operators):
            if any(id(tensor) in needed for tensor in operator.outputs):
                used.append(operator)
                needed.update(id(tensor) for tensor in operator.inputs if tensor is not None)
        self.operators = used[::-1]

    def tensors(self) -> list[Tensor]:
        """Every tensor once: inputs first, then in order of first use."""
        seen: dict[int, Tensor] = {id(tensor): tensor for tensor in self.inputs}
        for operator in self.operators:
            for tensor in (*operator.inputs, *operator.outputs):
                if tensor is not None:
                    seen.setdefault(id(tensor), tensor)
        for tensor in self.outputs:
            seen.setdefault(id(tensor.memory), tensor.memory)
        return list(seen.values())
