"""Intel's neural-compressor 3.7.1, the last release that quantizes ONNX.

It was written for onnx before 1.19 and prints a great deal; both are dealt with here and nowhere else.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgecnn.compress.engines import Request
from edgecnn.errors import QuantizationError

FLOAT = {"weight": {"dtype": ["fp32"]}, "activation": {"dtype": ["fp32"]}}


class _Images:
    """The data loader that it asks for: a `batch_size`, and (images, label) pairs; labels are not used."""

    batch_size = 1

    def __init__(self, images_nchw: NDArray[Any]) -> None:
        self._images = images_nchw

    def __iter__(self) -> Iterator[tuple[NDArray[Any], int]]:
        return ((image[None], 0) for image in self._images)

    def __len__(self) -> int:
        return len(self._images)


def fit(float_path: Path, images_nchw: NDArray[Any], request: Request, folder: Path) -> onnx.ModelProto:
    """The QDQ model of the float model at `float_path`: min-max ranges of float32 `images_nchw` [n, c, h, w],
    uint8 activations, symmetric int8 weights, per channel for convolutions. Scratch files go to `folder`.

    Raises QuantizationError where neural-compressor fails, with what it logged.
    """
    with _heard() as log:
        try:
            quantized = _run(float_path, images_nchw, request, folder)
            reason = " / ".join([line for line in log.getvalue().splitlines() if line.strip()][-3:])
        except Exception as fault:  # a stranger's code: whatever it raises, it did not quantize  # noqa: BLE001
            quantized, reason = None, f"{type(fault).__name__}: {fault}"
    if quantized is None:
        raise QuantizationError(
            f"neural-compressor gave no model: {reason}",
            fix="try engine: onnxruntime in the recipe's quantize step",
        )
    model: onnx.ModelProto = quantized.model
    return model


def _run(float_path: Path, images_nchw: NDArray[Any], request: Request, folder: Path) -> Any:
    """What neural-compressor gives: an object with `.model`, or None where it failed inside."""
    _restore_onnx_mapping()
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    from neural_compressor import PostTrainingQuantConfig, quantization, set_workspace

    set_workspace(str(folder / "nc_workspace"))
    dense = {"weight": {"granularity": ["per_channel" if request.per_channel_dense else "per_tensor"]}}
    settings = PostTrainingQuantConfig(
        approach="static",
        quant_format="QDQ",
        calibration_sampling_size=[len(images_nchw)],
        op_type_dict={"Gemm": dense, "MatMul": dense},
        op_name_dict=dict.fromkeys(request.float_nodes, FLOAT) or None,
        # By default Gemm becomes MatMul + Add, and the bias stays float.
        recipes={"gemm_to_matmul": False},
    )
    return quantization.fit(str(float_path), settings, calib_dataloader=_Images(images_nchw))


@contextlib.contextmanager
def _heard() -> Iterator[io.StringIO]:
    """Whatever is printed or logged in the block is kept off the terminal, and given to the block's owner."""
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    logger = logging.getLogger("neural_compressor")
    with warnings.catch_warnings(), contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        warnings.simplefilter("ignore")
        logger.addHandler(handler)
        try:
            yield log
        finally:
            logger.removeHandler(handler)


def _restore_onnx_mapping() -> None:
    """neural-compressor reads `onnx.mapping`: two tables that onnx 1.19 dropped; `onnx.helper` has them"""
    if hasattr(onnx, "mapping"):
        return
    mapping = types.ModuleType("onnx.mapping")
    types_of_tensors = [t for t in onnx.TensorProto.DataType.values() if t != onnx.TensorProto.UNDEFINED]
    mapping.TENSOR_TYPE_TO_NP_TYPE = {  # type: ignore[attr-defined]
        t: onnx.helper.tensor_dtype_to_np_dtype(t) for t in types_of_tensors
    }
    numpy_types = (
        "float32 uint8 int8 uint16 int16 int32 int64 bool float16 float64 "
        "complex64 complex128 uint32 uint64 object"
    )
    mapping.NP_TYPE_TO_TENSOR_TYPE = {  # type: ignore[attr-defined]
        np.dtype(name): onnx.helper.np_dtype_to_tensor_dtype(np.dtype(name)) for name in numpy_types.split()
    }
    sys.modules["onnx.mapping"] = mapping
    onnx.mapping = mapping  # type: ignore[attr-defined]
