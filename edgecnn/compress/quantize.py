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
from edgecnn.errors import MissingExtraError
from edgecnn.export.onnx import strip
from edgecnn.recipe import QuantizeSpec


@dataclass(frozen=True)
class Quantized:
    """The QDQ model, the engine that made it, and what the user should know about that."""

    model: onnx.ModelProto
    engine: str
    notes: tuple[str, ...]


def quantize(model: onnx.ModelProto, images_nchw: np.ndarray, spec: QuantizeSpec) -> Quantized:
    """`model` (float32) with the ranges of float32 `images_nchw` [n, c, h, w] (preprocessed).

    Weights int8 symmetric (per channel for convolutions, `spec.dense_weights` for Gemm / MatMul), biases
    int32, activations uint8 with true min-max ranges, unified where TFLite needs it.
    Raises QuantizationError where the engine fails, MissingExtraError where there is none.
    """
    engine, notes = _choose_engine(spec.engine)
    fit = engines.load_engine(engine)
    with tempfile.TemporaryDirectory(prefix="edgecnn-quantize-") as folder:
        float_path = Path(folder) / "float.onnx"
        onnx.save(model, float_path)
        fitted = fit(float_path, images_nchw, spec.dense_weights == "per_channel", Path(folder))
    strip(fitted)
    return Quantized(qdq.finish(fitted), engine, notes)


def _choose_engine(asked: str) -> tuple[str, tuple[str, ...]]:
    if engines.is_installed(asked):
        return asked, ()
    if not engines.is_installed("onnxruntime"):
        raise MissingExtraError(asked, extra="train", needed_for="quantization")
    return "onnxruntime", (f"{asked} is not installed: quantized by onnxruntime, which gives the same numbers",)
