"""Activations that stand alone. Where an integer kernel insists on a scale, a QUANTIZE follows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgecnn.export.tflite.graph import Node, Value
from edgecnn.export.tflite.lowering.context import Lowering
from edgecnn.export.tflite.lowering.elementwise import operand
from edgecnn.export.tflite.model import Quantization, Tensor
from edgecnn.export.tflite.passes import fusable_activation
from edgecnn.export.tflite.patterns import clip_limits
from edgecnn.export.tflite.problems import Unsupported
from edgecnn.export.tflite.quantization import FIXED_OUTPUTS, MOVEMENTS
from edgecnn.export.tflite.schema import ACTIVATIONS

_KEEPS_LIMITS = MOVEMENTS | {"Concat", "GlobalAveragePool", "ReduceMean"}


def emit_then_requantize(
    lower: Lowering,
    code: str,
    inputs: list[Tensor | None],
    output: Tensor,
    kernel: Quantization,
    **options: float,
) -> None:
    """Emits an operator whose integer kernel gives its result in the scale `kernel`; a QUANTIZE to the
    output's scale follows where they differ.
    """
    if output.quantization is not None and _nearly_equal(output.quantization, kernel):
        output.quantization = kernel
    if output.quantization is None or output.quantization is kernel:
        lower.emit(code, inputs, output, **options)
        return
    result = lower.temporary(output, quantization=kernel)
    lower.emit(code, inputs, result, **options)
    lower.emit("QUANTIZE", [result], output)
    lower.note(f"{lower.node.op} {lower.node.name}: QUANTIZE added, {code} gives another scale than the file's")


def _nearly_equal(a: Quantization, b: Quantization) -> bool:
    """Equal but for rounding in how the scale was computed."""
    return bool(np.array_equal(a.zero_point, b.zero_point) and np.allclose(a.scale, b.scale, rtol=1e-4, atol=0))


def with_fixed_scale(code: str, **options: float) -> Callable[[Lowering, Node], None]:
    """The lowering of a function of each element whose integer kernel insists on the scale of its result."""

    def lower_activation(lower: Lowering, node: Node) -> None:
        softmax = node.op in ("Softmax", "LogSoftmax")
        source = _axis_last(lower, node) if softmax else lower.tensor(node.data_input())
        output = lower.result(node.output, source.permutation, source.columns)
        emit_then_requantize(lower, code, [source], output, FIXED_OUTPUTS[node.op], **options)

    return lower_activation


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


def clip(lower: Lowering, node: Node) -> None:
    """Relu and Clip: an activation operator where there is one for the limits, else MAXIMUM and MINIMUM."""
    if any(node.input(i) is not None and node.constant(i) is None for i in (1, 2)):
        raise Unsupported("its limits are computed, not constant")
    source, code = lower.tensor(node.data_input()), fusable_activation(node)
    if code is not None and source.quantization is None:
        lower.emit(code, [source], lower.result(node.output, source.permutation, source.columns))
    else:
        _clip_by_steps(lower, node, source, (0.0, np.inf) if node.op == "Relu" else clip_limits(node))


def _clip_by_steps(lower: Lowering, node: Node, source: Tensor, limits: tuple[float, float]) -> None:
    """MAXIMUM and MINIMUM, as far as needed: integers clip by themselves at the ends of their range.

    Integers are first brought to the scale of the result. An operator of its own would do that, too, but
    the int8 RELU6 of TFLite Micro does not, and the RELU of XNNPACK fails on scales that lie far apart.
    """
    if source.quantization is not None:
        why = "its input and output have different scales"
        source = lower.requantize(source, node.output.quantization, why)
    steps = [
        (code, limit)
        for code, limit in zip(("MAXIMUM", "MINIMUM"), limits, strict=True)
        if np.isfinite(limit) and not _clips_by_itself(source, code, limit)
    ]
    if _is_clipped(lower, node.data_input(), node.output, limits):
        steps = []
    if not steps:
        lower.rename(node.output, source, source.permutation)
        return
    output = lower.result(node.output, source.permutation, source.columns)
    for i, (code, limit) in enumerate(steps):
        target = output if i == len(steps) - 1 else lower.temporary(source)
        lower.emit(code, [source, _scalar(lower, limit, source)], target)
        source = target


def _is_clipped(lower: Lowering, value: Value, output: Value, limits: tuple[float, float]) -> bool:
    """Whether integers lie within the limits already: clipped before, and since then only moved or averaged."""
    producer = lower.producers.get(value)
    if producer is None or value.quantization is None or output.quantization is None:
        return False
    if not value.quantization.same_as(output.quantization):
        return False
    if producer.op == "Clip":
        low, high = clip_limits(producer)
        return low >= limits[0] and high <= limits[1]
    if producer.op not in _KEEPS_LIMITS:
        return False
    n_inputs = len(producer.inputs) if producer.op == "Concat" else 1
    return all(_is_clipped(lower, producer.data_input(i), value, limits) for i in range(n_inputs))


def _clips_by_itself(tensor: Tensor, code: str, limit: float) -> bool:
    """Whether the range of the integers ends where the limit is."""
    if tensor.quantization is None:
        return False
    end = np.iinfo(tensor.dtype).min if code == "MAXIMUM" else np.iinfo(tensor.dtype).max
    reached = int(tensor.quantization.quantize(np.full(1, limit), "int32")[0])
    return reached <= end if code == "MAXIMUM" else reached >= end


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
    """clip(a x + b, 0, 1) = a * clip(x + b / a, 0, 1 / a); with a = 1/6 the clip is RELU6."""
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
