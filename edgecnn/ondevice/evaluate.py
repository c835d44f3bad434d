"""Running a model over a whole set of images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.ondevice.manifest import DeviceError, Manifest, TensorSpec
from edgecnn.ondevice.preprocess import check_images, model_input
from edgecnn.ondevice.runtimes import load_model
from edgecnn.ondevice.runtimes.runtime import Runtime
from edgecnn.ondevice.runtimes.tflite_interpreter import TFLiteInterpreter

LARGEST_BATCH = 500
# Floats in one preprocessed batch (64 MiB): 500 MNIST images fit, of 224 x 224 RGB images 111 do.
LARGEST_BATCH_VALUES = 16 * 2**20


def evaluate(
    model: Path,
    manifest: Manifest,
    images_nhwc: NDArray[Any],
    runtime_name: str,
    num_threads: int = 1,
    optimize: bool = True,
) -> NDArray[Any]:
    """The raw outputs for uint8 images [n, height, width, channels]: [n, classes] in the output's own dtype.

    Raises DeviceError where the model cannot be loaded, or model, manifest and images do not fit together.
    """
    check_images(images_nhwc, manifest.preprocessing)
    runtime = load_model(runtime_name, model, num_threads, optimize)
    return evaluate_loaded(runtime, manifest, images_nhwc)


def evaluate_loaded(runtime: Runtime, manifest: Manifest, images_nhwc: NDArray[Any]) -> NDArray[Any]:
    """`evaluate` for a model that is loaded already."""
    spec = input_spec(runtime, manifest)
    output = runtime.single_output()
    chunk = batch_size(manifest)
    outputs = []
    for start in range(0, len(images_nhwc), chunk):
        batch = model_input(images_nhwc[start : start + chunk], manifest.preprocessing, manifest.layout, spec)
        outputs.append(_run(runtime, batch))
    if not outputs:
        return np.empty((0, *output.shape[1:]), dtype=output.dtype)
    result: NDArray[Any] = np.concatenate(outputs).reshape(len(images_nhwc), -1)
    return result


def _run(runtime: Runtime, batch: NDArray[Any]) -> NDArray[Any]:
    """The first output for a batch of any size, cut to the batch size that the model takes."""
    if isinstance(runtime, TFLiteInterpreter) and runtime.inputs[0].shape[0] == 1:
        return runtime.run_each(batch)
    fixed = runtime.inputs[0].shape[0]
    if fixed == 0:
        return runtime.run(batch)[0]
    parts = []
    for start in range(0, len(batch), fixed):
        part = batch[start : start + fixed]
        missing = fixed - len(part)
        if missing:
            part = np.concatenate([part, np.repeat(part[-1:], missing, axis=0)])
        parts.append(runtime.run(part)[0][: fixed - missing])
    return np.concatenate(parts)


def batch_size(manifest: Manifest) -> int:
    pre = manifest.preprocessing
    return max(1, min(LARGEST_BATCH, LARGEST_BATCH_VALUES // (pre.height * pre.width * pre.channels)))


def input_spec(runtime: Runtime, manifest: Manifest) -> TensorSpec:
    """The model's input, with the scale from the manifest where the file itself has none (ONNX).

    Raises DeviceError where the file and its manifest contradict each other.
    """
    spec = runtime.single_input()
    if len(manifest.inputs) != 1:
        raise DeviceError(
            f"the manifest lists {len(manifest.inputs)} inputs, the model has one", "rebuild the artifact"
        )
    declared = manifest.inputs[0]
    if declared.dtype != spec.dtype:
        raise DeviceError(
            f"the manifest says that the input is {declared.dtype}; the file's is {spec.dtype}",
            "copy the manifest that was made with this file, or rebuild the artifact",
        )
    if spec.scale is None:
        return replace(spec, scale=declared.scale, zero_point=declared.zero_point)
    if declared.scale is not None and not _same_quantization(spec, declared):
        raise DeviceError(
            f"the manifest says that the input has scale {declared.scale:.9g} and zero point"
            f" {declared.zero_point}; the file says {spec.scale:.9g} and {spec.zero_point}",
            "copy the manifest that was made with this file, or rebuild the artifact",
        )
    return spec


def _same_quantization(one: TensorSpec, other: TensorSpec) -> bool:
    return np.float32(one.scale) == np.float32(other.scale) and one.zero_point == other.zero_point
