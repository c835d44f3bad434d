"""The scales inside a quantized network chosen so that files need fewer of them; the integers stay.

Between two layers of weights the scale of an activation is a free choice: what it is multiplied by, the
weights before it are multiplied by, and those behind it divided. With a scale of 1 in front of a layer, the
scales of its bias, input scale x weight scale, are those of its weights: both formats hold them once, and a
.tflite file the parameters of all such activations, too. It is the freedom that cross-layer equalization uses
channel by channel (M. Nagel et al., "Data-free quantization through weight equalization and bias correction",
2019, section 4.1).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import onnx

from edgecnn.export.onnx_constants import Constants, share_constants

# y = a * op(x / a) for every a > 0, with all their inputs and outputs: what follows them has the same freedom.
_HOMOGENEOUS = frozenset(
    {
        "Add",
        "AveragePool",
        "Concat",
        "DepthToSpace",
        "Dropout",
        "Flatten",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "Identity",
        "LeakyRelu",
        "MaxPool",
        "ReduceMean",
        "Relu",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "Sub",
        "Transpose",
        "Unsqueeze",
    }
)
_WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
# float32 has 24 bits: a bias whose scale is input x weight, as it was computed elsewhere.
_ROUNDING = 1e-5


def unit_scales(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the QDQ `model` with the same integers, where as many activations as can be have the scale 1.

    Inputs and outputs of the graph keep their scales, and so does everything around an operation whose result
    does not grow with its input (a sigmoid, a clip), or around a layer that is not quantized whole. A model
    without quantization is returned as it is.
    """
    if not any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        return model
    written = onnx.ModelProto()
    written.CopyFrom(model)
    graph = _Graph(written)
    factors = graph.factors()
    if not factors:
        return model
    graph.rescale(factors)
    share_constants(written)
    return written


class _Graph:
    """A QDQ graph by the groups of tensors whose scales can only change together, each known by its root."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes = list(model.graph.node)
        self.constants = Constants(model)
        self.made_by = self.constants.made_by
        self._readers = Counter(name for node in self.nodes for name in node.input)
        self._parents: dict[str, str] = {}
        self._held: set[str] = set()
        self._hold(*(value.name for value in (*model.graph.input, *model.graph.output)))
        for node in self.nodes:
            self._tie(node)
        self.held = {self.root(name) for name in self._held}

    def root(self, name: str) -> str:
        """The name that stands for the group of tensor `name`."""
        while (parent := self._parents.setdefault(name, name)) != name:
            name = parent
        return name

    def factors(self) -> dict[str, float]:
        """By group: what its real numbers are multiplied by. What most output channels read becomes 1."""
        read: dict[str, Counter[float]] = {}
        for layer in self._layers():
            scale = self._scale(layer.input[0])
            group = self.root(layer.input[0])
            if group not in self.held:
                n_channels = self.constants.arrays[self.made_by[layer.input[1]].input[1]].size
                read.setdefault(group, Counter())[scale] += n_channels
        return {group: 1 / scales.most_common(1)[0][0] for group, scales in read.items()}

    def rescale(self, factors: dict[str, float]) -> None:
        """Writes the scales of activations, weights and biases, in place."""
        by_name = {name: factors.get(self.root(name), 1.0) for name in list(self._parents)}
        before = {layer.output[0]: self._scale(layer.input[0]) for layer in self._layers()}
        for node in self.nodes:
            if node.op_type in ("QuantizeLinear", "DequantizeLinear") and by_name.get(node.output[0], 1.0) != 1:
                scale = self.constants.arrays[node.input[1]].astype(np.float64) * by_name[node.output[0]]
                self.constants.own(node, 1, scale.astype(np.float32))
        for layer in self._layers():
            self._rescale_layer(layer, before[layer.output[0]], by_name)
        self.constants.write()

    def _rescale_layer(self, layer: onnx.NodeProto, input_scale: float, factors: dict[str, float]) -> None:
        data, weights, *bias = layer.input
        grown = factors[layer.output[0]]
        if grown == factors[data] == 1:
            return
        of_weights = self.made_by[weights]
        old = self.constants.arrays[of_weights.input[1]]
        new = (old.astype(np.float64) * grown / factors[data]).astype(np.float32)
        self.constants.own(of_weights, 1, new)
        if bias and bias[0]:
            of_bias = self.made_by[bias[0]]
            scale = self.constants.arrays[of_bias.input[1]]
            if np.allclose(scale, input_scale * old, rtol=_ROUNDING, atol=0):
                scale = np.float32(self._scale(data)) * new
            else:
                scale = (scale.astype(np.float64) * grown).astype(np.float32)
            self.constants.own(of_bias, 1, scale)

    def _tie(self, node: onnx.NodeProto) -> None:
        """Joins the tensors of `node` into one group, or holds them as they are."""
        numbers = [name for name in node.input if name and not self._is_shape(name)]
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            if node.input[0] not in self.constants.arrays:
                self._join(node.input[0], node.output[0])
        elif node.op_type in _WEIGHTED and self._is_quantized_whole(node):
            self.root(node.output[0])
        elif node.op_type in _HOMOGENEOUS and not any(map(self._is_constant, numbers)):
            self._join(*numbers, *filter(None, node.output))
        else:
            self._hold(*numbers, *filter(None, node.output))

    def _join(self, first: str, *others: str) -> None:
        for name in others:
            self._parents[self.root(name)] = self.root(first)

    def _hold(self, *names: str) -> None:
        for name in names:
            self.root(name)
        self._held.update(names)

    def _is_shape(self, name: str) -> bool:
        array = self.constants.arrays.get(name)
        return array is not None and array.dtype == np.int64

    def _is_constant(self, name: str) -> bool:
        source = self.made_by.get(name)
        return name in self.constants.arrays or (
            source is not None and source.op_type == "DequantizeLinear" and self._is_constant(source.input[0])
        )

    def _is_quantized_whole(self, layer: onnx.NodeProto) -> bool:
        """Whether input, weights and bias are integers, the latter two of this layer alone."""
        data, weights, *bias = layer.input
        constants = [name for name in (weights, *bias) if name]
        sources = [self.made_by.get(name) for name in (data, *constants)]
        as_is = all(attribute.f == 1 for attribute in layer.attribute if attribute.name in ("alpha", "beta"))
        return (
            as_is
            and all(source is not None and source.op_type == "DequantizeLinear" for source in sources)
            and not self._is_constant(data)
            and self.constants.arrays[self.made_by[data].input[1]].size == 1
            and all(self._is_constant(name) and self._readers[name] == 1 for name in constants)
        )

    def _layers(self) -> Iterator[onnx.NodeProto]:
        return (node for node in self.nodes if node.op_type in _WEIGHTED and self._is_quantized_whole(node))

    def _scale(self, name: str) -> float:
        """That of the DequantizeLinear which makes `name`: one number."""
        return float(self.constants.arrays[self.made_by[name].input[1]].reshape(-1)[0])
