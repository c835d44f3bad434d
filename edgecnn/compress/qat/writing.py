"""The trained integers and scales, back in the ONNX graph that they came from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from edgecnn.compress.qat.graph import QuantizedConstant
from edgecnn.compress.qat.network import QatNetwork, key_of
from edgecnn.compress.qdq import share_constants

INT32 = np.iinfo(np.int32)


@torch.inference_mode()
def trained_model(model: onnx.ModelProto, network: QatNetwork) -> onnx.ModelProto:
    """A copy of the QDQ `model` that `network` was made from, with the weights, biases and scales that it has
    now.
    """
    written = onnx.ModelProto()
    written.CopyFrom(model)
    apart = _Constants(written)
    scales = {name: _positive(network.scales[key_of(name)]) for name in network.graph.scales}
    for name, scale in scales.items():
        apart.set(name, np.float32(scale))
    input_scale = {tensor: float(scales[name]) for tensor, name in network.graph.scale_of.items()}
    for node in written.graph.node:
        if node.op_type == "DequantizeLinear" and node.output[0] in network.graph.weights:
            constant = network.graph.weights[node.output[0]]
            weight_scale = _positive(network.weight_scales[key_of(node.output[0])])
            apart.own(node, 0, _integers(network, node.output[0], constant, weight_scale))
            apart.own(node, 1, weight_scale.reshape(np.shape(apart.arrays[constant.scale])))
    for node in written.graph.node:
        _write_bias(node, network, apart, input_scale)
    apart.write()
    share_constants(written)
    return written


def _positive(scale: torch.Tensor) -> NDArray[Any]:
    return np.maximum(scale.detach().cpu().numpy().astype(np.float32), np.float32(1e-9))


def _integers(network: QatNetwork, name: str, constant: QuantizedConstant, scale: NDArray[Any]) -> NDArray[Any]:
    values = network.weights[key_of(name)].detach().cpu().numpy()
    shape = [-1 if constant.axis == k else 1 for k in range(values.ndim)]
    result: NDArray[Any] = np.clip(
        np.rint(values / scale.reshape(shape)), -network.largest, network.largest
    ).astype(np.int8)
    return result


def _write_bias(
    node: onnx.NodeProto, network: QatNetwork, apart: _Constants, input_scale: Mapping[str, float]
) -> None:
    """A bias has the scale input x weight, and 32 bits."""
    if len(node.input) < 3 or node.input[2] not in network.graph.biases:
        return
    dequantize = apart.made_by[node.input[2]]
    weight_scale = apart.arrays[apart.made_by[node.input[1]].input[1]]
    scale = np.atleast_1d(np.float32(input_scale[node.input[0]]) * weight_scale).astype(np.float32)
    values = network.biases[key_of(node.input[2])].detach().cpu().numpy()
    integers = np.clip(np.rint(values.astype(np.float64) / scale), INT32.min, INT32.max).astype(np.int32)
    apart.own(dequantize, 0, integers)
    apart.own(dequantize, 1, scale.reshape(np.shape(apart.arrays[dequantize.input[1]])))


class _Constants:
    """The initializers of a model, so that one which several nodes shared can become one for each."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = model.graph
        self.arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        self.made_by = {name: node for node in model.graph.node for name in node.output}

    def set(self, name: str, array: NDArray[Any] | np.generic) -> None:
        self.arrays[name] = np.asarray(array)

    def own(self, node: onnx.NodeProto, index: int, array: NDArray[Any]) -> None:
        """`array` as a constant that only input `index` of `node` reads."""
        name = f"{node.output[0]}/{index}"
        self.arrays[name] = array
        node.input[index] = name

    def write(self) -> None:
        del self._graph.initializer[:]
        self._graph.initializer.extend(numpy_helper.from_array(a, name) for name, a in self.arrays.items())
