"""The trained integers and scales, back in the ONNX graph that they came from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from edgecnn.compress.qat.graph import QuantizedConstant
from edgecnn.compress.qat.network import QatNetwork, key_of
from edgecnn.export.onnx_constants import Constants, bias_integers, share_constants


@torch.inference_mode()
def trained_model(model: onnx.ModelProto, network: QatNetwork) -> onnx.ModelProto:
    """A copy of the QDQ `model` that `network` was made from, with the weights, biases and scales that it has
    now.
    """
    written = onnx.ModelProto()
    written.CopyFrom(model)
    apart = Constants(written)
    scales = {name: _as_numpy(network.scales[key_of(name)]()) for name in network.graph.scales}
    for name, scale in scales.items():
        apart.set(name, np.float32(scale))
    input_scale = {tensor: float(scales[name]) for tensor, name in network.graph.scale_of.items()}
    for name, constant in network.graph.weights.items():
        weight_scale = _as_numpy(network.weight_scales[key_of(name)]())
        integers = _integers(network, name, constant, weight_scale)
        apart.requantize(name, integers, weight_scale.reshape(np.shape(apart.arrays[constant.scale])))
    for node in written.graph.node:
        _write_bias(node, network, apart, input_scale)
    apart.write()
    share_constants(written)
    return written


def _as_numpy(tensor: torch.Tensor) -> NDArray[Any]:
    result: NDArray[Any] = tensor.detach().cpu().numpy()
    return result


def _integers(network: QatNetwork, name: str, constant: QuantizedConstant, scale: NDArray[Any]) -> NDArray[Any]:
    values = _as_numpy(network.weights[key_of(name)])
    shape = [-1 if constant.axis == k else 1 for k in range(values.ndim)]
    largest = network.largest[name]
    result: NDArray[Any] = np.clip(np.rint(values / scale.reshape(shape)), -largest, largest).astype(np.int8)
    return result


def _write_bias(
    node: onnx.NodeProto, network: QatNetwork, apart: Constants, input_scale: Mapping[str, float]
) -> None:
    """A bias has the scale input x weight, and 32 bits."""
    if len(node.input) < 3 or node.input[2] not in network.graph.biases:
        return
    weight_scale = apart.arrays[apart.made_by[node.input[1]].input[1]]
    scale = np.float32(input_scale[node.input[0]]) * weight_scale
    values = _as_numpy(network.biases[key_of(node.input[2])])
    apart.requantize(node.input[2], bias_integers(values, scale), scale)
