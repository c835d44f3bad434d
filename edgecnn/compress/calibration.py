"""Ranges of activations narrower than the extremes: few values are cut off, and all others get finer steps.

The quantizers set the range of each activation by the extremes of the calibration images. Where these are rare,
most of the 256 steps lie where hardly a value does. Sources: H. Wu et al., "Integer quantization for deep
learning inference", 2020, section 4 (percentile, entropy); R. Banner et al., "Post-training 4-bit quantization
of convolution networks", 2019 (mean squared error); S. Migacz, "8-bit inference with TensorRT", 2017 (entropy).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from edgecnn.compress import qdq

N_BINS = 4096
# What the engines append to the name of a tensor that they quantize: onnxruntime, and neural-compressor.
SUFFIXES = ("_QuantizeLinear_Input", "_QuantizeInput")
# Shares of the outermost values that a percentile cuts off at each end, together.
CUT_OFF = 1e-4
# What mse and entropy try: each end of the range times these.
SHRINKS = np.linspace(0.3, 1.0, 71)
# Of all values, in a bin that rounding leaves empty.
_LEAST_SHARE = 1e-9


def narrow_ranges(
    model: onnx.ModelProto, float_model: onnx.ModelProto, images_nchw: NDArray[Any], how: str
) -> None:
    """Sets the ranges of the activations in the QDQ `model`, in place, by one of METHODS.

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
    narrowed: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for name, counts in _histograms(float_model, images_nchw, ranges).items():
        narrow = METHODS[how](counts, *ranges[name], _steps(min(pairs[name]), constants))
        for pair in pairs[name]:
            narrowed.setdefault(pair, []).append(narrow)
    old_scales: dict[str, float] = {}
    for pair, found_ranges in narrowed.items():
        # Engines give tensors that only pass values on, such as pooled ones, the same scale.
        low, high = min(low for low, _ in found_ranges), max(high for _, high in found_ranges)
        if high <= low:
            continue  # nothing but zeros: any range will do
        old_scales[pair[0]] = qdq.value(constants, pair[0])
        _set_range(pair, low, high, constants)
    qdq.rescale_biases(model.graph, constants, old_scales)


def _steps(pair: tuple[str, str], constants: dict[str, onnx.TensorProto]) -> int:
    limits = np.iinfo(numpy_helper.to_array(constants[pair[1]]).dtype)
    return int(limits.max) - int(limits.min)


def _set_range(pair: tuple[str, str], low: float, high: float, constants: dict[str, onnx.TensorProto]) -> None:
    """Sets a scale and a zero point, given by their names, to the range from `low` to `high`."""
    limits = np.iinfo(numpy_helper.to_array(constants[pair[1]]).dtype)
    scale = np.float32((high - low) / _steps(pair, constants))
    qdq.replace(constants[pair[0]], scale)
    zero_point = np.clip(np.rint(limits.min - low / scale), limits.min, limits.max).astype(limits.dtype)
    qdq.replace(constants[pair[1]], zero_point)


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
    model: onnx.ModelProto, images_nchw: NDArray[Any], ranges: dict[str, tuple[float, float]]
) -> dict[str, NDArray[Any]]:
    """How many values of each tensor lie in each of N_BINS parts of its range."""
    counts = {name: np.zeros(N_BINS, np.int64) for name in ranges}
    for values in _activations(model, images_nchw, list(ranges)):
        for name, value in values.items():
            # A ReLU that is done by the range alone leaves no negative values.
            counts[name] += np.histogram(np.clip(value, *ranges[name]), N_BINS, ranges[name])[0]
    return counts


def _activations(
    model: onnx.ModelProto, images_nchw: NDArray[Any], names: list[str]
) -> Iterator[dict[str, NDArray[Any]]]:
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


def percentile(counts: NDArray[Any], low: float, high: float, _: int) -> tuple[float, float]:
    """The range without the outermost values: CUT_OFF of all, half of them at each end; zero stays in it."""
    edges = np.linspace(low, high, len(counts) + 1)
    share = np.cumsum(counts) / counts.sum()
    first = np.searchsorted(share, CUT_OFF / 2)
    last = np.searchsorted(share, 1 - CUT_OFF / 2)
    return min(0.0, float(edges[first])), max(0.0, float(edges[last + 1]))


def mean_squared_error(counts: NDArray[Any], low: float, high: float, steps: int) -> tuple[float, float]:
    """The range with the least squared error of the rounded and cut-off values."""
    edges = np.linspace(low, high, len(counts) + 1)
    middles = (edges[1:] + edges[:-1]) / 2

    def error(bottom: float, top: float) -> float:
        cut = np.clip(middles, bottom, top)
        # Rounding is off by a uniform share of a step.
        rounding = ((top - bottom) / steps) ** 2 / 12 * counts.sum()
        return float(np.sum(counts * (middles - cut) ** 2) + rounding)

    return _narrowest(error, low, high)


def entropy(counts: NDArray[Any], low: float, high: float, steps: int) -> tuple[float, float]:
    """The range whose rounded values have the distribution nearest to that of the cut-off ones: the least
    Kullback-Leibler divergence. Zeros, of which a ReLU gives many, are left out: they are met exactly.
    """
    edges = np.linspace(low, high, len(counts) + 1)
    middles = (edges[1:] + edges[:-1]) / 2
    counts = np.where((edges[:-1] <= 0) & (edges[1:] > 0), 0, counts)

    def divergence(bottom: float, top: float) -> float:
        inside = (middles >= bottom) & (middles <= top)
        if not counts[inside].any():
            return float("inf")
        # What is cut off lies at the ends of the range, in the distribution that is to be met ...
        exact = counts[inside].astype(np.float64)
        exact[0] += counts[middles < bottom].sum()
        exact[-1] += counts[middles > top].sum()
        # ... and is missing from the rounded one, whose steps are spread over what they were rounded from.
        level = np.rint((middles[inside] - bottom) / (top - bottom) * steps).astype(int)
        filled = counts[inside] > 0
        sums = np.bincount(level, counts[inside])
        shares = np.bincount(level, filled)
        rounded = np.where(filled, sums[level] / np.maximum(shares[level], 1), 0.0)
        return _divergence(exact, rounded)

    return _narrowest(divergence, low, high)


def _divergence(exact: NDArray[Any], rounded: NDArray[Any]) -> float:
    """KL(exact || rounded) of two histograms, in nats; where only the rounded one is empty it has a little."""
    p, q = exact / exact.sum(), rounded / max(rounded.sum(), 1)
    seen = p > 0
    return float(np.sum(p[seen] * np.log(p[seen] / np.maximum(q[seen], _LEAST_SHARE))))


def _narrowest(cost: Callable[[float, float], float], low: float, high: float) -> tuple[float, float]:
    """The range of least `cost`: one end after the other shrunk, and once again."""
    whole = (low, high)
    for _ in range(2):
        high = min((high * one for one in _shrinks(high, whole[1])), key=lambda top: cost(low, top))
        low = min((low * one for one in _shrinks(low, whole[0])), key=lambda bottom: cost(bottom, high))
    return low, high


def _shrinks(now: float, whole: float) -> NDArray[Any]:
    """SHRINKS of the whole range's end, as shares of where it is now."""
    return SHRINKS * (whole / now) if now else np.ones(1)


METHODS: dict[str, Callable[[NDArray[Any], float, float, int], tuple[float, float]]] = {
    "percentile": percentile,
    "mse": mean_squared_error,
    "entropy": entropy,
}
