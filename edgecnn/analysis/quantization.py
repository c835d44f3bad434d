"""How far the tensors of an int8 network are from those of its float network, on the same images."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgecnn.analysis.matching import MatchedTensor, MatchedWeights, match
from edgecnn.analysis.records import ActivationRange, QuantizationAnalysis, WeightRange

# Images run at once where the file leaves it open: all tensors of the network are kept.
CHUNK = 16


def analyse(
    float_model: onnx.ModelProto,
    qdq_model: onnx.ModelProto,
    inputs: NDArray[Any],
    *,
    split: str,
    is_trained: bool = False,
) -> QuantizationAnalysis:
    """Runs both networks over the preprocessed float32 `inputs` [n, channels, height, width] of `split`.

    `is_trained` says that the QDQ network was trained after it was quantized.
    onnxruntime runs them as they are written, without optimizations, so that every tensor is there.
    """
    matching = match(float_model.graph, qdq_model.graph)
    tallies = [_Tally(tensor) for tensor in matching.activations]
    float_outputs = tensors_of(float_model, [tensor.float_name for tensor in matching.activations], inputs)
    int8_outputs = tensors_of(qdq_model, [tensor.dequantized for tensor in matching.activations], inputs)
    for float_values, int8_values in zip(float_outputs, int8_outputs, strict=True):
        for tally, exact, quantized in zip(tallies, float_values, int8_values, strict=True):
            tally.add(exact, quantized)
    return QuantizationAnalysis(
        split=split,
        n_images=len(inputs),
        activations=tuple(tally.record() for tally in tallies),
        weights=tuple(_weight_record(weights) for weights in matching.weights),
        n_unmatched=matching.n_unmatched,
        is_trained=is_trained,
    )


def sqnr_db(signal: float, error: float) -> float | None:
    """Signal to quantization noise in dB: 10 log10 of the ratio of their sums of squares."""
    return 10 * math.log10(signal / error) if signal > 0 and error > 0 else None


def outputs_of(model: onnx.ModelProto, inputs: NDArray[Any]) -> NDArray[Any]:
    """The first output of `model` for all `inputs`: float32 [n, classes]."""
    return np.concatenate([found for (found,) in tensors_of(model, [model.graph.output[0].name], inputs)])


def tensors_of(model: onnx.ModelProto, names: list[str], inputs: NDArray[Any]) -> Iterator[list[NDArray[Any]]]:
    """The tensors `names` of `model`, for one chunk of `inputs` after the other."""
    import onnxruntime

    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    known = {value.name for value in (*exposed.graph.input, *exposed.graph.output)}
    for name in dict.fromkeys(names):
        if name not in known:
            exposed.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        exposed.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    (taken, *_) = session.get_inputs()
    wanted = [name for name in names if name != taken.name]
    chunk = taken.shape[0] if isinstance(taken.shape[0], int) else CHUNK
    for start in range(0, len(inputs), chunk):
        batch = inputs[start : start + chunk]
        # A file of a fixed batch size takes no less: what fills the batch up is cut off again.
        full = np.concatenate([batch, np.zeros_like(inputs[: chunk - len(batch)])]) if chunk != CHUNK else batch
        found = dict(zip(wanted, session.run(wanted, {taken.name: full}), strict=True)) if wanted else {}
        yield [batch if name == taken.name else found[name][: len(batch)] for name in names]


@dataclass
class _Tally:
    """Sums over all values of one tensor."""

    tensor: MatchedTensor
    low: float = math.inf
    high: float = -math.inf
    signal: float = 0.0
    error: float = 0.0
    own_error: float = 0.0
    n_clipped: int = 0
    n_values: int = 0
    bounds: tuple[float, float] = field(init=False)

    def __post_init__(self) -> None:
        scale, zero_point = self.tensor.scale, self.tensor.zero_point
        least, greatest = self.tensor.limits
        self.bounds = (scale * (least - zero_point), scale * (greatest - zero_point))

    def add(self, exact: NDArray[Any], quantized: NDArray[Any]) -> None:
        exact, quantized = exact.astype(np.float64).ravel(), quantized.astype(np.float64).ravel()
        low, high = self.bounds
        rounded = np.clip(np.rint(exact / self.tensor.scale) * self.tensor.scale, low, high)
        # Half a step beyond the last integer rounds to it: nothing is lost there but the usual.
        margin = self.tensor.scale / 2
        self.low, self.high = min(self.low, exact.min()), max(self.high, exact.max())
        self.signal += float(np.sum(exact**2))
        self.error += float(np.sum((exact - quantized) ** 2))
        self.own_error += float(np.sum((exact - rounded) ** 2))
        self.n_clipped += int(np.sum((exact < low - margin) | (exact > high + margin)))
        self.n_values += exact.size

    def record(self) -> ActivationRange:
        return ActivationRange(
            tensor=self.tensor.label,
            operator=self.tensor.operator,
            scale=self.tensor.scale,
            zero_point=self.tensor.zero_point,
            low=self.bounds[0],
            high=self.bounds[1],
            float_low=float(self.low),
            float_high=float(self.high),
            clipped=self.n_clipped / self.n_values,
            sqnr_db=sqnr_db(self.signal, self.error),
            own_sqnr_db=sqnr_db(self.signal, self.own_error),
        )


def _weight_record(weights: MatchedWeights) -> WeightRange:
    exact = weights.original.astype(np.float64)
    return WeightRange(
        layer=weights.layer,
        shape=exact.shape,
        granularity="per-channel" if weights.is_per_channel else "per-tensor",
        low=float(exact.min()),
        high=float(exact.max()),
        sqnr_db=sqnr_db(float(np.sum(exact**2)), float(np.sum((exact - weights.dequantized) ** 2))),
    )
