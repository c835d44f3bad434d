"""The interpreter that LiteRT and the older tflite-runtime share: same API, two packages."""

from __future__ import annotations

import importlib
import importlib.metadata
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np
from numpy.typing import NDArray

from edgecnn.ondevice.manifest import DeviceError, TensorSpec
from edgecnn.ondevice.runtimes.quiet import quiet_stderr
from edgecnn.ondevice.runtimes.runtime import Runtime


class TFLiteInterpreter(Runtime):
    """XNNPACK where the runtime applies it by itself, as users get it; `optimize=False`: plain kernels."""

    model_format = "tflite"
    mend: str
    """What to do where the package does not work."""

    @classmethod
    def import_package(cls) -> Any:
        try:
            return importlib.import_module(cls.package + ".interpreter")
        except Exception as fault:
            raise DeviceError(f"{cls.distribution} does not import ({fault})", cls.mend) from fault

    def __init__(self, model: Path, num_threads: int, optimize: bool) -> None:
        interpreter = self.import_package()
        self.version = _version(self.distribution)
        resolver = interpreter.OpResolverType
        try:
            # The first delegate announces itself on stderr.
            with quiet_stderr():
                self._interpreter = interpreter.Interpreter(
                    model_path=str(model),
                    num_threads=num_threads,
                    experimental_op_resolver_type=resolver.AUTO if optimize else resolver.BUILTIN_REF,
                )
                self._interpreter.allocate_tensors()
        except Exception as fault:
            raise DeviceError(
                f"{self.distribution} {self.version} cannot load {model.name}: {fault}",
                "the file is damaged, or has operator versions that this runtime does not know: upgrade it",
            ) from fault
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        self.inputs = tuple(_spec(detail) for detail in inputs)
        self.outputs = tuple(_spec(detail) for detail in outputs)
        self.delegate = _delegate(self._interpreter)
        self._input_index = inputs[0]["index"] if inputs else -1
        self._output_indexes = [detail["index"] for detail in outputs]
        self.invoke = self._interpreter.invoke  # type: ignore[method-assign]  # one call less in the timing

    def prepare(self, batch: NDArray[Any]) -> None:
        self.check_batch(batch)
        self._interpreter.set_tensor(self._input_index, batch)

    def run_all(self, arrays: List[NDArray[Any]]) -> List[NDArray[Any]]:
        try:
            for detail, array in zip(self._interpreter.get_input_details(), arrays):
                self._interpreter.set_tensor(detail["index"], array)
            self.invoke()
        except (ValueError, RuntimeError) as fault:
            raise DeviceError(
                f"{self.distribution} cannot run it: {fault}", "check shapes and types"
            ) from fault
        return self.result()

    def result(self) -> List[NDArray[Any]]:
        return [self._interpreter.get_tensor(index) for index in self._output_indexes]

    def run_each(self, images: NDArray[Any]) -> NDArray[Any]:
        """Runs a model of batch 1 on [n, ...] images of its dtype; returns its first output as [n, ...].

        A tight loop: checks are made once, since they would cost more than a small network.
        """
        self.check_batch(images[:1])
        interpreter = self._interpreter
        set_input, invoke, get_output = interpreter.set_tensor, interpreter.invoke, interpreter.get_tensor
        input_index, output_index = self._input_index, self._output_indexes[0]
        output = self.outputs[0]
        results = np.empty((len(images), *output.shape[1:]), dtype=output.dtype)
        for i in range(len(images)):
            set_input(input_index, images[i : i + 1])
            invoke()
            results[i] = get_output(output_index)[0]
        return results


def _delegate(interpreter: Any) -> Optional[str]:
    """XNNPACK, the only delegate that is applied unasked, shows as one more operator after the file's."""
    operators = getattr(interpreter, "_get_ops_details", None)
    if operators is None:
        return None
    return "XNNPACK" if any(one["op_name"] == "DELEGATE" for one in operators()) else "none"


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _spec(detail: Dict[str, Any]) -> TensorSpec:
    scale, zero_point = detail["quantization"]
    quantized = scale != 0.0
    return TensorSpec(
        str(detail["name"]),
        tuple(int(size) for size in detail["shape"]),
        np.dtype(detail["dtype"]).name,
        float(scale) if quantized else None,
        int(zero_point) if quantized else None,
    )
