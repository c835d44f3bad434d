"""ONNX operators on torch tensors: those of the networks that can be trained quantized."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional

from edgecnn.errors import QuantizationError

Tensors = Sequence[torch.Tensor]
Attributes = Mapping[str, Any]


def _padded(x: torch.Tensor, attributes: Attributes, value: float) -> torch.Tensor:
    """ONNX pads are all beginnings, then all ends; torch's are pairs, the last dimension first."""
    pads = attributes.get("pads", [0, 0, 0, 0])
    half = len(pads) // 2
    pairs = [side for axis in reversed(range(half)) for side in (pads[axis], pads[axis + half])]
    return functional.pad(x, pairs, value=value) if any(pairs) else x


def _conv(inputs: Tensors, attributes: Attributes) -> torch.Tensor:
    x, weight, *bias = inputs
    return functional.conv2d(
        _padded(x, attributes, 0.0),
        weight,
        bias[0] if bias else None,
        stride=tuple(attributes.get("strides", (1, 1))),
        dilation=tuple(attributes.get("dilations", (1, 1))),
        groups=attributes.get("group", 1),
    )


def _gemm(inputs: Tensors, attributes: Attributes) -> torch.Tensor:
    a, b, *c = inputs
    a = a.T if attributes.get("transA") else a
    b = b.T if attributes.get("transB") else b
    product = attributes.get("alpha", 1.0) * (a @ b)
    result: torch.Tensor = product + attributes.get("beta", 1.0) * c[0] if c else product
    return result


def _max_pool(inputs: Tensors, attributes: Attributes) -> torch.Tensor:
    return functional.max_pool2d(
        _padded(inputs[0], attributes, float("-inf")),
        tuple(attributes["kernel_shape"]),
        stride=tuple(attributes.get("strides", (1, 1))),
        dilation=tuple(attributes.get("dilations", (1, 1))),
        ceil_mode=bool(attributes.get("ceil_mode")),
    )


def _average_pool(inputs: Tensors, attributes: Attributes) -> torch.Tensor:
    """Sums over windows, divided by how many of their pixels count: those of the padding only where
    `count_include_pad` says so.
    """
    kernel, strides = tuple(attributes["kernel_shape"]), tuple(attributes.get("strides", (1, 1)))
    ceil_mode = bool(attributes.get("ceil_mode"))

    def sums(values: torch.Tensor) -> torch.Tensor:
        return functional.avg_pool2d(values, kernel, strides, ceil_mode=ceil_mode, divisor_override=1)

    counted = torch.ones_like(inputs[0][:1, :1])
    padding = 1.0 if attributes.get("count_include_pad") else 0.0
    n_counted = sums(_padded(counted, attributes, padding))
    return sums(_padded(inputs[0], attributes, 0.0)) / n_counted


def _reduce_mean(inputs: Tensors, attributes: Attributes) -> torch.Tensor:
    axes = inputs[1].tolist() if len(inputs) > 1 else attributes.get("axes", range(inputs[0].ndim))
    return inputs[0].mean(dim=tuple(axes), keepdim=bool(attributes.get("keepdims", 1)))


def _reshape(inputs: Tensors, attributes: Attributes) -> torch.Tensor:
    x, shape = inputs
    sizes = [x.shape[k] if size == 0 else size for k, size in enumerate(shape.tolist())]
    # Files may fix the batch at 1; in training it is another.
    return x.reshape([x.shape[0], *sizes[1:]] if sizes and sizes[0] in (1, -1) else sizes)


def _flatten(inputs: Tensors, attributes: Attributes) -> torch.Tensor:
    return torch.flatten(inputs[0], attributes.get("axis", 1))


def _clip(inputs: Tensors, attributes: Attributes) -> torch.Tensor:
    low, high = (*(float(bound) for bound in inputs[1:]), None, None)[:2]
    return inputs[0].clamp(low, high)


OPERATORS: dict[str, Callable[[Tensors, Attributes], torch.Tensor]] = {
    "Conv": _conv,
    "Gemm": _gemm,
    "MatMul": lambda inputs, _: inputs[0] @ inputs[1],
    "Add": lambda inputs, _: inputs[0] + inputs[1],
    "Mul": lambda inputs, _: inputs[0] * inputs[1],
    "Relu": lambda inputs, _: functional.relu(inputs[0]),
    "LeakyRelu": lambda inputs, attributes: functional.leaky_relu(inputs[0], attributes.get("alpha", 0.01)),
    "Clip": _clip,
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "ReduceMean": _reduce_mean,
    "GlobalAveragePool": lambda inputs, _: inputs[0].mean(dim=(2, 3), keepdim=True),
    "Concat": lambda inputs, attributes: torch.cat(list(inputs), dim=attributes["axis"]),
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Identity": lambda inputs, _: inputs[0],
}


def require_known(kinds: Iterable[str]) -> None:
    """Raises QuantizationError that names the operators of `kinds` which are not in OPERATORS."""
    unknown = sorted(set(kinds) - OPERATORS.keys())
    if unknown:
        raise QuantizationError(
            f"quantization-aware training does not know the operators {', '.join(unknown)}",
            fix=f"leave the qat step out; it knows {', '.join(OPERATORS)}",
        )
