"""The tools that turn float ONNX and calibration images into QDQ ONNX. Each is one function `fit`."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import onnx
from numpy.typing import NDArray


@dataclass(frozen=True)
class Request:
    """What an engine may be asked for: dense weights scaled by channel; nodes, by name, left in float32."""

    per_channel_dense: bool = False
    float_nodes: tuple[str, ...] = ()


# (float model file, calibration images float32 [n, c, h, w], request, working folder) -> QDQ model
Fit = Callable[[Path, NDArray[Any], Request, Path], onnx.ModelProto]

ENGINES = {
    "neural-compressor": "edgecnn.compress.engines.neural_compressor_engine",
    "onnxruntime": "edgecnn.compress.engines.onnxruntime_engine",
}
PACKAGES = {"neural-compressor": "neural_compressor", "onnxruntime": "onnxruntime"}


def is_installed(engine: str) -> bool:
    return importlib.util.find_spec(PACKAGES[engine]) is not None


def load_engine(engine: str) -> Fit:
    return cast(Fit, importlib.import_module(ENGINES[engine]).fit)
