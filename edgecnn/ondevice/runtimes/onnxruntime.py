"""onnxruntime, for .onnx files."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
from numpy.typing import NDArray

from edgecnn.ondevice.manifest import DeviceError, TensorSpec
from edgecnn.ondevice.runtimes.external_data import check_external_data
from edgecnn.ondevice.runtimes.runtime import Runtime

NUMPY_TYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
}


class OnnxRuntime(Runtime):
    """`optimize=False` is ORT_DISABLE_ALL: each node by itself, the reference for parity."""

    model_format = "onnx"
    package = "onnxruntime"
    distribution = "onnxruntime"

    @classmethod
    def import_package(cls) -> Any:
        # From 1.29 on the import writes a device id and a telemetry database below the user's cache folder.
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"
        try:
            return importlib.import_module("onnxruntime")
        except Exception as fault:
            raise DeviceError(
                f"onnxruntime does not import ({fault})", "pip install --force-reinstall onnxruntime"
            ) from fault

    def __init__(self, model: Path, num_threads: int, optimize: bool) -> None:
        check_external_data(model)
        onnxruntime = self.import_package()
        self.version = onnxruntime.__version__
        try:
            self._session = onnxruntime.InferenceSession(
                str(model), _options(onnxruntime, num_threads, optimize), providers=["CPUExecutionProvider"]
            )
        except Exception as fault:
            raise DeviceError(
                f"onnxruntime {self.version} cannot load {model.name}: {fault}",
                "the file is damaged, or needs a newer onnxruntime",
            ) from fault
        self.inputs = tuple(_spec(tensor) for tensor in self._session.get_inputs())
        self.outputs = tuple(_spec(tensor) for tensor in self._session.get_outputs())
        self._output_names = [spec.name for spec in self.outputs]
        self._feed: Dict[str, Any] = {}
        self._last: List[NDArray[Any]] = []

    def prepare(self, batch: NDArray[Any]) -> None:
        self.check_batch(batch)
        # The OrtValue wraps this memory: no copy is made when the session runs.
        self._feed = {self.inputs[0].name: np.ascontiguousarray(batch)}

    def run_all(self, arrays: List[NDArray[Any]]) -> List[NDArray[Any]]:
        feed = {spec.name: np.ascontiguousarray(array) for spec, array in zip(self.inputs, arrays)}
        try:
            outputs: List[NDArray[Any]] = self._session.run(self._output_names, feed)
        except Exception as fault:
            raise DeviceError(f"onnxruntime cannot run it: {fault}", "check shapes and types") from fault
        return outputs

    def invoke(self) -> None:
        self._last = self._session.run(self._output_names, self._feed)

    def result(self) -> List[NDArray[Any]]:
        return self._last


def _options(onnxruntime: Any, num_threads: int, optimize: bool) -> Any:
    """One inference after another, on `num_threads` threads in all (the calling one is among them).

    With two threads and more the waiting ones spin for some 20 ms before they sleep. That is onnxruntime's
    default and left so, since users get it; one thread never spins. It makes the CPU seconds of a record
    `num_threads` times the wall seconds whatever there was to do.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3  # errors come as exceptions; its warnings are not for our users
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


def _spec(tensor: Any) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) and size > 0 else 0 for size in tensor.shape)
    return TensorSpec(tensor.name, shape, NUMPY_TYPES.get(tensor.type, tensor.type))
