"""QDQ ONNX made fit for both formats: ranges unified, then everything dropped that is not the network.

A QDQ graph quantizes a tensor by a QuantizeLinear / DequantizeLinear pair. Max-pool, reshape and concat
only move integers, so TFLite wants one scale and zero point on all their inputs and outputs. Giving the
ONNX file the same ranges makes the two files the same network.
"""

from __future__ import annotations

import itertools
import string
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from edgecnn.errors import QuantizationError
from edgecnn.export.onnx_constants import INT32, bias_integers, share_constants

MOVING_OPS = frozenset(
    {
        "MaxPool",
        "Reshape",
        "Flatten",
        "Concat",
        "Transpose",
        "Squeeze",
        "Unsqueeze",
        "Split",
        "Slice",
        "Resize",
    }
)
DEFAULT_ATTRIBUTES = {
    "auto_pad": b"NOTSET",
    "group": 1,
    "storage_order": 0,
    "ceil_mode": 0,
    "allowzero": 0,
    "alpha": 1.0,
    "beta": 1.0,
    "transA": 0,
    "transB": 0,
}


def finish(model: onnx.ModelProto) -> onnx.ModelProto:
    """A QDQ model with unified ranges, short names and shared constants; inputs and outputs keep their names.

    Raises QuantizationError where the graph is not valid QDQ ONNX.
    """
    finished = onnx.ModelProto()
    finished.CopyFrom(model)
    unify_ranges(finished)
    share_constants(finished)
    drop_defaults(finished)
    shorten_names(finished)
    try:
        onnx.checker.check_model(finished, full_check=True)
    except onnx.checker.ValidationError as fault:
        raise QuantizationError(f"the quantized model is not valid ONNX: {fault}") from fault
    return finished


def unify_ranges(model: onnx.ModelProto) -> None:
    """One scale and zero point, of the widest range, for all tensors that MOVING_OPS tie together; in place.

    The int32 biases, whose scale is input scale x weight scale, are carried to their new scales.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    old_scales: dict[str, float] = {}
    for group in _tied_parameters(model.graph, constants):
        if len({(value(constants, s), value(constants, z)) for s, z in group}) == 1:
            continue
        scale, zero_point = _widest(group, constants)
        for scale_name, zero_point_name in group:
            old_scales[scale_name] = value(constants, scale_name)
            replace(constants[scale_name], np.float32(scale))
            dtype = numpy_helper.to_array(constants[zero_point_name]).dtype
            replace(constants[zero_point_name], np.array(zero_point, dtype))
    if old_scales:
        rescale_biases(model.graph, constants, old_scales)


def _tied_parameters(
    graph: onnx.GraphProto, constants: dict[str, onnx.TensorProto]
) -> Iterator[list[tuple[str, str]]]:
    """Groups of (scale name, zero point name) that must be equal."""
    read_from = {node.output[0]: node for node in graph.node if node.op_type == "DequantizeLinear"}
    written_to = {node.input[0]: node for node in graph.node if node.op_type == "QuantizeLinear"}
    parent: dict[tuple[str, str], tuple[str, str]] = {}

    def root(key: tuple[str, str]) -> tuple[str, str]:
        while parent.setdefault(key, key) != key:
            key = parent[key]
        return key

    for node in graph.node:
        if node.op_type not in MOVING_OPS:
            continue
        ends = [read_from.get(name) for name in node.input] + [written_to.get(name) for name in node.output]
        keys = [
            (end.input[1], end.input[2])
            for end in ends
            if end is not None and len(end.input) > 2 and end.input[0] not in constants
        ]
        for key in keys[1:]:
            parent[root(key)] = root(keys[0])
    groups = defaultdict(list)
    for key in list(parent):
        groups[root(key)].append(key)
    yield from groups.values()


def _widest(group: list[tuple[str, str]], constants: dict[str, onnx.TensorProto]) -> tuple[float, int]:
    """Scale and zero point of the smallest range that holds every range of the group."""
    limits = np.iinfo(numpy_helper.to_array(constants[group[0][1]]).dtype)
    pairs = [(value(constants, scale), value(constants, zero_point)) for scale, zero_point in group]
    low = min(0.0, *(scale * (limits.min - zero_point) for scale, zero_point in pairs))
    high = max(0.0, *(scale * (limits.max - zero_point) for scale, zero_point in pairs))
    scale = float(np.float32((high - low) / (int(limits.max) - int(limits.min))))
    return scale, int(np.clip(np.rint(limits.min - low / scale), limits.min, limits.max))


def rescale_biases(
    graph: onnx.GraphProto, constants: dict[str, onnx.TensorProto], old_scales: dict[str, float]
) -> None:
    """Carries int32 biases to the scales that activations have now, in place; `old_scales` are those before."""
    for layer in biased_layers(graph, constants):
        if layer.input_scale in old_scales:
            integers, scale = (numpy_helper.to_array(constants[name]) for name in layer.bias.input[:2])
            set_bias(layer, constants, integers * scale.astype(np.float64))


@dataclass(frozen=True)
class BiasedLayer:
    """A layer and what dequantizes its weights and its int32 bias; `input_scale` names the scale of its input.
    `owns_weights`: no other node reads them.
    """

    node: onnx.NodeProto
    weights: onnx.NodeProto
    bias: onnx.NodeProto
    input_scale: str
    owns_weights: bool

    @property
    def channel_axis(self) -> int:
        """That of the weights, where each channel has a scale."""
        return next((one.i for one in self.weights.attribute if one.name == "axis"), 1)


def biased_layers(graph: onnx.GraphProto, constants: dict[str, onnx.TensorProto]) -> Iterator[BiasedLayer]:
    made_by = {node.output[0]: node for node in graph.node if node.op_type == "DequantizeLinear"}
    n_readers = Counter(name for node in graph.node for name in node.input)
    for node in graph.node:
        if node.op_type not in ("Conv", "Gemm", "ConvTranspose"):
            continue
        data, weights, bias = (made_by.get(name) for name in (*node.input, "", "")[:3])
        if data is None or weights is None or bias is None or bias.input[0] not in constants:
            continue
        names = (weights.output[0], *weights.input[:2])
        yield BiasedLayer(node, weights, bias, data.input[1], all(n_readers[name] == 1 for name in names))


def used_channels(layer: BiasedLayer, constants: dict[str, onnx.TensorProto]) -> NDArray[np.bool_]:
    """Which channels of the weights of `layer` are not all zeros: [channels]; [1] where all have one scale."""
    steps = numpy_helper.to_array(constants[layer.weights.input[0]])
    per_channel = len(constants[layer.weights.input[1]].dims) > 0
    others = tuple(k for k in range(steps.ndim) if not per_channel or k != layer.channel_axis % steps.ndim)
    result: NDArray[np.bool_] = np.atleast_1d(steps.any(axis=others))
    return result


def set_bias(layer: BiasedLayer, constants: dict[str, onnx.TensorProto], values: NDArray[Any]) -> None:
    """Makes the bias of `layer` stand for the float `values` [channels], in place.

    Its steps are input scale x weight scale. Of a channel with hardly any weights these are so small that 32
    bits may not hold the bias: the channel's weights then get the least scale that lets them, of which they are
    next to nothing. A channel of zeros takes the largest scale of the others. One scale for all weights is left
    as it is, and the bias cut off.
    """
    input_scale = value(constants, layer.input_scale)
    integers, scales = (constants[name] for name in layer.weights.input[:2])
    now = np.atleast_1d(numpy_helper.to_array(scales)).astype(np.float64)
    if now.size == values.size > 1 and layer.owns_weights:
        steps, used = numpy_helper.to_array(integers), used_channels(layer, constants)
        fitting = np.where(used, now, now[used].max()) if used.any() else now
        fitting = np.maximum(fitting, np.abs(values) / (input_scale * INT32.max))
        shape = [-1 if k == layer.channel_axis % steps.ndim else 1 for k in range(steps.ndim)]
        replace(integers, np.rint(steps * (now / fitting).reshape(shape)).astype(steps.dtype))
        replace(scales, fitting.astype(np.float32))
    step = np.float32(input_scale) * np.atleast_1d(numpy_helper.to_array(scales))
    replace(constants[layer.bias.input[0]], bias_integers(values, step))
    replace(constants[layer.bias.input[1]], step)


def value(constants: dict[str, onnx.TensorProto], name: str) -> float:
    return float(numpy_helper.to_array(constants[name]).reshape(-1)[0])


def replace(tensor: onnx.TensorProto, array: NDArray[Any] | np.generic) -> None:
    old_shape = tuple(tensor.dims)
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(array).reshape(old_shape), tensor.name))


def drop_defaults(model: onnx.ModelProto) -> None:
    """Attributes that say what their operator assumes anyway, in place."""
    for node in model.graph.node:
        kept = [attribute for attribute in node.attribute if not _is_default(attribute)]
        del node.attribute[:]
        node.attribute.extend(kept)


def _is_default(attribute: onnx.AttributeProto) -> bool:
    value = onnx.helper.get_attribute_value(attribute)
    if attribute.name == "dilations":
        return all(step == 1 for step in value)
    if attribute.name == "pads":
        return not any(value)
    default = DEFAULT_ATTRIBUTES.get(attribute.name)
    return default is not None and value == default


def shorten_names(model: onnx.ModelProto) -> None:
    """Tensors inside get names of one or two letters, nodes none; in place."""
    graph = model.graph
    outside = {value.name for value in (*graph.input, *graph.output)}
    letters = string.ascii_letters + string.digits
    names = (
        "".join(name)
        for length in itertools.count(1)
        for name in itertools.product(letters, repeat=length)
        if "".join(name) not in outside
    )
    short: dict[str, str] = {"": ""} | {name: name for name in outside}
    for node in graph.node:
        node.name = ""
        for side in (node.input, node.output):
            side[:] = [short[name] if name in short else short.setdefault(name, next(names)) for name in side]
    for tensor in graph.initializer:
        tensor.name = short[tensor.name]
