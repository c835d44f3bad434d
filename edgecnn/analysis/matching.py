"""Which tensor of a float ONNX graph is which of the QDQ graph that was quantized from it.

Quantizers rename tensors, reorder nodes and drop the activations that a clipping range makes needless, so the
graphs are followed from their inputs: a node is the counterpart of another where the operator, the inputs and
the shapes of the weights are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")
# An integer range that ends at 0 (or 6) does their work.
CLIPPING = ("Relu", "Clip")
# They change no value: a row of their own would say the same twice.
RESHAPING = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Identity"})


@dataclass(frozen=True)
class MatchedTensor:
    """A quantized tensor: `float_name` in the float graph, `dequantized` in the QDQ graph; per-tensor scale."""

    float_name: str
    dequantized: str
    label: str
    operator: str
    scale: float
    zero_point: int
    limits: tuple[int, int]
    """The least and the greatest integer of its type."""


@dataclass(frozen=True)
class MatchedWeights:
    """A layer's float weights, and what the integers of the QDQ graph stand for; both of one shape.

    `tensor` is their name in the float graph.
    """

    layer: str
    tensor: str
    original: NDArray[Any]
    dequantized: NDArray[Any]
    is_per_channel: bool


@dataclass(frozen=True)
class MatchedLayer:
    """A node with weights: it gives `float_output` in the float graph, `qdq_output` in the QDQ graph."""

    layer: str
    float_output: str
    qdq_output: str


@dataclass
class Matching:
    activations: list[MatchedTensor] = field(default_factory=list)
    weights: list[MatchedWeights] = field(default_factory=list)
    layers: list[MatchedLayer] = field(default_factory=list)
    n_unmatched: int = 0


def match(float_graph: onnx.GraphProto, qdq_graph: onnx.GraphProto) -> Matching:
    """Every quantized activation and weight of `qdq_graph` with its counterpart in `float_graph`."""
    return _Matcher(_Graph(float_graph), _Graph(qdq_graph)).run()


def layer_name(initializer: str) -> str:
    """The layer that a weight belongs to: "conv1.weight" -> "conv1"."""
    return initializer.rpartition(".")[0] or initializer


class _Graph:
    """A graph with what is looked up in it: who makes and who reads a tensor, and the constants."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.inputs = [value.name for value in graph.input]
        self.nodes = list(graph.node)
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.inputs = [name for name in self.inputs if name not in self.constants]
        self.made_by = {name: node for node in self.nodes for name in node.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def source(self, name: str) -> str:
        """The tensor that was quantized and dequantized to give `name`; `name` where it was not."""
        while (node := self.made_by.get(name)) is not None and node.op_type in QUANTIZERS:
            name = node.input[0]
        return name

    def activations(self, node: onnx.NodeProto) -> tuple[str, ...]:
        return tuple(s for s in map(self.source, node.input) if s and s not in self.constants)

    def parameters(self, node: onnx.NodeProto) -> list[str]:
        """The names, as the node reads them, of its constant inputs."""
        return [name for name in node.input if name and self.source(name) in self.constants]

    def weight_shape(self, node: onnx.NodeProto) -> tuple[int, ...] | None:
        named = self.parameters(node)
        return tuple(self.constants[self.source(named[0])].dims) if named else None

    def array(self, name: str) -> NDArray[Any]:
        return numpy_helper.to_array(self.constants[name])


class _Matcher:
    def __init__(self, original: _Graph, quantized: _Graph) -> None:
        self.original = original
        self.quantized = quantized
        # Tensor of the QDQ graph before its quantizer -> tensor of the float graph.
        self.float_of = dict(zip(quantized.inputs, original.inputs, strict=False))
        self.free = [node for node in original.nodes if node.op_type not in QUANTIZERS]
        self.found = Matching()

    def run(self) -> Matching:
        for node in self.quantized.nodes:
            if node.op_type in QUANTIZERS:
                continue
            twin = self._twin(node)
            if twin is None:
                continue
            self.free.remove(twin)
            self.float_of.update(zip(node.output, twin.output, strict=False))
            if len(self.original.weight_shape(twin) or ()) > 1:
                named = layer_name(self.original.parameters(twin)[0])
                self.found.layers.append(MatchedLayer(named, twin.output[0], node.output[0]))
            self._keep_weights(node, twin)
        for node in self.quantized.nodes:
            if node.op_type == "QuantizeLinear" and node.input[0] not in self.quantized.constants:
                self._keep_activation(node)
        return self.found

    def _twin(self, node: onnx.NodeProto) -> onnx.NodeProto | None:
        """The float node that does what `node` does; its inputs are known from then on to be the same."""
        read = self.quantized.activations(node)
        if any(name not in self.float_of for name in read):
            return None
        shape = self.quantized.weight_shape(node)
        for candidate in self.free:
            same = candidate.op_type == node.op_type and self.original.weight_shape(candidate) == shape
            inputs = self.original.activations(candidate)
            if not same or len(inputs) != len(read):
                continue
            if all(one in self._reached(name) for one, name in zip(inputs, read, strict=True)):
                self.float_of.update(zip(read, inputs, strict=True))
                result: onnx.NodeProto | None = candidate
                return result
        return None

    def _reached(self, name: str) -> Iterator[str]:
        """The float tensor of `name`, and what activations that the QDQ graph lacks make of it."""
        tensor: str | None = self.float_of[name]
        while tensor is not None:
            yield tensor
            tensor = self._after_clipping(tensor)

    def _after_clipping(self, tensor: str) -> str | None:
        readers = self.original.readers.get(tensor, [])
        if len(readers) == 1 and readers[0].op_type in CLIPPING and readers[0] in self.free:
            result: str | None = readers[0].output[0]
            return result
        return None

    def _keep_activation(self, quantizer: onnx.NodeProto) -> None:
        name = quantizer.input[0]
        maker = self.quantized.made_by.get(name)
        readers = self.quantized.readers.get(quantizer.output[0], [])
        dequantized = [reader.output[0] for reader in readers if reader.op_type == "DequantizeLinear"]
        scale, zero_point = _quantization(self.quantized, quantizer)
        if name not in self.float_of or not dequantized or scale.size != 1:
            self.found.n_unmatched += 1
            return
        if maker is not None and maker.op_type in RESHAPING:
            return
        float_name = self.float_of[name]
        limits = ml_dtypes.iinfo(zero_point.dtype)  # those of 4 bits, too
        self.found.activations.append(
            MatchedTensor(
                float_name,
                dequantized[0],
                self._label(float_name),
                self._operators(float_name, maker),
                float(scale.reshape(-1)[0]),
                int(zero_point.reshape(-1)[0]),
                (int(limits.min), int(limits.max)),
            )
        )

    def _label(self, float_name: str) -> str:
        """The layer that makes a float tensor, by its weights; the tensor's own name where it has none."""
        node = self.original.made_by.get(float_name)
        while node is not None and node.op_type in CLIPPING:
            node = self.original.made_by.get(node.input[0])
        named = self.original.parameters(node) if node is not None and node.op_type not in RESHAPING else []
        return layer_name(named[0]) if named and "." in named[0] else float_name

    def _operators(self, float_name: str, maker: onnx.NodeProto | None) -> str:
        """What makes the tensor: "Conv", "Conv + Relu" where the quantizer took the activation in."""
        if maker is None:
            return "input"
        last = self.original.made_by[float_name].op_type
        return maker.op_type if last == maker.op_type else f"{maker.op_type} + {last}"

    def _keep_weights(self, node: onnx.NodeProto, twin: onnx.NodeProto) -> None:
        for name, original in zip(
            self.quantized.parameters(node), self.original.parameters(twin), strict=False
        ):
            maker = self.quantized.made_by.get(name)
            if maker is None or maker.op_type != "DequantizeLinear":
                continue
            integers = self.quantized.array(maker.input[0])
            if integers.dtype == np.int32:  # a bias: its scale follows from the others
                continue
            scale, zero_point = _quantization(self.quantized, maker)
            if scale.ndim > 1:  # blockwise: this has no one scale a channel
                self.found.n_unmatched += 1
                continue
            axis = next((attribute.i for attribute in maker.attribute if attribute.name == "axis"), 1)
            shape = [-1 if i == axis else 1 for i in range(integers.ndim)] if scale.size > 1 else [1]
            steps = integers.astype(np.float64) - zero_point.astype(np.float64).reshape(shape)
            values = steps * scale.astype(np.float64).reshape(shape)
            layer = layer_name(original)
            self.found.weights.append(
                MatchedWeights(layer, original, self.original.array(original), values, scale.size > 1)
            )


def _quantization(graph: _Graph, node: onnx.NodeProto) -> tuple[NDArray[Any], NDArray[Any]]:
    """Scale and zero point of a quantizer; without one the zero point is a uint8 0, as ONNX says."""
    scale = graph.array(node.input[1])
    named: Sequence[str] = node.input
    return scale, graph.array(named[2]) if len(named) > 2 and named[2] else np.zeros(scale.shape, np.uint8)
