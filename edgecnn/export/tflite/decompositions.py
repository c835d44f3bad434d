"""ONNX operations that TFLite has no operator for, spelled out in operations that it has.

Runs on the float parts of a graph, once quantization is absorbed. To add one: a function of (Builder, Node)
whose last line gives the result, and its name in DECOMPOSITIONS.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgecnn.export.tflite.folding import reduced_axes
from edgecnn.export.tflite.graph import Graph, Node, Value
from edgecnn.export.tflite.runtimes import RUNTIMES

# Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26: erf to within 1.5e-7.
ERF_P = 0.3275911
ERF_COEFFICIENTS = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
# A number times this is its sign, once it is clipped to -1..1.
_STEEP = 1e30
# Selu's, as the ONNX operator defines them.
_SELU_ALPHA, _SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875


class Builder:
    """Makes the nodes of one decomposition; numbers and arrays among the inputs become constants."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.nodes: list[Node] = []

    def __call__(self, op: str, *inputs: Any, shape: tuple[int, ...] | None = None, **attributes: Any) -> Value:
        values = [given if isinstance(given, Value) else _constant(given) for given in inputs]
        if shape is None:
            shape = np.broadcast_shapes(*(value.shape for value in values))
        dtype = next((value.dtype for value in values if not value.is_constant), "float32")
        output = Value(f"{self.node.output.name}_{len(self.nodes)}", shape, dtype)
        self.nodes.append(Node(op, [*values], [output], attributes, self.node.name))
        return output

    def reduced(self, op: str, x: Value, axes: list[int], *, keep: bool = True) -> Value:
        sizes = [1 if axis in axes else size for axis, size in enumerate(x.shape)]
        shape = tuple(size for axis, size in enumerate(sizes) if keep or axis not in axes)
        return self(op, x, np.array(axes, np.int64), shape=shape, keepdims=int(keep))


def _constant(given: Any) -> Value:
    array = np.asarray(given, None if isinstance(given, np.ndarray) else np.float32)
    return Value("", array.shape, array.dtype.name, array)


Decomposition = Callable[[Builder, Node], Value | None]


def decompose(graph: Graph, runtime: str | None = None) -> None:
    """Replaces each node of DECOMPOSITIONS by what it stands for, and what that stands for in turn.

    Likewise those of WHERE_UNKNOWN whose TFLite operator the runtime does not have.
    """
    known = RUNTIMES.get(runtime or "")
    extra = {op: f for op, (code, f) in WHERE_UNKNOWN.items() if known is not None and code not in known}
    table = {**DECOMPOSITIONS, **extra}
    graph.nodes = [simple for node in graph.nodes for simple in _decomposed(node, table)]


def _decomposed(node: Node, table: dict[str, Decomposition]) -> list[Node]:
    decomposition = table.get(node.op)
    if decomposition is None or len(node.outputs) != 1:
        return [node]
    if node.data_input().dtype != "float32" and node.op not in _OF_INTEGERS_TOO:
        return [node]
    build = Builder(node)
    if decomposition(build, node) is None:
        return [node]
    build.nodes[-1].outputs = node.outputs
    return [simple for part in build.nodes for simple in _decomposed(part, table)]


def _normalized(build: Builder, x: Value, axes: list[int], epsilon: float) -> Value:
    """(x - mean) / sqrt(variance + epsilon), both over the axes."""
    centred = build("Sub", x, build.reduced("ReduceMean", x, axes))
    variance = build.reduced("ReduceMean", build("Mul", centred, centred), axes)
    return build("Div", centred, build("Sqrt", build("Add", variance, epsilon)))


def layer_normalization(build: Builder, node: Node) -> Value:
    x, scale, bias = node.data_input(), node.data_input(1), node.input(2)
    rank = len(x.shape)
    axes = list(range(node.attributes.get("axis", -1) % rank, rank))
    result = build("Mul", _normalized(build, x, axes, node.attributes.get("epsilon", 1e-5)), scale)
    return result if bias is None else build("Add", result, bias)


def instance_normalization(build: Builder, node: Node) -> Value | None:
    x, scale, bias = node.data_input(), node.constant(1), node.constant(2)
    if scale is None or bias is None:
        return None
    axes, one_a_channel = list(range(2, len(x.shape))), (-1, *[1] * (len(x.shape) - 2))
    result = _normalized(build, x, axes, node.attributes.get("epsilon", 1e-5))
    if np.all(scale == 1) and not np.any(bias):
        return result
    return build("Add", build("Mul", result, scale.reshape(one_a_channel)), bias.reshape(one_a_channel))


def reduction(before: str, after: str = "") -> Decomposition:
    """A ReduceSum of a function of each element, `before`; of the sum then `after`."""

    def decompose_reduction(build: Builder, node: Node) -> Value | None:
        x = node.data_input()
        axes = reduced_axes(node.attributes, [None, node.constant(1)], len(x.shape))
        if not axes:
            return None
        each = build("Mul", x, x) if before == "Square" else build(before, x)
        total = build.reduced("ReduceSum", each, [*axes], keep=bool(node.attributes.get("keepdims", 1)))
        return build(after, total) if after else total

    return decompose_reduction


def softplus(build: Builder, node: Node) -> Value:
    """log(1 + exp(x)), written so that no exp overflows."""
    x = node.data_input()
    small = build("Log", build("Add", build("Exp", build("Neg", build("Abs", x))), 1.0))
    return build("Add", build("Relu", x), small)


def mish(build: Builder, node: Node) -> Value:
    return build("Mul", node.data_input(), build("Tanh", build("Softplus", node.data_input())))


def exponential_unit(build: Builder, x: Value, alpha: float, width: float = 1.0, gain: float = 1.0) -> Value:
    """gain * (x above zero, alpha (exp(x / width) - 1) below), by TFLite's ELU, whose alpha is 1."""
    above, below = build("Relu", x), build("Min", x, 0.0)
    bent = build("Elu", below if width == 1.0 else build("Mul", below, 1 / width))
    return build("Add", above if gain == 1.0 else build("Mul", above, gain), build("Mul", bent, gain * alpha))


def elu(build: Builder, node: Node) -> Value | None:
    alpha = node.attributes.get("alpha", 1.0)
    return None if alpha == 1.0 else exponential_unit(build, node.data_input(), alpha)


def celu(build: Builder, node: Node) -> Value | None:
    alpha = node.attributes.get("alpha", 1.0)
    if alpha <= 0:
        return None  # what is below zero would be above it for Elu
    return exponential_unit(build, node.data_input(), alpha, width=alpha)


def selu(build: Builder, node: Node) -> Value:
    alpha, gamma = node.attributes.get("alpha", _SELU_ALPHA), node.attributes.get("gamma", _SELU_GAMMA)
    return exponential_unit(build, node.data_input(), alpha, gain=gamma)


def erf(build: Builder, node: Node) -> Value:
    """sign(x) (1 - t (a1 + t (a2 + ...)) exp(-x^2)), t = 1 / (1 + p |x|)."""
    x = node.data_input()
    t = build("Reciprocal", build("Add", build("Mul", build("Abs", x), ERF_P), 1.0))
    polynomial = build("Mul", t, ERF_COEFFICIENTS[0])
    for coefficient in ERF_COEFFICIENTS[1:]:
        polynomial = build("Mul", t, build("Add", polynomial, coefficient))
    rest = build("Mul", polynomial, build("Exp", build("Neg", build("Mul", x, x))))
    return build("Mul", build("Sign", x), build("Sub", 1.0, rest))


def sign(build: Builder, node: Node) -> Value:
    return build("Mul", node.data_input(), _STEEP, activation="RELU_N1_TO_1")


def gelu(build: Builder, node: Node) -> Value:
    """x / 2 (1 + erf(x / sqrt(2))), or its approximation by tanh."""
    x = node.data_input()
    if node.attributes.get("approximate") == "tanh":
        cubed = build("Mul", build("Mul", x, x), build("Mul", x, 0.044715))
        bent = build("Tanh", build("Mul", build("Add", x, cubed), np.sqrt(2 / np.pi)))
    else:
        bent = build("Erf", build("Mul", x, np.sqrt(0.5)))
    return build("Mul", build("Mul", x, 0.5), build("Add", bent, 1.0))


def power(build: Builder, node: Node) -> Value | None:
    """The powers that networks have, of integers only whole ones; any other stays POW."""
    x, exponent = node.data_input(), node.constant(1)
    match float(exponent.reshape(-1)[0]) if exponent is not None and exponent.size == 1 else None:
        case 2.0:
            return build("Mul", x, x)
        case 3.0:
            return build("Mul", build("Mul", x, x), x)
        case _ if x.dtype != "float32":
            return None
        case 0.5:
            return build("Sqrt", x)
        case -0.5:
            return build("Reciprocal", build("Sqrt", x))
        case -1.0:
            return build("Reciprocal", x)
    return None


DECOMPOSITIONS: dict[str, Decomposition] = {
    "Celu": celu,
    "Elu": elu,
    "Erf": erf,
    "InstanceNormalization": instance_normalization,
    "LayerNormalization": layer_normalization,
    "Mish": mish,
    "Pow": power,
    "ReduceL1": reduction("Abs"),
    "ReduceL2": reduction("Square", "Sqrt"),
    "ReduceSumSquare": reduction("Square"),
    "Selu": selu,
    "Sign": sign,
    "Softplus": softplus,
}

# What these stand for has no constants of float32 in it.
_OF_INTEGERS_TOO = frozenset(["Pow", "ReduceL1", "ReduceSumSquare"])

# ONNX operation -> (the TFLite operator that some runtimes have for it, what else to write).
WHERE_UNKNOWN: dict[str, tuple[str, Decomposition]] = {"Gelu": ("GELU", gelu)}
