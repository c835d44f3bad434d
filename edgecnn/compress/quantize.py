"""int8 static post-training quantization: float ONNX + calibration images -> QDQ ONNX, the one source of
the int8 numbers in both formats.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from edgecnn.compress import engines, qdq
from edgecnn.compress.calibration import narrow_ranges
from edgecnn.errors import MissingExtraError
from edgecnn.export.onnx import strip
from edgecnn.recipe import QuantizeSpec

# neural-compressor writes these in integers only outside QDQ; what follows them stays in float32, too.
LEFT_IN_FLOAT_BY_NEURAL_COMPRESSOR = frozenset({"Add", "Mul"})


@dataclass(frozen=True)
class Quantized:
    """The QDQ model, the engine that made it, and what the user should know about that."""

    model: onnx.ModelProto
    engine: str
    notes: tuple[str, ...]


def quantize(model: onnx.ModelProto, images_nchw: np.ndarray, spec: QuantizeSpec) -> Quantized:
    """`model` (float32) with the ranges of float32 `images_nchw` [n, c, h, w] (preprocessed).

    Weights int8 symmetric (per channel for convolutions, `spec.dense_weights` for Gemm / MatMul), biases
    int32, activations uint8 with the ranges of `spec.calibrator`, unified where TFLite needs it.
    Raises QuantizationError where the engine fails, MissingExtraError where there is none.
    """
    engine, notes = _choose_engine(spec.engine, {node.op_type for node in model.graph.node})
    fit = engines.load_engine(engine)
    with tempfile.TemporaryDirectory(prefix="edgecnn-quantize-") as folder:
        float_path = Path(folder) / "float.onnx"
        onnx.save(model, float_path)
        fitted = fit(float_path, images_nchw, spec.dense_weights == "per_channel", Path(folder))
    if spec.calibrator != "minmax":
        narrow_ranges(fitted, model, images_nchw, spec.calibrator)
    strip(fitted)
    return Quantized(qdq.finish(fitted), engine, notes)


def _choose_engine(asked: str, operators: set[str]) -> tuple[str, tuple[str, ...]]:
    """The engine that quantizes a network of these `operators`, and why it is not the one asked for."""
    left = sorted(operators & LEFT_IN_FLOAT_BY_NEURAL_COMPRESSOR) if asked == "neural-compressor" else []
    if left and engines.is_installed("onnxruntime"):
        return "onnxruntime", (f"{asked} leaves {', '.join(left)} in float32: quantized by onnxruntime",)
    if engines.is_installed(asked):
        return asked, ()
    if not engines.is_installed("onnxruntime"):
        raise MissingExtraError(asked, extra="train", needed_for="quantization")
    return "onnxruntime", (f"{asked} is not installed: quantized by onnxruntime, which gives the same numbers",)
