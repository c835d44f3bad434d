"""QDQ ONNX made fit for both formats: ranges unified, then everything dropped that is not the network.

A QDQ graph quantizes a tensor by a QuantizeLinear / DequantizeLinear pair. Max-pool, reshape and concat
only move integers, so TFLite wants one scale and zero point on all their inputs and outputs. Giving the
ONNX file the same ranges makes the two files the same network.
"""

from __future__ import annotations

import itertools
import string
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from edgecnn.errors import QuantizationError
from edgecnn.export.onnx_constants import share_constants

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
    made_by = {node.output[0]: node for node in graph.node}
    for node in graph.node:
        source, bias = (made_by.get(node.input[i]) if len(node.input) > i else None for i in (0, 2))
        if source is None or bias is None or node.op_type not in ("Conv", "Gemm", "ConvTranspose"):
            continue
        scale_name = source.input[1] if source.op_type == "DequantizeLinear" else ""
        if scale_name not in old_scales:
            continue
        factor = value(constants, scale_name) / old_scales[scale_name]
        values, scales = constants[bias.input[0]], constants[bias.input[1]]
        replace(values, np.rint(numpy_helper.to_array(values) / factor).astype(np.int32))
        replace(scales, (numpy_helper.to_array(scales) * factor).astype(np.float32))


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
