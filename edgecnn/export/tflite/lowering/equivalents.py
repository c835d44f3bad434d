"""What is written in place of an operator that the chosen runtime does not know: one function an operator.

Used only where the runtime would refuse the operator (`runtimes.problem`); an operator that is not in
EQUIVALENTS is refused by its name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from edgecnn.export.tflite.model import Operator, Tensor
from edgecnn.export.tflite.runtimes import MOST_JOINED_BY_MICRO

if TYPE_CHECKING:
    from edgecnn.export.tflite.lowering.context import Lowering


def reduce_min(lower: Lowering, operator: Operator) -> None:
    """-max(-x). There is no NEG of integers: between two conversions it is as exact in float32."""
    source, axes = operator.inputs
    (output,) = operator.outputs
    assert source is not None
    if source.quantization is not None:
        real = lower.temporary(source, dtype="float32", quantization=None)
        lower.emit("DEQUANTIZE", [source], real)
        result = lower.temporary(output, dtype="float32", quantization=None)
        reduce_min(lower, Operator(operator.code, [real, axes], [result], operator.options))
        lower.emit("QUANTIZE", [result], output)
        return
    negative, largest = lower.temporary(source), lower.temporary(output)
    lower.emit("NEG", [source], negative)
    lower.emit("REDUCE_MAX", [negative, axes], largest, **operator.options)
    lower.emit("NEG", [largest], output)


def clip_to_one(lower: Lowering, operator: Operator) -> None:
    """RELU_N1_TO_1 of floats."""
    (source,), (output,) = operator.inputs, operator.outputs
    assert source is not None
    above = lower.temporary(source)
    lower.emit("MAXIMUM", [source, lower.constant(np.full(1, -1, np.float32))], above)
    lower.emit("MINIMUM", [above, lower.constant(np.full(1, 1, np.float32))], output)


def dequantized_constant(lower: Lowering, operator: Operator) -> None:
    """A constant with one scale a channel is kept as float32: larger, and the same numbers."""
    (source,), (output,) = operator.inputs, operator.outputs
    assert source is not None and source.data is not None and source.quantization is not None
    output.data = source.quantization.dequantize(source.data)
    lower.note(f"{operator.source}: its weights are kept as float32, {lower.runtime} cannot dequantize them")


def concatenation_in_steps(lower: Lowering, operator: Operator) -> None:
    """So many inputs at once, and then what came of them."""
    (output,), axis = operator.outputs, operator.options["axis"]
    parts: list[Tensor | None] = []
    for start in range(0, len(operator.inputs), MOST_JOINED_BY_MICRO):
        few = operator.inputs[start : start + MOST_JOINED_BY_MICRO]
        shape = list(output.shape)
        shape[axis] = sum(one.shape[axis] for one in few if one is not None)
        joined = lower.temporary(output, shape=tuple(shape))
        lower.emit("CONCATENATION", few, joined, **operator.options)
        parts.append(joined)
    lower.emit("CONCATENATION", parts, output, **operator.options)


EQUIVALENTS: dict[str, Callable[[Lowering, Operator], None]] = {
    "CONCATENATION": concatenation_in_steps,
    "DEQUANTIZE": dequantized_constant,
    "REDUCE_MIN": reduce_min,
    "RELU_N1_TO_1": clip_to_one,
}
