"""Each ONNX operator by itself, in float32 and as QDQ int8, against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from export.tflite.agreement import assert_agrees
from export.tflite.nets import Net, qdq
from export.tflite.running import operators


def numbers(*values, dtype=np.int64):
    return np.array(values, dtype)


def channels(net):
    """One number a channel, as it broadcasts against a batch of images of 4 channels."""
    return net.weights(4, 1, 1)


SPATIAL = {"kernel_shape": [3, 3], "strides": [2, 2]}

# name -> (net, x: [1, 4, 9, 11]) -> output. All are tested in float; those of INT8 also with QDQ pairs.
CASES = {
    "conv_same": lambda n, x: n.conv(x, 4, 6, 3, pads=[1] * 4),
    "conv_valid_no_bias": lambda n, x: n.conv(x, 4, 6, 3, bias=False),
    "conv_stride": lambda n, x: n.conv(x, 4, 6, 3, pads=[1] * 4, strides=[2, 2]),
    "conv_asymmetric_pads": lambda n, x: n.conv(x, 4, 6, 3, pads=[0, 2, 1, 0]),
    "conv_dilated": lambda n, x: n.conv(x, 4, 6, 3, pads=[2] * 4, dilations=[2, 2]),
    "conv_auto_pad_upper": lambda n, x: n.conv(x, 4, 6, 3, auto_pad="SAME_UPPER", strides=[2, 2]),
    "conv_auto_pad_lower": lambda n, x: n.conv(x, 4, 6, 4, auto_pad="SAME_LOWER"),
    "conv_1x1_stride": lambda n, x: n.conv(x, 4, 6, 1, strides=[2, 2]),
    "conv_depthwise": lambda n, x: n.conv(x, 4, 4, 3, pads=[1] * 4, group=4),
    "conv_depthwise_multiplier": lambda n, x: n.conv(x, 4, 8, 3, pads=[1] * 4, group=4),
    "conv_depthwise_dilated": lambda n, x: n.conv(x, 4, 4, 3, group=4, dilations=[2, 2]),
    "conv_depthwise_stride": lambda n, x: n.conv(x, 4, 4, 3, pads=[1] * 4, strides=[2, 2], group=4),
    "conv_grouped": lambda n, x: n.conv(x, 4, 6, 3, pads=[1] * 4, group=2),
    "conv_relu": lambda n, x: n("Relu", n.conv(x, 4, 6, 3)),
    "conv_relu6": lambda n, x: n("Clip", n.conv(x, 4, 6, 3), np.float32(0), np.float32(6)),
    "conv_transpose_stride_2": lambda n, x: n(
        "ConvTranspose", x, n.weights(4, 3, 2, 2), n.weights(3), strides=[2, 2]
    ),
    "conv_transpose_same": lambda n, x: n(
        "ConvTranspose", x, n.weights(4, 3, 4, 4), n.weights(3), strides=[2, 2], pads=[1] * 4
    ),
    "conv_transpose_cropped": lambda n, x: n(
        "ConvTranspose", x, n.weights(4, 3, 3, 3), strides=[2, 2], pads=[1] * 4, output_padding=[1, 1]
    ),
    "gemm": lambda n, x: n("Gemm", n("Flatten", x), n.weights(5, 396), n.weights(5), transB=1),
    "gemm_relu": lambda n, x: n("Relu", n("Gemm", n("Flatten", x), n.weights(396, 5))),
    "max_pool": lambda n, x: n("MaxPool", x, **SPATIAL),
    "max_pool_padded": lambda n, x: n("MaxPool", x, **SPATIAL, pads=[1] * 4),
    "max_pool_padded_below_zero": lambda n, x: n(
        "MaxPool", n("Sub", x, np.float32(3)), kernel_shape=[2, 2], pads=[1] * 4
    ),
    "max_pool_ceil": lambda n, x: n("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
    "average_pool": lambda n, x: n("AveragePool", x, **SPATIAL),
    "average_pool_counting_pads": lambda n, x: n(
        "AveragePool", x, **SPATIAL, pads=[1] * 4, count_include_pad=1
    ),
    "average_pool_of_relu": lambda n, x: n("AveragePool", n("Relu", x), **SPATIAL),
    "average_pool_same": lambda n, x: n("AveragePool", x, kernel_shape=[3, 3], pads=[1] * 4),
    "global_average_pool": lambda n, x: n("GlobalAveragePool", x),
    "reduce_mean": lambda n, x: n("ReduceMean", x, axes=[2, 3], keepdims=0),
    "reduce_mean_channels": lambda n, x: n("ReduceMean", x, axes=[1], keepdims=1),
    "reduce_max": lambda n, x: n("ReduceMax", x, axes=[2, 3], keepdims=0),
    "add_self": lambda n, x: n("Add", x, n("Relu", x)),
    "add_channels": lambda n, x: n("Add", x, channels(n)),
    "add_scalar": lambda n, x: n("Add", x, np.float32(0.7)),
    "sub_channels": lambda n, x: n("Sub", channels(n), x),
    "mul_gate": lambda n, x: n("Mul", x, n("Sigmoid", n("GlobalAveragePool", x))),
    "mul_channels": lambda n, x: n("Mul", x, channels(n)),
    "add_lower_rank": lambda n, x: n("Add", x, n("Reshape", n("GlobalAveragePool", x), numbers(4, 1, 1))),
    "relu": lambda n, x: n("Relu", x),
    "relu6": lambda n, x: n("Clip", x, np.float32(0), np.float32(6)),
    "clip": lambda n, x: n("Clip", x, np.float32(-0.3), np.float32(0.5)),
    "clip_one_side": lambda n, x: n("Clip", x, "", np.float32(0.5)),
    "leaky_relu": lambda n, x: n("LeakyRelu", x, alpha=0.1),
    "prelu": lambda n, x: n("PRelu", x, np.abs(channels(n))),
    "hard_swish": lambda n, x: n("HardSwish", x),
    "hard_sigmoid": lambda n, x: n("HardSigmoid", x, alpha=1 / 6, beta=0.5),
    "hard_sigmoid_default": lambda n, x: n("HardSigmoid", x),
    "sigmoid": lambda n, x: n("Sigmoid", x),
    "tanh": lambda n, x: n("Tanh", x),
    "softmax_channels": lambda n, x: n("Softmax", x, axis=1),
    "concat_channels": lambda n, x: n("Concat", x, n("Relu", x), axis=1),
    "concat_height": lambda n, x: n("Concat", x, x, axis=2),
    "split": lambda n, x: n("Concat", *n("Split", x, numbers(2, 2), n_outputs=2, axis=1)[::-1], axis=1),
    "split_unequal": lambda n, x: n(
        "Concat", *n("Split", x, numbers(3, 1), n_outputs=2, axis=1)[::-1], axis=1
    ),
    "slice": lambda n, x: n("Slice", x, numbers(1), numbers(3), numbers(1)),
    "slice_steps": lambda n, x: n("Slice", x, numbers(0, 1), numbers(99, -1), numbers(2, 3), numbers(2, 3)),
    "gather_one": lambda n, x: n("Gather", x, numbers(2)[0], axis=1),
    "pad": lambda n, x: n("Pad", x, numbers(0, 0, 1, 2, 0, 0, 3, 0)),
    "pad_value": lambda n, x: n("Pad", x, numbers(0, 0, 1, 2, 0, 0, 3, 0), np.float32(0.5)),
    "pad_reflect": lambda n, x: n("Pad", x, numbers(0, 0, 1, 2, 0, 0, 3, 0), mode="reflect"),
    "pad_into_conv": lambda n, x: n.conv(n("Pad", x, numbers(0, 0, 1, 1, 0, 0, 1, 1)), 4, 6, 3),
    "resize_nearest": lambda n, x: n(
        "Resize", x, "", numbers(1, 1, 2, 2, dtype=np.float32), mode="nearest",
        coordinate_transformation_mode="asymmetric", nearest_mode="floor",
    ),
    "resize_bilinear": lambda n, x: n("Resize", x, "", numbers(1, 1, 2, 2, dtype=np.float32), mode="linear"),
    "resize_align_corners": lambda n, x: n(
        "Resize", x, "", "", numbers(1, 4, 17, 21), mode="linear",
        coordinate_transformation_mode="align_corners",
    ),
    "channel_mean_of_squares": lambda n, x: n("ReduceMean", n("Mul", x, x), axes=[1], keepdims=1),
}  # fmt: skip

FLOAT_ONLY_CASES = {
    "log_softmax_channels": lambda n, x: n("LogSoftmax", x, axis=1),
    "average_pool_not_counting": lambda n, x: n("AveragePool", x, **SPATIAL, pads=[2] * 4),
    "average_pool_ceil": lambda n, x: n("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
    "batch_norm_alone": lambda n, x: n(
        "BatchNormalization", n("Relu", x), n.weights(4), n.weights(4), n.weights(4), np.ones(4, np.float32)
    ),
    "batch_norm_after_conv": lambda n, x: n(
        "BatchNormalization", n.conv(x, 4, 4, 3),
        n.weights(4), n.weights(4), n.weights(4), np.abs(n.weights(4)) + 1,
    ),
    "batch_norm_after_conv_transpose": lambda n, x: n(
        "BatchNormalization", n("ConvTranspose", x, n.weights(4, 3, 2, 2), strides=[2, 2]),
        n.weights(3), n.weights(3), n.weights(3), np.abs(n.weights(3)) + 1,
    ),
    "div": lambda n, x: n("Div", x, np.abs(channels(n)) + 1),
    "exp": lambda n, x: n("Exp", x),
    "sqrt_of_abs": lambda n, x: n("Sqrt", n("Abs", x)),
    "log": lambda n, x: n("Log", n("Add", n("Abs", x), np.float32(1))),
    "pow": lambda n, x: n("Pow", n("Abs", x), np.float32(1.5)),
    "reciprocal": lambda n, x: n("Reciprocal", n("Add", n("Abs", x), np.float32(1))),
    "neg": lambda n, x: n("Neg", x),
    "elu": lambda n, x: n("Elu", x),
    "minimum": lambda n, x: n("Min", x, np.float32(0.2)),
    "reduce_sum": lambda n, x: n("ReduceSum", x, numbers(1), keepdims=0),
    "reduce_min": lambda n, x: n("ReduceMin", x, axes=[3], keepdims=1),
    "flatten_then_nothing": lambda n, x: n("Mul", x, x),
    "hard_swish_spelled_out": lambda n, x: n(
        "Div", n("Mul", x, n("Clip", n("Add", x, np.float32(3)), np.float32(0), np.float32(6))), np.float32(6)
    ),
    "reshape_after_transpose": lambda n, x: n(
        "Reshape",
        n("Transpose", n("Reshape", x, numbers(1, 2, 6, 33)), perm=[0, 1, 3, 2]),
        numbers(12, 33),
    ),
    "silu": lambda n, x: n("Mul", x, n("Sigmoid", x)),
    "shape_computed": lambda n, x: n(
        "Slice", x, numbers(0), n("Div", n("Gather", n("Shape", x), numbers(2)), numbers(2)), numbers(2)
    ),
}  # fmt: skip


def built(case, **options):
    net = Net(**options)
    return net.model(case(net, net.input(1, 4, 9, 11)))


@pytest.mark.parametrize("name", [*CASES, *FLOAT_ONLY_CASES])
def test_float(name):
    transposes = None if name == "reshape_after_transpose" else 0
    assert_agrees(built({**CASES, **FLOAT_ONLY_CASES}[name]), n=2, transposes=transposes)


@pytest.mark.parametrize("runtime", ["litert", "litert-reference"])
@pytest.mark.parametrize("name", CASES)
def test_int8(name, runtime):
    model = qdq(built(CASES[name]))
    conversion = assert_agrees(model, n=2, runtime=runtime, steps=2)
    codes = [code for code, _ in operators(conversion.data)]
    assert "DEQUANTIZE" not in codes, codes
    assert conversion.inputs[0].dtype == conversion.outputs[0].dtype == "int8"


# Operations that stay float32 between integer ones, and what the notes say of them.
ISLANDS = {
    "div": (lambda n, x: n("Div", x, n("Add", n("Relu", x), np.float32(1))), "silently wrong"),
    "log_softmax": (lambda n, x: n("LogSoftmax", x, axis=1), "do not suit"),
    "exp": (lambda n, x: n("Exp", x), "no integer kernel"),
    "average_pool_not_counting": (lambda n, x: n("AveragePool", x, **SPATIAL, pads=[2] * 4), "float32"),
}


@pytest.mark.parametrize("name", ISLANDS)
def test_float_islands_are_exact_and_told_of(name):
    case, why = ISLANDS[name]
    conversion = assert_agrees(qdq(built(case)), n=2, steps=1)
    codes = [code for code, _ in operators(conversion.data)]
    assert "DEQUANTIZE" in codes and codes[-1] == "QUANTIZE"
    assert any(why in note for note in conversion.notes), conversion.notes
    assert conversion.inputs[0].dtype == conversion.outputs[0].dtype == "int8"


@pytest.mark.parametrize("quantize", [lambda model: model, qdq], ids=["float", "int8"])
@pytest.mark.parametrize("op", ["Conv", "MaxPool"])
def test_strides_that_leave_out_columns_beside_padded_rows(op, quantize):
    """SAME would be right by its definition; the old runtime reads it wrongly."""
    net = Net()
    x = net.input(1, 2, 5, 6)
    window = {"kernel_shape": [3, 1], "strides": [1, 2], "pads": [1, 0, 1, 0]}
    y = net("Conv", x, net.weights(2, 2, 3, 1), **window) if op == "Conv" else net("MaxPool", x, **window)
    assert_agrees(quantize(net.model(y)), runtime="tflite-runtime")


@pytest.mark.parametrize("runtime", ["litert", "litert-reference", "tflite-runtime"])
def test_memory_that_a_reshape_shares_is_not_overwritten(runtime):
    """Without a copy, the SOFTMAX would be computed in the memory of what CONCATENATION reads after it."""
    net = Net()
    x = net.input(1, 4, 6, 6)
    y = net("Mul", net("AveragePool", x, kernel_shape=[2, 2]), np.float32(2))
    soft = net("Softmax", net("Reshape", y, numbers(1, 4, 25)), axis=1)
    conversion = assert_agrees(net.model(net("Concat", y, y, axis=1), soft), runtime=runtime, transposes=None)
    assert "SLICE" in [code for code, _ in operators(conversion.data)]


def test_unequal_ranges_are_requantized_and_told_of():
    model = qdq(built(lambda n, x: n("Concat", x, n("Mul", x, np.float32(4)), axis=1)))
    conversion = assert_agrees(model, steps=2)
    assert any("QUANTIZE added" in note for note in conversion.notes), conversion.notes
