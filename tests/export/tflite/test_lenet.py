"""LeNet-5 end to end: sizes, versions, agreement on every runtime, and the ways a QDQ file may be written."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from export.tflite.agreement import assert_agrees, compare
from export.tflite.nets import lenet5, qdq
from export.tflite.running import operators

from edgecnn.export.tflite import convert

RUNTIMES = ["litert", "litert-reference", "tflite-runtime", "tflm"]
# What the file cannot do without: 61,706 float32 parameters; 61,470 int8 weights and 236 int32 biases.
FLOAT_PARAMETERS_BYTES = 61_706 * 4
INT8_PARAMETERS_BYTES = 61_470 + 236 * 4


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_float_lenet_agrees_on_every_runtime(runtime):
    conversion = assert_agrees(lenet5(), runtime=runtime, n=20)
    assert len(conversion.data) <= FLOAT_PARAMETERS_BYTES + 1400


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_int8_lenet_agrees_on_every_runtime(runtime):
    conversion = assert_agrees(qdq(lenet5()), runtime=runtime, n=100)
    assert len(conversion.data) <= INT8_PARAMETERS_BYTES + 2306


def test_int8_lenet_is_seven_integer_operators_at_their_lowest_versions():
    conversion = convert(qdq(lenet5()))
    assert operators(conversion.data) == [
        ("CONV_2D", 3), ("MAX_POOL_2D", 2), ("CONV_2D", 3), ("MAX_POOL_2D", 2),
        ("FULLY_CONNECTED", 4), ("FULLY_CONNECTED", 4), ("FULLY_CONNECTED", 4),
    ]  # fmt: skip
    assert conversion.notes == ()


def test_interface_keeps_names_and_says_its_quantization():
    model = qdq(lenet5())
    conversion = convert(model)
    (image,), (output,) = conversion.inputs, conversion.outputs
    assert (image.name, image.shape, image.dtype) == ("image", (1, 28, 28, 1), "int8")
    assert (output.name, output.shape, output.dtype) == ("output", (1, 10), "int8")
    scales = {init.name: onnx.numpy_helper.to_array(init) for init in model.graph.initializer}
    first = next(node for node in model.graph.node if node.op_type == "QuantizeLinear")
    assert image.scale == float(scales[first.input[1]])
    assert image.zero_point == int(scales[first.input[2]]) - 128


@pytest.mark.parametrize(
    "options",
    [
        {"activation": "int8"},
        {"weight": "uint8"},
        {"bias": "float"},
        {"per_channel": ("Conv", "Gemm")},
        {"per_channel": ()},
        {"fuse_relu": False},
    ],
    ids=str,
)
def test_int8_lenet_however_the_qdq_file_is_written(options):
    assert_agrees(qdq(lenet5(), **options), n=50, steps=2 if "fuse_relu" in options else 1)


@pytest.mark.parametrize("quantize", [lambda m: m, qdq], ids=["float", "int8"])
def test_matmul_and_add_are_one_fully_connected(quantize):
    model = lenet5(dense="matmul")
    conversion = assert_agrees(quantize(model), n=20, steps=2)
    codes = [code for code, _ in operators(conversion.data)]
    assert codes.count("FULLY_CONNECTED") == 3
    assert codes.count("ADD") == (0 if quantize is not qdq else 3)


def test_uint8_and_int8_activations_give_the_same_file():
    assert convert(qdq(lenet5(), activation="int8")).data == convert(qdq(lenet5())).data


def test_larger_batch():
    conversion = assert_agrees(lenet5(), batch=3)
    assert conversion.inputs[0].shape == (3, 28, 28, 1)
    assert_agrees(qdq(lenet5()), batch=3)


def test_nchw_input_costs_one_operator():
    conversion = assert_agrees(lenet5(), keep_nchw_input=True)
    assert conversion.inputs[0].shape == (1, 1, 28, 28)
    assert conversion.n_operators == convert(lenet5()).n_operators + 1
    assert_agrees(qdq(lenet5()), keep_nchw_input=True, n=10)


def test_top1_is_the_same():
    conversion, (steps,) = compare(qdq(lenet5()), n=300)
    assert np.mean(steps == 0) > 0.95
    assert conversion.n_operators == 7


def test_conversion_is_deterministic():
    assert convert(lenet5()).data == convert(lenet5()).data
