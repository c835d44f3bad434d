"""A QDQ ONNX graph as a list of operations, each rounding named by the constants that hold its scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from edgecnn.errors import QuantizationError

# Their second input is what is trained.
LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


@dataclass(frozen=True)
class Rounding:
    """The tensor `source`, rounded to steps of `scale` (the name of a constant) and back, becomes `result`.

    `zero_point`, `low` and `high` are in steps.
    """

    source: str
    result: str
    scale: str
    zero_point: int
    low: int
    high: int


@dataclass(frozen=True)
class Operation:
    """One ONNX node of float arithmetic; inputs are names of tensors and weights, "" where one is left out."""

    kind: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class QuantizedConstant:
    """Integer weights or a bias of the graph, by the names of their constants.

    `scales` float32 [1] or [channels]; `axis` is that of the channels, None for one scale. `values` are the
    numbers that the integers stand for.
    """

    integers: str
    scale: str
    values: NDArray[Any]
    scales: NDArray[Any]
    axis: int | None


@dataclass(frozen=True)
class Graph:
    """The steps in order, and what they read. `weights` of layers are trained, `biases` too; `constants` stay,
    whether they are quantized or not.

    `scales` are those of activations by the name of their constant; `scale_of` names it by rounded tensor.
    """

    steps: tuple[Rounding | Operation, ...]
    weights: Mapping[str, QuantizedConstant]
    biases: Mapping[str, QuantizedConstant]
    scales: Mapping[str, float]
    scale_of: Mapping[str, str]
    constants: Mapping[str, NDArray[Any]]
    input: str
    output: str


def read_graph(model: onnx.ModelProto) -> Graph:
    """The graph of a QDQ model with one input and one output. Raises QuantizationError for any other."""
    graph = model.graph
    if len(graph.input) != 1 or len(graph.output) != 1:
        raise QuantizationError(
            f"expected one input and one output, not {len(graph.input)} and {len(graph.output)}"
        )
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    quantized = {node.output[0]: node for node in graph.node if node.op_type == "QuantizeLinear"}
    steps: list[Rounding | Operation] = []
    weights: dict[str, QuantizedConstant] = {}
    biases: dict[str, QuantizedConstant] = {}
    scales: dict[str, float] = {}
    fixed: dict[str, NDArray[Any]] = {}
    of_layers = {node.input[1] for node in graph.node if node.op_type in LAYERS and len(node.input) > 1}
    for node in graph.node:
        if node.op_type == "QuantizeLinear":
            continue
        if node.op_type != "DequantizeLinear":
            steps.append(_operation(node))
        elif node.input[0] in constants:
            name = node.output[0]
            if constants[node.input[0]].dtype == np.int32:
                biases[name] = _constant(node, constants)
            elif name in of_layers:
                weights[name] = _constant(node, constants)
            else:
                fixed[name] = _dequantized(node, constants)
        else:
            rounding = _rounding(node, quantized, constants)
            scales[rounding.scale] = float(constants[rounding.scale])
            steps.append(rounding)
    used = {name for step in steps if isinstance(step, Operation) for name in step.inputs}
    plain = {name: array for name, array in {**constants, **fixed}.items() if name in used}
    scale_of = {step.result: step.scale for step in steps if isinstance(step, Rounding)}
    return Graph(
        tuple(steps), weights, biases, scales, scale_of, plain, graph.input[0].name, graph.output[0].name
    )


def _operation(node: onnx.NodeProto) -> Operation:
    if len([name for name in node.output if name]) != 1:
        raise QuantizationError(f"{node.op_type} with several outputs cannot be trained quantized")
    attributes = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
    return Operation(node.op_type, tuple(node.input), node.output[0], attributes)


def _dequantized(node: onnx.NodeProto, constants: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """What a quantized constant with one scale stands for."""
    integers, scale, zero_point = (constants[name] for name in (*node.input, node.input[0])[:3])
    if scale.size > 1:
        raise QuantizationError(
            "a constant between layers with several scales cannot be trained quantized",
            fix="leave the qat step out, or give the constant one value a tensor",
        )
    steps = integers.astype(np.float32) - (zero_point.astype(np.float32) if len(node.input) > 2 else 0)
    return np.asarray(steps * scale.reshape(()), np.float32)


def _constant(node: onnx.NodeProto, constants: Mapping[str, NDArray[Any]]) -> QuantizedConstant:
    integers, scales = constants[node.input[0]], np.atleast_1d(constants[node.input[1]])
    axis = None
    if scales.size > 1:
        axis = next((one.i for one in node.attribute if one.name == "axis"), 1) % integers.ndim
    if len(node.input) > 2 and np.any(constants[node.input[2]]):
        raise QuantizationError("weights with a zero point other than 0 cannot be trained quantized")
    shape = [-1 if axis == k else 1 for k in range(integers.ndim)]
    values = integers.astype(np.float32) * (scales.reshape(shape) if axis is not None else scales[0])
    return QuantizedConstant(node.input[0], node.input[1], values, scales, axis)


def _rounding(
    node: onnx.NodeProto, quantized: Mapping[str, onnx.NodeProto], constants: Mapping[str, NDArray[Any]]
) -> Rounding:
    before = quantized.get(node.input[0])
    if before is None or list(before.input[1:]) != list(node.input[1:]) or len(node.input) < 3:
        raise QuantizationError("expected QuantizeLinear and DequantizeLinear in pairs, with the same scale")
    zero_point = constants[node.input[2]]
    if constants[node.input[1]].size != 1:
        raise QuantizationError("activations with a scale a channel cannot be trained quantized")
    limits = np.iinfo(zero_point.dtype)
    return Rounding(
        before.input[0], node.output[0], node.input[1], int(zero_point), int(limits.min), int(limits.max)
    )
