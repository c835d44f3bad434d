"""Cross-layer equalization: a channel made smaller in one layer and larger in what reads it, so that every
channel of a layer needs about the same range. The float network computes what it did; fewer steps of int8 are
wasted.

Source: M. Nagel et al., "Data-free quantization through weight equalization and bias correction", 2019, section
4.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper, shape_inference

# What a channel passes through unchanged but for its scale: f(s x) = s f(x) for s > 0, each channel by itself.
SCALED_THROUGH = frozenset(
    {"Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "Dropout", "Identity"}
)
FLATTENING = frozenset({"Flatten", "Reshape", "Squeeze"})
# Scaling one pair of layers changes what is best for its neighbours.
N_SWEEPS = 20


@dataclass(frozen=True)
class _Reader:
    """A layer that reads `n` channels, from `first` on, of the `n_all` of its input."""

    weights: str
    first: int
    n_all: int


@dataclass(frozen=True)
class _Maker:
    """A layer whose output channels may be scaled, with all that read them."""

    weights: str
    bias: str | None
    readers: tuple[_Reader, ...]


def equalize(model: onnx.ModelProto) -> int:
    """Equalizes the float `model`, in place; how many layers had their output channels scaled.

    A layer is left alone where what it gives ends anywhere but in layers, through operators that commute with a
    scale: an addition, an output, a clipped ReLU, a depthwise convolution.
    """
    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    values = {name: numpy_helper.to_array(tensor).copy() for name, tensor in tensors.items()}
    makers = list(_makers(model, tensors))
    for _ in range(N_SWEEPS):
        for maker in makers:
            _scale(maker, values)
    for name in {name for maker in makers for name in _changed(maker)}:
        tensors[name].CopyFrom(numpy_helper.from_array(values[name], name))
    return len(makers)


def _changed(maker: _Maker) -> Iterator[str]:
    yield maker.weights
    if maker.bias:
        yield maker.bias
    yield from (reader.weights for reader in maker.readers)


def _scale(maker: _Maker, values: dict[str, NDArray[Any]]) -> None:
    """Divides each output channel by s, and multiplies what reads it by s: root of own range / read range."""
    weights = values[maker.weights]
    own = np.abs(weights).reshape(len(weights), -1).max(axis=1)
    read = np.max([_read_ranges(reader, len(weights), values) for reader in maker.readers], axis=0)
    alive = (own > 0) & (read > 0)
    scale = np.sqrt(np.divide(own, read, out=np.ones_like(own), where=alive))
    weights /= scale.reshape(-1, *[1] * (weights.ndim - 1))
    if maker.bias:
        values[maker.bias] /= scale
    for reader in maker.readers:
        _columns(reader, len(weights), values)[...] *= scale[None, :, None]


def _columns(reader: _Reader, n: int, values: dict[str, NDArray[Any]]) -> NDArray[Any]:
    """A view [outputs, n, rest] of the weights that meet the `n` channels."""
    weights = values[reader.weights]
    by_channel = weights.reshape(len(weights), reader.n_all, -1)
    return by_channel[:, reader.first : reader.first + n]


def _read_ranges(reader: _Reader, n: int, values: dict[str, NDArray[Any]]) -> NDArray[Any]:
    result: NDArray[Any] = np.abs(_columns(reader, n, values)).max(axis=(0, 2))
    return result


def _makers(model: onnx.ModelProto, constants: dict[str, onnx.TensorProto]) -> Iterator[_Maker]:
    graph = model.graph
    readers_of: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers_of.setdefault(name, []).append(node)
    n_uses = {name: len(readers_of.get(name, ())) for name in constants}
    walk = _Walk(readers_of, _channels(model), {value.name for value in graph.output}, n_uses)
    for node in graph.node:
        bias = node.input[2] if len(node.input) > 2 and node.input[2] else None
        if not _is_layer(node, n_uses) or (bias and n_uses.get(bias) != 1):
            continue
        n = constants[node.input[1]].dims[0]
        readers = walk.from_tensor(node.output[0], 0, n)
        if readers:
            yield _Maker(node.input[1], bias, tuple(readers))


def _is_layer(node: onnx.NodeProto, n_uses: dict[str, int]) -> bool:
    """A convolution without groups or a dense layer whose weights [outputs, inputs, ...] are its own."""
    attributes = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
    if node.op_type == "Conv":
        fits = attributes.get("group", 1) == 1
    else:
        plain = attributes.get("alpha", 1.0) == 1 and attributes.get("beta", 1.0) == 1
        fits = node.op_type == "Gemm" and attributes.get("transB", 0) == 1 and plain
        fits = fits and not attributes.get("transA", 0)
    return bool(fits) and n_uses.get(node.input[1]) == 1


def _channels(model: onnx.ModelProto) -> dict[str, int]:
    """The channels of each tensor [batch, channels, ...] where they are known."""
    graph = shape_inference.infer_shapes(model).graph
    shapes = {
        value.name: value.type.tensor_type.shape.dim
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
    return {name: shape[1].dim_value for name, shape in shapes.items() if len(shape) > 1 and shape[1].dim_value}


@dataclass(frozen=True)
class _Walk:
    readers_of: dict[str, list[onnx.NodeProto]]
    channels: dict[str, int]
    outputs: set[str]
    n_uses: dict[str, int]

    def from_tensor(self, name: str, first: int, n_all: int) -> list[_Reader]:
        """The layers that read the tensor `name`, of which a maker's channels begin at `first` of `n_all`; none
        where anything else reads it, too.
        """
        found: list[_Reader] = []
        nodes = self.readers_of.get(name, [])
        if name in self.outputs or not nodes:
            return []
        for node in nodes:
            beyond = self._through(node, name, first, n_all)
            if not beyond:
                return []
            found += beyond
        return found

    def _through(self, node: onnx.NodeProto, name: str, first: int, n_all: int) -> list[_Reader]:
        if node.op_type in SCALED_THROUGH | FLATTENING:
            # Flattened, a channel is a run of columns: `n_all` stays the number of runs.
            return self.from_tensor(node.output[0], first, n_all)
        joins = node.op_type == "Concat" and _axis(node) == 1 and list(node.input).count(name) == 1
        if joins and all(one in self.channels for one in node.input):
            before = sum(self.channels[one] for one in node.input[: list(node.input).index(name)])
            whole = sum(self.channels[one] for one in node.input)
            return self.from_tensor(node.output[0], before + first, whole)
        if _is_layer(node, self.n_uses) and node.input[0] == name:
            return [_Reader(node.input[1], first, n_all)]
        return []


def _axis(node: onnx.NodeProto) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
