"""Remedies for a quantized network that is not accurate enough, tried in the order of what they cost.

Narrower ranges, corrected biases and equalized channels cost no bytes; scales by channel a few; a layer in
float32 three more for each of its weights. What is tried is a `QuantizeSpec` each time, so that whatever is
found can be written into the recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from edgecnn.compress.quantize import Quantized
from edgecnn.recipe import QuantizeSpec

CALIBRATORS = ("minmax", "percentile", "mse", "entropy")


@dataclass(frozen=True)
class Attempt:
    """A network quantized as `spec` says: its accuracy on the validation images, the bytes of its .tflite."""

    spec: QuantizeSpec
    quantized: Quantized
    accuracy: float
    size_bytes: int


def tune(
    spec: QuantizeSpec,
    needed: float,
    attempt: Callable[[QuantizeSpec], Attempt],
    layers_by_worth: Callable[[Attempt], Sequence[str]],
) -> tuple[Attempt, list[Attempt]]:
    """The first attempt with at least the accuracy `needed`, and all that were made, in order. Where none has
    it: the most accurate one, and the smallest of these.

    Each remedy is put on top of the best so far, and stays where it helped. `layers_by_worth` ranks the layers
    of an attempt: the one that is best put into float32 first.
    """
    best = attempt(spec)
    made = [best]
    for change in _remedies(spec):
        if best.accuracy >= needed:
            return best, made
        made.append(attempt(best.spec.model_copy(update=change)))
        best = _better(best, made[-1])
    for layer in layers_by_worth(best) if best.accuracy < needed else ():
        kept = (*best.spec.float_layers, layer)
        made.append(attempt(best.spec.model_copy(update={"float_layers": kept})))
        best = _better(best, made[-1])
        if best.accuracy >= needed:
            break
    return best, made


def n_remedies(spec: QuantizeSpec) -> int:
    """How many are tried, at most, before layers are put into float32."""
    return len(list(_remedies(spec)))


def _remedies(spec: QuantizeSpec) -> Iterator[dict[str, Any]]:
    yield from ({"calibrator": one} for one in CALIBRATORS if one != spec.calibrator)
    if not spec.bias_correction:
        yield {"bias_correction": True}
    if not spec.equalization:
        yield {"equalization": True}
    if spec.dense_weights == "per_tensor":
        yield {"dense_weights": "per_channel"}


def _better(first: Attempt, second: Attempt) -> Attempt:
    return max(first, second, key=lambda one: (one.accuracy, -one.size_bytes))
