"""Does a file load and run in each runtime, and does it still say what the network says?"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from converters.environments import run_module
from converters.inspection import Contents

RUNTIMES = ("litert", "tflite-runtime", "tflm")
# The microcontroller runtime has plain loops: SqueezeNet takes it 100 times as long as the others.
N_MICRO_PICTURES = 50
# Beyond these a file that runs is called wrong. Rounding is far below, a wrong weight far above.
MAX_FLOAT_ERROR = 1e-3
MIN_INT8_TOP1 = 0.9
TIMEOUT_S = 300


@dataclass(frozen=True)
class Check:
    """`state` is yes, wrong or no (with a reason). `error` is the largest difference from onnxruntime's float32
    outputs over the largest of them, `top1_equal` the share of pictures on which the top class is the same.
    """

    state: str
    error: float | None = None
    top1_equal: float | None = None
    reason: str = ""


def expected_outputs(float_onnx: Path, images_nhwc: np.ndarray) -> np.ndarray:
    """onnxruntime's, node by node: no fusion takes part."""
    from edgecnn.ondevice.runtimes import load_model

    images_nchw = np.ascontiguousarray(images_nhwc.transpose(0, 3, 1, 2))
    return load_model("onnxruntime", float_onnx, optimize=False).run(images_nchw)[0]


def check_file(
    file: Path, contents: Contents, images_nhwc: np.ndarray, expected: np.ndarray
) -> dict[str, Check]:
    """By runtime; the microcontroller runtime gets the integer files only."""
    runtimes = RUNTIMES if contents.is_integer else RUNTIMES[:-1]
    return {runtime: _check(runtime, file, contents, images_nhwc, expected) for runtime in runtimes}


def _check(
    runtime: str, file: Path, contents: Contents, images_nhwc: np.ndarray, expected: np.ndarray
) -> Check:
    if runtime == "tflm":
        images_nhwc, expected = images_nhwc[:N_MICRO_PICTURES], expected[:N_MICRO_PICTURES]
    takes_nhwc = contents.input.shape[1:] == images_nhwc.shape[1:]
    images = images_nhwc if takes_nhwc else images_nhwc.transpose(0, 3, 1, 2)
    inputs, outputs, log = (file.with_suffix(f".{runtime}.{what}") for what in ("in.npy", "out.npy", "log"))
    np.save(inputs, np.ascontiguousarray(contents.input.quantized(images)))
    arguments = (runtime, str(file), str(inputs), str(outputs))
    reason = run_module(Path(sys.executable), "run_file", *arguments, log=log, timeout_s=TIMEOUT_S)
    if reason:
        return Check("no", reason=reason)
    actual = contents.output.dequantized(np.load(outputs)).reshape(expected.shape)
    error = float(np.abs(actual - expected).max() / np.abs(expected).max())
    top1_equal = float((actual.argmax(1) == expected.argmax(1)).mean())
    is_right = top1_equal >= MIN_INT8_TOP1 if "int8" in contents.dtypes else error <= MAX_FLOAT_ERROR
    return Check("yes" if is_right else "wrong", error, top1_equal)
