"""Ranges of activations narrower than the extremes: few values are cut off, and all others get finer steps.

The quantizers set the range of each activation by the extremes of the calibration images. Where these are rare,
most of the 256 steps lie where hardly a value does. Sources: H. Wu et al., "Integer quantization for deep
learning inference", 2020, section 4 (percentile); R. Banner et al., "Post-training 4-bit quantization of
convolution networks", 2019 (mean squared error).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import onnx
from onnx import numpy_helper

from edgecnn.compress import qdq

N_BINS = 4096
# What the engines append to the name of a tensor that they quantize: onnxruntime, and neural-compressor.
SUFFIXES = ("_QuantizeLinear_Input", "_QuantizeInput")
# Shares of the outermost values that a percentile cuts off at each end, together.
CUT_OFF = 1e-4
# What mse tries: each end of the range times these.
SHRINKS = np.linspace(0.3, 1.0, 71)


def narrow_ranges(
    model: onnx.ModelProto, float_model: onnx.ModelProto, images_nchw: np.ndarray, how: str
) -> None:
    """Sets the ranges of the activations in the QDQ `model`, in place, by "percentile" or "mse".

    `model` has the tensor names of `float_model`, and the ranges of the extremes of float32 `images_nchw`
    [n, c, h, w]. Biases are carried to their new scales.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    known = {
        float_model.graph.input[0].name,
        *(name for node in float_model.graph.node for name in node.output),
    }
    pairs: dict[str, set[tuple[str, str]]] = {}
    for node in model.graph.node:
        name = _name_in_float(node.input[0]) if node.op_type == "QuantizeLinear" else ""
        if name in known:
            pairs.setdefault(name, set()).add((node.input[1], node.input[2]))
    ranges = {name: _range(min(found), constants) for name, found in pairs.items()}
    old_scales: dict[str, float] = {}
    for name, counts in _histograms(float_model, images_nchw, ranges).items():
        limits = np.iinfo(numpy_helper.to_array(constants[min(pairs[name])[1]]).dtype)
        steps = int(limits.max) - int(limits.min)
        low, high = METHODS[how](counts, *ranges[name], steps)
        if high <= low:
            continue  # nothing but zeros: any range will do
        scale = np.float32((high - low) / steps)
        zero_point = np.clip(np.rint(limits.min - low / scale), limits.min, limits.max).astype(limits.dtype)
        for scale_name, zero_name in pairs[name]:
            old_scales[scale_name] = qdq.value(constants, scale_name)
            qdq.replace(constants[scale_name], scale)
            qdq.replace(constants[zero_name], zero_point)
    qdq.rescale_biases(model.graph, constants, old_scales)


def _name_in_float(name: str) -> str:
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    return name


def _range(pair: tuple[str, str], constants: dict[str, onnx.TensorProto]) -> tuple[float, float]:
    """The least and the largest value of a scale and a zero point, given by their names."""
    scale, zero = qdq.value(constants, pair[0]), qdq.value(constants, pair[1])
    limits = np.iinfo(numpy_helper.to_array(constants[pair[1]]).dtype)
    return scale * (limits.min - zero), scale * (limits.max - zero)


def _histograms(
    model: onnx.ModelProto, images_nchw: np.ndarray, ranges: dict[str, tuple[float, float]]
) -> dict[str, np.ndarray]:
    """How many values of each tensor lie in each of N_BINS parts of its range."""
    counts = {name: np.zeros(N_BINS, np.int64) for name in ranges}
    for values in _activations(model, images_nchw, list(ranges)):
        for name, value in values.items():
            # A ReLU that is done by the range alone leaves no negative values.
            counts[name] += np.histogram(np.clip(value, *ranges[name]), N_BINS, ranges[name])[0]
    return counts


def _activations(
    model: onnx.ModelProto, images_nchw: np.ndarray, names: list[str]
) -> Iterator[dict[str, np.ndarray]]:
    """The tensors `names` of the float model, for a few images at a time."""
    import onnxruntime

    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    given = watched.graph.input[0].name
    inside = [name for name in names if name != given]
    del watched.graph.output[:]
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inside)
    session = onnxruntime.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
    for image in images_nchw:
        values = dict(zip(inside, session.run(inside, {given: image[None]}), strict=True))
        yield {**values, given: image} if given in names else values


def percentile(counts: np.ndarray, low: float, high: float, _: int) -> tuple[float, float]:
    """The range without the outermost values: CUT_OFF of all, half of them at each end; zero stays in it."""
    edges = np.linspace(low, high, len(counts) + 1)
    share = np.cumsum(counts) / counts.sum()
    first = np.searchsorted(share, CUT_OFF / 2)
    last = np.searchsorted(share, 1 - CUT_OFF / 2)
    return min(0.0, float(edges[first])), max(0.0, float(edges[last + 1]))


def mean_squared_error(counts: np.ndarray, low: float, high: float, steps: int) -> tuple[float, float]:
    """The range with the least squared error of the rounded and cut-off values."""
    edges = np.linspace(low, high, len(counts) + 1)
    middles = (edges[1:] + edges[:-1]) / 2

    def error(bottom: float, top: float) -> float:
        cut = np.clip(middles, bottom, top)
        # Rounding is off by a uniform share of a step.
        rounding = ((top - bottom) / steps) ** 2 / 12 * counts.sum()
        return float(np.sum(counts * (middles - cut) ** 2) + rounding)

    for _ in range(2):
        high = min((high * one for one in _shrinks(high, edges[-1])), key=lambda top: error(low, top))
        low = min((low * one for one in _shrinks(low, edges[0])), key=lambda bottom: error(bottom, high))
    return low, high


def _shrinks(now: float, whole: float) -> np.ndarray:
    """SHRINKS of the whole range's end, as shares of where it is now."""
    return SHRINKS * (whole / now) if now else np.ones(1)


METHODS: dict[str, Callable[[np.ndarray, float, float, int], tuple[float, float]]] = {
    "percentile": percentile,
    "mse": mean_squared_error,
}
