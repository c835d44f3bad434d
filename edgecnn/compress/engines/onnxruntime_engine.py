"""onnxruntime's own quantizer: the equal second engine, and what runs where the first does not install."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from edgecnn.compress.engines import Request

DENSE_OPS = ("Gemm", "MatMul")


def fit(float_path: Path, images_nchw: NDArray[Any], request: Request, folder: Path) -> onnx.ModelProto:
    """The QDQ model of the float model at `float_path`: min-max ranges of float32 `images_nchw` [n, c, h, w],
    uint8 activations, symmetric int8 weights, per channel for convolutions. Scratch files go to `folder`.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.calibrate import CalibrationDataReader

    model = onnx.load(float_path)
    input_name = model.graph.input[0].name

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
        def __init__(self) -> None:
            self._batches: Iterator[NDArray[Any]] = iter(images_nchw[:, None])

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            batch = next(self._batches, None)
            return None if batch is None else {input_name: batch}

    constants = {tensor.name for tensor in model.graph.initializer}
    dense_weights = [
        node.input[1] for node in model.graph.node if node.op_type in DENSE_OPS and node.input[1] in constants
    ]
    # One override without an axis makes a tensor per-tensor in a model that is otherwise per-channel.
    overrides = (
        {} if request.per_channel_dense else {name: [{"quant_type": QuantType.QInt8}] for name in dense_weights}
    )
    quantized_path = folder / "qdq.onnx"
    # It advises shape inference and other preparation, which the exporter has done.
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        quantize_static(
            str(float_path),
            str(quantized_path),
            Reader(),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            calibrate_method=CalibrationMethod.MinMax,
            nodes_to_exclude=list(request.float_nodes),
            extra_options={"TensorQuantOverrides": overrides},
        )
    finally:
        logger.setLevel(level)
    return onnx.load(quantized_path)
