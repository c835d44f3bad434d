"""One case through onnxruntime and every TFLite runtime: how many steps of the output's scale apart."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from converters.environments import run_module
from converters.inspection import inspect

from agreement.cases import Case
from edgecnn.export.tflite import convert
from edgecnn.ondevice.runtimes import load_model

# Within a process of its own: TFLite runtimes take theirs down on some files.
TFLITE_RUNTIMES = ("litert", "litert-reference", "tflite-runtime", "tflm")
# Plain loops: a 224 px picture takes them most of a second.
SLOW = ("litert-reference", "tflm")
REFERENCES = ("onnxruntime", "onnxruntime, optimized")
TIMEOUT_S = 1200
# Of an output that is float32, a step is this part of its range.
N_STEPS = 255


@dataclass(frozen=True)
class Distance:
    """From one reference. `histogram` counts output values by their distance in steps ("0", "1", ...);
    `top1_equal` is the share of inputs with the same top class, None where the output is no row of classes.
    """

    histogram: dict[str, int]
    within_one: float
    top1_equal: float | None

    @property
    def largest(self) -> int:
        return max(map(int, self.histogram))


@dataclass(frozen=True)
class Row:
    """One runtime on one case. `accuracy` and `float_top1` (the share of inputs whose top class is the float
    network's) are None where nothing is known to compare with; `failure` says why nothing was measured.
    """

    case: str
    runtime: str
    n_inputs: int = 0
    distances: dict[str, Distance] = field(default_factory=dict)
    accuracy: float | None = None
    float_top1: float | None = None
    failure: str = ""


def measure(case: Case, folder: Path, n_slow: int) -> list[Row]:
    """The case in every runtime; the slow ones get the first `n_slow` inputs."""
    contents = inspect(case.tflite.read_bytes())
    conversion = convert(case.qdq)
    real = {name: _onnx(case.qdq, case.inputs, optimize=name != REFERENCES[0]) for name in REFERENCES}
    step = contents.output.scale or float(np.ptp(real[REFERENCES[0]])) / N_STEPS
    found: dict[str, np.ndarray | str] = {name: _steps(outputs, step) for name, outputs in real.items()}
    to_tflite = conversion.input_permutations[0]
    (out,) = conversion.output_permutations
    for runtime in TFLITE_RUNTIMES:
        inputs = case.inputs[: n_slow if runtime in SLOW else None]
        stored = contents.input.quantized(np.ascontiguousarray(inputs.transpose(to_tflite)))
        outputs = _tflite(case.tflite, runtime, stored, folder)
        if isinstance(outputs, str):
            found[runtime] = outputs
        else:
            order = [out.index(axis) for axis in range(len(out))]
            found[runtime] = _steps(contents.output.dequantized(outputs), step).transpose(order)
    wanted = _onnx(case.float_onnx, case.inputs, optimize=True) if case.float_onnx else None
    return [_row(case, runtime, outputs, found, wanted) for runtime, outputs in found.items()]


def _row(
    case: Case,
    runtime: str,
    outputs: np.ndarray | str,
    found: dict[str, np.ndarray | str],
    float_outputs: np.ndarray | None,
) -> Row:
    if isinstance(outputs, str):
        return Row(case.name, runtime, failure=outputs)
    n = len(outputs)
    # Of the two references, the second is measured from the first.
    before = REFERENCES[: REFERENCES.index(runtime)] if runtime in REFERENCES else REFERENCES
    distances = {name: distance(outputs, found[name][:n]) for name in before}
    accuracy = None if case.labels is None else float(np.mean(outputs.argmax(1) == case.labels[:n]))
    is_row = float_outputs is not None and float_outputs.ndim == 2
    float_top1 = float(np.mean(outputs.argmax(1) == float_outputs[:n].argmax(1))) if is_row else None
    return Row(case.name, runtime, n, distances, accuracy, float_top1)


def distance(outputs: np.ndarray, wanted: np.ndarray) -> Distance:
    steps = np.abs(outputs.astype(int) - wanted.astype(int))
    values, counts = np.unique(steps, return_counts=True)
    top1 = float(np.mean(outputs.argmax(1) == wanted.argmax(1))) if outputs.ndim == 2 else None
    histogram = {str(value): int(count) for value, count in zip(values, counts, strict=True)}
    return Distance(histogram, float(np.mean(steps <= 1)), top1)


def _onnx(path: Path, inputs: np.ndarray, *, optimize: bool) -> np.ndarray:
    model = load_model("onnxruntime", path, optimize=optimize)
    return np.concatenate([model.run(inputs[i : i + 1])[0] for i in range(len(inputs))])


def _tflite(path: Path, runtime: str, stored: np.ndarray, folder: Path) -> np.ndarray | str:
    """The outputs, or why there are none."""
    inputs, outputs, log = (folder / f"{runtime}.{what}" for what in ("in.npy", "out.npy", "log"))
    np.save(inputs, stored)
    arguments = (runtime, str(path), str(inputs), str(outputs))
    fault = run_module(Path(sys.executable), "run_file", *arguments, log=log, timeout_s=TIMEOUT_S)
    return fault or np.load(outputs)


def _steps(outputs: np.ndarray, step: float) -> np.ndarray:
    """Real numbers as whole steps from zero. Clipped integers stay what they are: both files clip alike."""
    return np.rint(outputs.astype(np.float64) / np.float64(np.float32(step))).astype(int)
