"""Converts, runs both files on the same inputs, and measures how far they are apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from export.tflite.nets import random_inputs
from export.tflite.running import relative_error, run_onnx, run_tflite

from edgecnn.export.tflite import Conversion, convert
from edgecnn.ondevice.manifest import TensorSpec


def to_tflite(array: np.ndarray, permutation: tuple[int, ...], spec: TensorSpec) -> np.ndarray:
    """An ONNX input as the .tflite file takes it."""
    array = np.ascontiguousarray(np.transpose(array, permutation))
    if spec.scale is None or spec.zero_point is None:
        return array
    limits = np.iinfo(spec.dtype)
    integers = np.rint(array / np.float32(spec.scale)) + spec.zero_point
    return np.clip(integers, limits.min, limits.max).astype(spec.dtype)


def steps_or_error(
    actual: np.ndarray, wanted: np.ndarray, permutation: tuple[int, ...], spec: TensorSpec
) -> Any:
    """("float", relative error) or ("steps", array of distances in steps of the output's scale)."""
    assert actual.shape == spec.shape, (actual.shape, spec)
    wanted = np.transpose(wanted, permutation)
    assert actual.shape == wanted.shape, (actual.shape, wanted.shape)
    if spec.scale is None or spec.zero_point is None:
        return relative_error(actual, wanted)
    integers = np.rint(wanted / np.float32(spec.scale)) + spec.zero_point
    return np.abs(actual.astype(int) - integers.astype(int))


def compare(
    model: onnx.ModelProto, *, n: int = 4, runtime: str = "litert", batch: int = 1, **options: Any
) -> tuple[Conversion, list[Any]]:
    """(the conversion, for each output its relative error, or its distances in steps if quantized)."""
    checked = {"tflite-runtime": "tflite-runtime==2.14", "tflm": "tflm"}.get(runtime, "litert")
    conversion = convert(model, batch=batch, runtime=checked, **options)
    batches = [random_inputs(model, 1000 + seed, batch) for seed in range(n)]
    wanted = run_onnx(model, batches)
    given = [
        [
            to_tflite(array, permutation, spec)
            for array, permutation, spec in zip(
                arrays, conversion.input_permutations, conversion.inputs, strict=True
            )
        ]
        for arrays in batches
    ]
    actual = run_tflite(conversion.data, given, runtime)
    results = []
    n_outputs = len(actual[0])
    for i in range(n_outputs):
        per_batch = [
            steps_or_error(a[i], w[i], conversion.output_permutations[i], conversion.outputs[i])
            for a, w in zip(actual, wanted, strict=True)
        ]
        quantized = conversion.outputs[i].scale is not None
        results.append(np.stack(per_batch) if quantized else max(per_batch))
    return conversion, results


def assert_agrees(
    model: onnx.ModelProto,
    *,
    tolerance: float = 1e-4,
    steps: int = 1,
    transposes: int | None = 0,
    **options: Any,
) -> Conversion:
    """Fails where an output is off by more than `tolerance` or `steps`, or on unasked TRANSPOSEs."""
    from export.tflite.running import operators

    conversion, results = compare(model, **options)
    for result in results:
        if isinstance(result, float):
            assert result <= tolerance, f"relative error {result}"
        else:
            assert result.max() <= steps, f"off by {result.max()} steps"
    if transposes is not None:
        codes = [code for code, _ in operators(conversion.data)]
        assert codes.count("TRANSPOSE") == transposes, codes
    return conversion
