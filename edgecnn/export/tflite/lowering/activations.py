"""Activations that stand alone. Integer kernels insist on the output scale of some; a QUANTIZE then
follows.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgecnn.export.tflite.graph import Node
from edgecnn.export.tflite.lowering.context import Lowering
from edgecnn.export.tflite.lowering.elementwise import operand
from edgecnn.export.tflite.model import Quantization, Tensor
from edgecnn.export.tflite.passes import clip_limits, fusable_activation
from edgecnn.export.tflite.reader import Unsupported
from edgecnn.export.tflite.schema import ACTIVATIONS

# What the integer kernels compute with, whatever the file says (TFLite's quantization specification).
_SIGMOID_OUTPUT = Quantization.per_tensor(1 / 256, -128)
_TANH_OUTPUT = Quantization.per_tensor(1 / 128, 0)
_LOG_SOFTMAX_OUTPUT = Quantization.per_tensor(16 / 256, 127)


def with_fixed_scale(
    code: str, quantization: Quantization, **options: float
) -> Callable[[Lowering, Node, Tensor], None]:
    """Emits an operator on a tensor; its integer result has that scale, requantized to the file's where
    they differ.
    """

    def emit(lower: Lowering, node: Node, source: Tensor) -> None:
        output = lower.result(node.output, source.permutation, source.columns)
        emit_then_requantize(lower, code, [source], output, quantization, **options)

    return emit


def emit_then_requantize(
    lower: Lowering,
    code: str,
    inputs: list[Tensor | None],
    output: Tensor,
    quantization: Quantization,
    **options: float,
) -> None:
    """The operator with its result in the scale that its kernel gives, and a QUANTIZE to the output's
    scale.
    """
    if output.quantization is None or output.quantization.same_as(quantization):
        lower.emit(code, inputs, output, **options)
        return
    result = lower.temporary(output, quantization=quantization)
    lower.emit(code, inputs, result, **options)
    lower.emit("QUANTIZE", [result], output)
    lower.note(f"{lower.node.op} {lower.node.name}: QUANTIZE added, {code} gives another scale than the file's")


_logistic = with_fixed_scale("LOGISTIC", _SIGMOID_OUTPUT)
_tanh = with_fixed_scale("TANH", _TANH_OUTPUT)
_softmax = with_fixed_scale("SOFTMAX", _SIGMOID_OUTPUT, beta=1.0)
_log_softmax = with_fixed_scale("LOG_SOFTMAX", _LOG_SOFTMAX_OUTPUT)


def sigmoid(lower: Lowering, node: Node) -> None:
    _logistic(lower, node, lower.tensor(node.data_input()))


def tanh(lower: Lowering, node: Node) -> None:
    _tanh(lower, node, lower.tensor(node.data_input()))


def softmax(lower: Lowering, node: Node) -> None:
    _softmax(lower, node, _axis_last(lower, node))


def log_softmax(lower: Lowering, node: Node) -> None:
    _log_softmax(lower, node, _axis_last(lower, node))


def _axis_last(lower: Lowering, node: Node) -> Tensor:
    """The input with the axis of a softmax innermost, where TFLite's works."""
    rank = len(node.data_input().shape)
    axis = node.attributes.get("axis", -1 if lower.graph.opset >= 13 else 1) % rank
    if lower.graph.opset < 13 and axis != rank - 1:
        raise Unsupported("before opset 13 it works on several axes at once; export with opset 13 or newer")
    source = lower.tensor(node.data_input())
    if source.permutation[-1] == axis and source.columns is None:
        return source
    return lower.rearrange(source, (*(a for a in source.permutation if a != axis), axis))


def relu(lower: Lowering, node: Node) -> None:
    source = lower.tensor(node.data_input())
    lower.emit("RELU", [source], lower.result(node.output, source.permutation, source.columns))


def clip(lower: Lowering, node: Node) -> None:
    """Clip: an activation operator where there is one for its limits, else MAXIMUM and MINIMUM."""
    if any(node.input(i) is not None and node.constant(i) is None for i in (1, 2)):
        raise Unsupported("its limits are computed, not constant")
    source = lower.tensor(node.data_input())
    code, limits = fusable_activation(node), clip_limits(node)
    if code is not None:
        lower.emit(code, [source], lower.result(node.output, source.permutation, source.columns))
        return
    if source.quantization is not None:
        source = lower.requantize(
            source, node.output.quantization, "its input and output have different scales"
        )
    steps = [
        (code, limit) for code, limit in zip(("MAXIMUM", "MINIMUM"), limits, strict=True) if np.isfinite(limit)
    ]
    if not steps:
        lower.rename(node.output, source, source.permutation)
        return
    output = lower.result(node.output, source.permutation, source.columns)
    for i, (code, limit) in enumerate(steps):
        target = output if i == len(steps) - 1 else lower.temporary(source)
        lower.emit(code, [source, _scalar(lower, limit, source)], target)
        source = target


def _scalar(lower: Lowering, number: float, like: Tensor) -> Tensor:
    """A constant of one element, in the quantization of that tensor."""
    array = np.full(1, number, np.float32)
    if like.quantization is None:
        return lower.constant(array)
    return lower.constant(like.quantization.quantize(array, like.dtype), like.dtype, like.quantization)


def leaky_relu(lower: Lowering, node: Node) -> None:
    source = lower.tensor(node.data_input())
    output = lower.result(node.output, source.permutation, source.columns)
    lower.emit("LEAKY_RELU", [source], output, alpha=node.attributes.get("alpha", 0.01))


def prelu(lower: Lowering, node: Node) -> None:
    source = lower.tensor(node.data_input())
    if source.columns is not None:
        source = lower.rearrange(source, source.permutation)
    slope = operand(lower, node.data_input(1), source.permutation)
    lower.emit("PRELU", [source, slope], lower.result(node.output, source.permutation))


def elu(lower: Lowering, node: Node) -> None:
    if node.attributes.get("alpha", 1.0) != 1.0:
        raise Unsupported("TFLite's ELU has alpha 1 only")
    source = lower.tensor(node.data_input())
    lower.emit("ELU", [source], lower.result(node.output, source.permutation, source.columns))


def gelu(lower: Lowering, node: Node) -> None:
    source = lower.tensor(node.data_input())
    output = lower.result(node.output, source.permutation, source.columns)
    lower.emit("GELU", [source], output, approximate=node.attributes.get("approximate") == "tanh")


def hard_sigmoid(lower: Lowering, node: Node) -> None:
    """clip(alpha x + beta, 0, 1) = alpha * clip(x + beta / alpha, 0, 1 / alpha); with alpha = 1/6 that is
    RELU6.
    """
    alpha, beta = node.attributes.get("alpha", 0.2), node.attributes.get("beta", 0.5)
    source = lower.tensor(node.data_input())
    if alpha <= 0:
        raise Unsupported(f"alpha {alpha} is not positive")
    output = lower.result(node.output, source.permutation, source.columns)
    is_six = abs(1 / alpha - 6) < 1e-5
    if source.quantization is None:
        shifted, gain = lower.temporary(source), lower.constant(np.full(1, alpha, np.float32))
        offset = lower.constant(np.full(1, beta / alpha, np.float32))
    else:
        # The integers of the result are those of the clipped sum: 0..1/alpha over the whole range.
        limit = Quantization.per_tensor(1 / alpha / 255, -128)
        shifted = lower.temporary(source, quantization=limit)
        offset = _exact_constant(lower, beta / alpha)
        gain = _exact_constant(lower, alpha)
    activation = ACTIVATIONS["RELU6" if is_six else "RELU"]
    lower.emit("ADD", [source, offset], shifted, activation=activation)
    if not is_six and source.quantization is None:
        clipped = lower.temporary(source)
        lower.emit("MINIMUM", [shifted, lower.constant(np.full(1, 1 / alpha, np.float32))], clipped)
        shifted = clipped
    lower.emit("MUL", [shifted, gain], output)


def _exact_constant(lower: Lowering, number: float) -> Tensor:
    """One integer constant that stands for the number exactly: 127 steps of number / 127."""
    return lower.constant(
        np.full(1, 127, np.int8), "int8", Quantization.per_tensor(abs(number) / 127 or 1.0, 0)
    )
