"""Whole architectures, exported by torch: float32 against onnxruntime, int8 in steps of the output's scale."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
import pytest
from agreement.zoo import ZOO, export, folded
from export.tflite.agreement import assert_agrees, compare
from export.tflite.nets import qdq
from export.tflite.running import operators

from edgecnn.export.tflite import convert

# A channel shuffle is a transposition that the model asks for.
# So is the input of a network over time: [N, C, L] as in the ONNX file.
TRANSPOSES = {"ShuffleNetV2": 3, "SensorCNN": 1}
DYNAMO = ("LeNet5", "SqueezeNet11", "MobileNetV3Small", "ShuffleNetV2", "UNet")


@cache
def exported(name: str, dynamo: bool = False) -> onnx.ModelProto:
    return export(name, dynamo=dynamo)


@cache
def cleaned(name: str) -> onnx.ModelProto:
    return folded(exported(name))


@pytest.mark.parametrize("name", ZOO)
def test_float(name):
    assert_agrees(exported(name), n=2, transposes=TRANSPOSES.get(name, 0))


@pytest.mark.parametrize("name", DYNAMO)
def test_float_from_the_other_exporter(name):
    assert_agrees(exported(name, dynamo=True), n=2, transposes=TRANSPOSES.get(name, 0))


@pytest.mark.parametrize("runtime", ["tflite-runtime", "tflm"])
@pytest.mark.parametrize("name", ZOO)
def test_float_on_other_runtimes(name, runtime):
    assert_agrees(exported(name), n=1, runtime=runtime, transposes=None)


@pytest.mark.parametrize("name", ZOO)
def test_int8(name):
    model = qdq(cleaned(name))
    conversion, results = compare(model, n=8)
    codes = [code for code, _ in operators(conversion.data)]
    assert "DEQUANTIZE" not in codes or name == "SqueezeNet10", codes
    assert codes.count("TRANSPOSE") == TRANSPOSES.get(name, 0)
    for steps in results:
        assert np.mean(steps <= 1) >= 0.9, np.bincount(steps.reshape(-1))
        assert steps.max() <= 4


@pytest.mark.parametrize("runtime", ["litert", "litert-reference", "tflite-runtime"])
@pytest.mark.parametrize("name", ["MobileNetV2", "SqueezeNet11", "UNet"])
def test_fewer_bits_for_the_weights(name, runtime):
    plain = len(convert(exported(name)).data)
    halved = assert_agrees(exported(name), weights="float16", tolerance=1e-3, n=1, runtime=runtime)
    quartered = assert_agrees(exported(name), weights="int8", tolerance=0.03, n=1, runtime=runtime)
    assert len(quartered.data) < len(halved.data) < plain


@pytest.mark.parametrize("runtime", ["litert-reference", "tflite-runtime", "tflm"])
@pytest.mark.parametrize("name", ["MobileNetV2", "SqueezeNet11", "UNet"])
def test_int4_weights(name, runtime):
    model = qdq(cleaned(name))
    conversion, (steps,) = compare(model, weights="int4", n=2, runtime=runtime)
    assert len(conversion.data) < len(convert(model).data)
    assert steps.mean() < 20


@pytest.mark.parametrize("runtime", ["litert-reference", "tflite-runtime", "tflm"])
@pytest.mark.parametrize("name", ZOO)
def test_int8_on_other_runtimes(name, runtime):
    _, results = compare(qdq(cleaned(name)), n=3, runtime=runtime)
    for result in results:
        if isinstance(result, float):
            assert result <= 0.02
        else:
            assert np.mean(result <= 1) >= 0.7
            assert result.max() <= 5
