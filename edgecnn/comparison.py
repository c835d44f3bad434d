"""Two files of one network, side by side: the same random inputs through onnxruntime and a TFLite runtime."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgecnn.export.tflite import Conversion
from edgecnn.ondevice.manifest import TensorSpec
from edgecnn.ondevice.preprocess import quantize
from edgecnn.targets.target import Target

# Beyond this share of the largest output, two float files are not the same network: float32 sums in
# another order differ by about a millionth.
LARGEST_FLOAT_DIFFERENCE = 1e-4
# Steps of the output scale that rounding alone explains, in a network of some depth.
LARGEST_LSB = 4


@dataclass(frozen=True)
class OutputComparison:
    """One output: floats by their largest difference as a share of the largest value, integers in LSB.

    `lsb_histogram` maps a distance in steps of the output scale to how many values show it; None for floats.
    """

    name: str
    largest_difference: float
    largest_value: float
    lsb_histogram: dict[str, int] | None

    @property
    def relative_difference(self) -> float:
        return self.largest_difference / self.largest_value if self.largest_value else self.largest_difference

    @property
    def agrees(self) -> bool:
        """Whether rounding explains the difference."""
        if self.lsb_histogram is None:
            return self.relative_difference <= LARGEST_FLOAT_DIFFERENCE
        return max(map(int, self.lsb_histogram)) <= LARGEST_LSB


@dataclass(frozen=True)
class Comparison:
    """`n_inputs` random inputs through both files; the reference is onnxruntime, optimizations off."""

    n_inputs: int
    runtime: str
    outputs: tuple[OutputComparison, ...]

    @property
    def agrees(self) -> bool:
        return all(output.agrees for output in self.outputs)


def compare(
    onnx_path: Path,
    tflite_path: Path,
    conversion: Conversion,
    target: Target,
    *,
    n_inputs: int,
    runtime: str = "litert",
    seed: int = 0,
) -> Comparison:
    """Runs `n_inputs` random inputs through both files. Raises TargetError where one of them does not run."""
    random = np.random.default_rng(seed)
    types = _onnx_types(onnx_path)
    given_onnx: dict[str, NDArray[Any]] = {}
    given_tflite: dict[str, NDArray[Any]] = {}
    for spec, permutation in zip(conversion.inputs, conversion.input_permutations, strict=True):
        tflite, reference = _random_pair(spec, types[spec.name], n_inputs, random)
        given_tflite[spec.name] = tflite
        given_onnx[spec.name] = np.ascontiguousarray(reference.transpose(0, *_undone(permutation)))
    wanted = target.run(onnx_path, given_onnx, "onnxruntime", optimize=False)
    actual = target.run(tflite_path, given_tflite, runtime)
    outputs = tuple(
        _difference(
            spec, actual[spec.name], wanted[spec.name].transpose(0, *(axis + 1 for axis in permutation))
        )
        for spec, permutation in zip(conversion.outputs, conversion.output_permutations, strict=True)
    )
    return Comparison(n_inputs, runtime, outputs)


def _random_pair(
    spec: TensorSpec, onnx_type: np.dtype[Any], n: int, random: np.random.Generator
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The same random numbers as either file takes them, the .tflite first, both in TFLite's layout."""
    shape = (n, *spec.shape)
    floats = random.normal(size=shape).astype(np.float32)
    if spec.scale is None or spec.zero_point is None:
        if np.issubdtype(np.dtype(spec.dtype), np.floating):
            return floats.astype(spec.dtype), floats.astype(onnx_type)
        integers = random.integers(0, 2, shape)  # indices, masks: 0 and 1 are valid for most
        return integers.astype(spec.dtype), integers.astype(onnx_type)
    limits = np.iinfo(spec.dtype)
    integers = random.integers(limits.min, limits.max + 1, shape).astype(np.int64)
    if np.issubdtype(onnx_type, np.integer):  # the file is quantized from its input on: uint8 shifted by 128
        shift = int(np.iinfo(onnx_type).min) - int(limits.min)
        return integers.astype(spec.dtype), (integers + shift).astype(onnx_type)
    real = (integers - spec.zero_point).astype(np.float32) * np.float32(spec.scale)
    # Back from the float, so that both files start from the same integers whatever rounding did.
    return quantize(real, spec.scale, spec.zero_point, spec.dtype), real


def _difference(spec: TensorSpec, actual: NDArray[Any], wanted: NDArray[Any]) -> OutputComparison:
    if spec.scale is None or spec.zero_point is None:
        actual, wanted = (np.asarray(values, dtype=np.float64) for values in (actual, wanted))
        difference = float(np.abs(actual - wanted).max(initial=0))
        return OutputComparison(spec.name, difference, float(np.abs(wanted).max(initial=0)), None)
    if np.issubdtype(wanted.dtype, np.floating):
        steps = np.rint(wanted.astype(np.float64) / np.float64(np.float32(spec.scale)))
        limits = np.iinfo(spec.dtype)
        expected = np.clip(steps + spec.zero_point, limits.min, limits.max).astype(np.int64)
    else:
        shift = int(np.iinfo(spec.dtype).min) - int(np.iinfo(wanted.dtype).min)
        expected = wanted.astype(np.int64) + shift
    distances = np.abs(actual.astype(np.int64) - expected)
    values, counts = np.unique(distances, return_counts=True)
    histogram = {str(value): int(count) for value, count in zip(values, counts, strict=True)}
    return OutputComparison(
        spec.name,
        float(values[-1]) * spec.scale,
        float(np.abs(expected - spec.zero_point).max()) * spec.scale,
        histogram,
    )


def _onnx_types(path: Path) -> dict[str, np.dtype[Any]]:
    return {
        value.name: np.dtype(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
        for value in onnx.load(path, load_external_data=False).graph.input
    }


def _undone(permutation: tuple[int, ...]) -> tuple[int, ...]:
    """The permutation, behind a leading axis, that takes TFLite's axes back to ONNX's order."""
    return tuple(permutation.index(axis) + 1 for axis in range(len(permutation)))
