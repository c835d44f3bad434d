"""Each ONNX operator by itself, in float32 and as QDQ int8, against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from export.tflite.agreement import assert_agrees
from export.tflite.nets import Net, qdq
from export.tflite.running import operators

from edgecnn.errors import ConversionError
from edgecnn.export.tflite import convert


def numbers(*values, dtype=np.int64):
    return np.array(values, dtype)


def channels(net):
    """One number a channel, as it broadcasts against a batch of images of 4 channels."""
    return net.weights(4, 1, 1)


HALF = np.float32(0.5)
ROUNDINGS = ("Floor", "Ceil", "Round")
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
    "conv_transpose_depthwise": lambda n, x: n(
        "ConvTranspose", x, n.weights(4, 1, 2, 2), n.weights(4), strides=[2, 2], group=4
    ),
    "conv_transpose_grouped": lambda n, x: n(
        "ConvTranspose", x, n.weights(4, 3, 3, 3), n.weights(6), strides=[2, 2], pads=[1] * 4, group=2
    ),
    "conv_transpose_dilated": lambda n, x: n(
        "ConvTranspose", x, n.weights(4, 3, 3, 2), n.weights(3), dilations=[2, 3], pads=[1, 0, 2, 1]
    ),
    "depth_to_space": lambda n, x: n("DepthToSpace", x, blocksize=2),
    "depth_to_space_crd": lambda n, x: n("DepthToSpace", n("Concat", x, x, axis=1), blocksize=2, mode="CRD"),
    "pixel_shuffle": lambda n, x: n("DepthToSpace", n("Relu", n.conv(x, 4, 12, 3)), blocksize=2, mode="CRD"),
    "space_to_depth": lambda n, x: n(
        "SpaceToDepth", n("Slice", x, numbers(0, 1), numbers(8, 11), numbers(2, 3)), blocksize=2
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
    "gather_several": lambda n, x: n("Gather", x, numbers(2, 0, -1, 0), axis=1),
    "slice_backwards": lambda n, x: n(
        "Slice", x, numbers(-1, 7), numbers(-99, 1), numbers(3, 2), numbers(-2, -1)
    ),
    "tile": lambda n, x: n("Tile", x, numbers(1, 2, 1, 3)),
    "expand": lambda n, x: n("Expand", n("GlobalAveragePool", x), numbers(1, 4, 3, 5)),
    "expand_before_add": lambda n, x: n("Add", x, n("Expand", n("GlobalAveragePool", x), numbers(1, 4, 9, 11))),
    "pad_edge": lambda n, x: n("Pad", x, numbers(0, 1, 1, 2, 0, 0, 3, 0), mode="edge"),
    "matmul_computed": lambda n, x: n(
        "MatMul", n("Reshape", x, numbers(1, 4, 99)), n("Reshape", n("Relu", x), numbers(1, 99, 4))
    ),
    "matmul_batch_constant": lambda n, x: n("MatMul", x, n.weights(4, 11, 5)),
    "matmul_batch_constant_first": lambda n, x: n("MatMul", n.weights(4, 6, 9), x),
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
    "gelu_spelled_out": lambda n, x: n(
        "Mul", n("Mul", x, n("Add", n("Erf", n("Div", x, np.float32(2**0.5))), np.float32(1))), np.float32(0.5)
    ),
    "gelu_in_another_order": lambda n, x: n(
        "Mul", n("Mul", HALF, x), n("Add", np.float32(1), n("Erf", n("Mul", x, np.float32(0.5**0.5))))
    ),
    "erf": lambda n, x: n("Erf", n("Mul", x, np.float32(3))),
    "layer_norm": lambda n, x: n("LayerNormalization", x, n.weights(9, 11), n.weights(9, 11), axis=2),
    "layer_norm_channels": lambda n, x: n(
        "LayerNormalization", n("Transpose", x, perm=[0, 2, 3, 1]), n.weights(4), epsilon=1e-3
    ),
    "instance_norm": lambda n, x: n("InstanceNormalization", x, n.weights(4), n.weights(4)),
    "softplus": lambda n, x: n("Softplus", n("Mul", x, np.float32(100))),
    "elu_alpha": lambda n, x: n("Elu", x, alpha=0.5),
    "celu": lambda n, x: n("Celu", x, alpha=0.5),
    "selu": lambda n, x: n("Selu", x),
    "sign": lambda n, x: n("Sign", x),
    "square": lambda n, x: n("Pow", x, np.float32(2)),
    "cube": lambda n, x: n("Pow", x, np.float32(3)),
    "reciprocal_of_root": lambda n, x: n("Pow", n("Add", n("Abs", x), np.float32(1)), np.float32(-0.5)),
    "reduce_l1": lambda n, x: n("ReduceL1", x, axes=[1], keepdims=0),
    "reduce_l2": lambda n, x: n("Div", x, n("ReduceL2", x, axes=[1], keepdims=1)),
    "reduce_sum_square": lambda n, x: n("ReduceSumSquare", x, axes=[2, 3], keepdims=0),
    "reduce_prod": lambda n, x: n("ReduceProd", x, axes=[1], keepdims=0),
    "rounded": lambda n, x: n("Concat", *[n(op, n("Mul", x, np.float32(5))) for op in ROUNDINGS], axis=1),
    "sine_and_cosine": lambda n, x: n("Concat", n("Sin", x), n("Cos", x), axis=1),
    "where": lambda n, x: n("Where", n("Greater", x, n("GlobalAveragePool", x)), x, np.float32(0.25)),
    "masked": lambda n, x: n(
        "Mul", x, n("Cast", n("And", n("Less", x, HALF), n("Not", n("Less", x, -HALF))), to=1)
    ),
    "compared": lambda n, x: n(
        "Where", n("Or", n("LessOrEqual", x, channels(n)), n("GreaterOrEqual", x, HALF)), x, channels(n)
    ),
    "equal": lambda n, x: n("Where", n("Equal", n("Relu", x), np.float32(0)), n("Neg", x), x),
    "arg_max": lambda n, x: n("Cast", n("ArgMax", x, axis=1, keepdims=0), to=1),
    "arg_max_kept": lambda n, x: n("Cast", n("ArgMax", x, axis=3), to=1),
    "arg_min": lambda n, x: n("Cast", n("ArgMin", x, axis=2, keepdims=0), to=1),
    "matmul_of_unequal_ranks": lambda n, x: n("MatMul", n("ReduceMean", x, axes=[0, 1], keepdims=0), n(
        "Transpose", x, perm=[0, 1, 3, 2]
    )),
    "silu": lambda n, x: n("Mul", x, n("Sigmoid", x)),
    "shape_computed": lambda n, x: n(
        "Slice", x, numbers(0), n("Div", n("Gather", n("Shape", x), numbers(2)), numbers(2)), numbers(2)
    ),
}  # fmt: skip


# An output of another rank than 4 has the order of the ONNX file; matrices have it, too.
ASK_FOR_TRANSPOSES = frozenset(
    [
        *("reshape_after_transpose", "layer_norm_channels", "arg_min", "matmul_computed"),
        *("matmul_of_unequal_ranks", "matmul_batch_constant", "matmul_batch_constant_first"),
    ]
)


def built(case, **options):
    net = Net(**options)
    return net.model(case(net, net.input(1, 4, 9, 11)))


@pytest.mark.parametrize("name", [*CASES, *FLOAT_ONLY_CASES])
def test_float(name):
    transposes = None if name in ASK_FOR_TRANSPOSES else 0
    assert_agrees(built({**CASES, **FLOAT_ONLY_CASES}[name]), n=2, transposes=transposes)


# What has no equivalent in a runtime, and so is refused for it.
REFUSED = {("pow", "tflm"): "POW", ("reduce_prod", "tflm"): "REDUCE_PROD"}


@pytest.mark.parametrize("runtime", ["tflite-runtime", "tflm"])
@pytest.mark.parametrize("name", [*CASES, *FLOAT_ONLY_CASES])
def test_float_on_other_runtimes(name, runtime):
    model = built({**CASES, **FLOAT_ONLY_CASES}[name])
    if (name, runtime) in REFUSED:
        with pytest.raises(ConversionError, match=f"it has no {REFUSED[name, runtime]}"):
            convert(model, runtime=runtime)
    else:
        assert_agrees(model, n=1, runtime=runtime, transposes=None)


# The reference kernels of LiteRT lack DEPTH_TO_SPACE of integers; no user meets them.
NOT_IN_REFERENCE = ("depth_to_space", "depth_to_space_crd", "pixel_shuffle")


@pytest.mark.parametrize("runtime", ["litert", "litert-reference", "tflite-runtime", "tflm"])
@pytest.mark.parametrize("name", CASES)
def test_int8(name, runtime):
    if runtime == "litert-reference" and name in NOT_IN_REFERENCE:
        pytest.skip("the reference kernels lack its operator")
    model = qdq(built(CASES[name]))
    transposes = None if name in ASK_FOR_TRANSPOSES else 0
    conversion = assert_agrees(model, n=2, runtime=runtime, steps=2, transposes=transposes)
    codes = [code for code, _ in operators(conversion.data)]
    assert "DEQUANTIZE" not in codes, codes
    assert conversion.inputs[0].dtype == conversion.outputs[0].dtype == "int8"


RUNTIMES = ("litert", "litert-reference", "tflite-runtime", "tflm")


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", ["matmul_batch_constant", "matmul_batch_constant_first"])
def test_matrices_with_one_scale_a_channel_stay_float(name, runtime):
    model = qdq(built(CASES[name]), per_channel=("MatMul",))
    conversion = assert_agrees(model, n=2, runtime=runtime, transposes=None)
    assert "DEQUANTIZE" in [code for code, _ in operators(conversion.data)]
    assert any("its scales do not suit" in note for note in conversion.notes), conversion.notes


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_quantized_matrices_of_a_float_product_are_exact(runtime):
    """Kernels that are given int8 beside float32 would quantize the float32, too."""
    model = qdq(built(CASES["matmul_batch_constant"]), skip=("MatMul",))
    assert_agrees(model, n=2, runtime=runtime, tolerance=1e-5, transposes=None)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_batch_of_matrices_with_a_zero_point(runtime):
    net = Net()
    scale, point = np.float32(0.02), np.int8(-30)
    x = net("DequantizeLinear", net("QuantizeLinear", net.input(1, 4, 9, 11), scale, point), scale, point)
    integers = net.random.integers(-100, 101, (4, 11, 5)).astype(np.int8)
    product = net("MatMul", x, net("DequantizeLinear", integers, np.float32(0.01), np.int8(20)))
    parameters = (np.float32(0.05), np.int8(11))
    model = net.model(net("DequantizeLinear", net("QuantizeLinear", product, *parameters), *parameters))
    conversion = assert_agrees(model, n=2, runtime=runtime, transposes=None)
    assert "DEQUANTIZE" not in [code for code, _ in operators(conversion.data)]


def along_the_other_axis(model):
    """The QDQ model with the scales of its weights along the inputs of a layer, a rare place for them."""
    arrays = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and len(getattr(arrays.get(node.input[0]), "dims", ())) > 1:
            (axis,) = (attribute for attribute in node.attribute if attribute.name == "axis")
            axis.i = 1 - axis.i
    return model


@pytest.mark.parametrize("runtime", ["litert", "tflm"])
@pytest.mark.parametrize(
    "case",
    [
        lambda n, x: n.conv(x, 4, 4, 3),
        lambda n, x: n("Gemm", n("Flatten", x), n.weights(396, 396)),
        lambda n, x: n("Gemm", n("Flatten", x), n.weights(396, 396), transB=1),
        lambda n, x: n("MatMul", x, n.weights(11, 11)),
    ],
    ids=["conv", "gemm", "gemm_transposed", "matmul"],
)
def test_scales_that_run_along_the_inputs_are_read_right(case, runtime):
    model = along_the_other_axis(qdq(built(case), per_channel=("Conv", "Gemm", "MatMul")))
    assert_agrees(model, n=2, runtime=runtime, transposes=None)


def test_erf_is_as_exact_as_its_formula():
    """Abramowitz and Stegun promise 1.5e-7; float32 adds its own rounding."""
    assert_agrees(built(FLOAT_ONLY_CASES["erf"]), tolerance=2e-6)
    assert_agrees(built(FLOAT_ONLY_CASES["gelu_spelled_out"]), tolerance=2e-6, runtime="tflm")


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


def test_depth_to_space_after_a_convolution_reorders_its_weights():
    """A pixel shuffle costs one operator, as float and as integers."""
    model = built(CASES["pixel_shuffle"])
    for one in (model, qdq(model)):
        assert [code for code, _ in operators(convert(one).data)] == ["CONV_2D", "DEPTH_TO_SPACE"]


def test_depth_to_space_of_anything_else_reorders_its_channels():
    codes = [code for code, _ in operators(convert(built(CASES["depth_to_space_crd"])).data)]
    assert codes == ["CONCATENATION", "GATHER", "DEPTH_TO_SPACE"]


def test_an_expansion_that_arithmetic_does_by_itself_costs_nothing():
    codes = [code for code, _ in operators(convert(built(CASES["expand_before_add"])).data)]
    assert codes == ["MEAN", "ADD"]


@pytest.mark.parametrize("name", ["gelu_spelled_out", "gelu_in_another_order"])
def test_gelu_is_one_operator_where_the_runtime_has_it(name):
    model = built(FLOAT_ONLY_CASES[name])
    assert [code for code, _ in operators(convert(model).data)] == ["GELU"]
    assert "GELU" not in [code for code, _ in operators(convert(model, runtime="tflm").data)]


@pytest.mark.parametrize("runtime", ["litert", "tflite-runtime", "tflm"])
@pytest.mark.parametrize(
    ("opset", "case"),
    [
        (18, lambda n, x: n("Mish", x)),
        (19, lambda n, x: n("Pad", x, numbers(0, 0, 1, 2, 0, 0, 3, 0), mode="wrap")),
        (20, lambda n, x: n("Gelu", x)),
        (20, lambda n, x: n("Gelu", x, approximate="tanh")),
    ],
    ids=["mish", "pad_wrap", "gelu", "gelu_tanh"],
)
def test_operators_of_newer_opsets(opset, case, runtime):
    assert_agrees(built(case, opset=opset), runtime=runtime)


@pytest.mark.parametrize("runtime", ["litert", "tflite-runtime", "tflm"])
@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
def test_the_place_of_an_extreme_is_read_from_integers(op, runtime):
    net = Net()
    place = net(op, net.conv(net.input(1, 4, 9, 11), 4, 6, 3), axis=1, keepdims=0)
    model = net.model(net("Cast", place, to=1))
    conversion = assert_agrees(qdq(model, skip=("Cast", "Identity")), runtime=runtime, io="int8")
    codes = [code for code, _ in operators(conversion.data)]
    assert codes == ["CONV_2D", "ARG_MAX" if op == "ArgMax" else "ARG_MIN", "CAST"]


def places(net, x):
    """Integers, [1, 1, 9, 11]."""
    return net("ArgMax", x, axis=1)


@pytest.mark.parametrize("op", ["ReduceL1", "ReduceL2", "ReduceSumSquare"])
def test_a_reduction_that_names_no_axes(op):
    assert_agrees(built(lambda n, x: n(op, x, numbers()), opset=18), transposes=None)
    with pytest.raises(ConversionError, match=f"{op} .*usual range"):
        convert(built(lambda n, x: n(op, x, numbers(), noop_with_empty_axes=1), opset=18))


@pytest.mark.parametrize(("op", "keeps"), [("ReduceSum", 0), ("ReduceSum", 1), ("ReduceMax", 1)])
def test_a_constant_reduction_that_names_no_axes(op, keeps):
    def case(n, x):
        return n("Add", x, n(op, n.weights(4, 1, 1), numbers(), noop_with_empty_axes=keeps))

    assert_agrees(built(case, opset=18))


@pytest.mark.parametrize(
    ("opset", "case"),
    [
        (17, lambda n, x: n("Pow", places(n, x), numbers(2)[0])),
        (17, lambda n, x: n("Pow", places(n, x), numbers(3)[0])),
        (18, lambda n, x: n("ReduceL1", n("Cast", places(n, x), to=6), numbers(2))),
        (18, lambda n, x: n("ReduceSumSquare", n("Cast", places(n, x), to=6), numbers(2))),
    ],
    ids=["square", "cube", "reduce_l1", "reduce_sum_square"],
)
def test_what_is_spelled_out_of_integers_stays_integer(opset, case):
    assert_agrees(built(lambda n, x: n("Cast", case(n, x), to=1), opset=opset), transposes=None)


def test_refusals_say_why():
    for case, why in (
        (lambda n, x: n("Resize", x, "", numbers(1, 1, 2, 2, dtype=np.float32), mode="cubic"), "mode cubic"),
        (lambda n, x: n("ArgMax", x, axis=1, select_last_index=1), "the first of equal values"),
        (lambda n, x: n("Gather", x, numbers(0, 1, 2, 3).reshape(2, 2), axis=1), "a row of them"),
        (lambda n, x: n("Tile", x, numbers(1, 0, 1, 1)), "nothing would be left"),
        (lambda n, x: n("Celu", x, alpha=-0.5), "parameters that are constant and in their usual range"),
        (lambda n, x: n("ReduceSum", x, noop_with_empty_axes=1), "a reduction over no axes"),
        (lambda n, x: n("Cast", n("Sign", places(n, x)), to=1), "only of float32"),
        (lambda n, x: n("Cast", n("Pow", places(n, x), HALF), to=1), "two types, int64 and float32"),
        (
            lambda n, x: n(
                "InstanceNormalization", x, n("ReduceMean", x, axes=[0, 2, 3], keepdims=0), n.weights(4)
            ),
            "parameters that are constant",
        ),
    ):
        with pytest.raises(ConversionError, match=why):
            convert(built(case))


@pytest.mark.parametrize("quantize", [lambda model: model, qdq], ids=["float", "int8"])
@pytest.mark.parametrize(
    ("case", "missing"),
    [
        (lambda n, x: n("ReduceMin", x, axes=[2, 3], keepdims=0), "REDUCE_MIN"),
        (lambda n, x: n("Clip", n("Abs", x), np.float32(-1), np.float32(1)), "RELU_N1_TO_1"),
    ],
    ids=["reduce_min", "clip_to_one"],
)
def test_the_microcontroller_runtime_gets_an_equivalent(case, missing, quantize):
    model = quantize(built(case))
    assert_agrees(model, runtime="tflm", steps=1)
    assert missing not in [code for code, _ in operators(convert(model, runtime="tflm").data)]


def test_weights_of_float_layers_are_kept_as_float_where_nothing_dequantizes_them():
    model = qdq(built(lambda n, x: n.conv(x, 4, 16, 3)), skip=("Conv",))
    assert ("DEQUANTIZE", 5) in operators(convert(model).data)
    conversion = assert_agrees(model, runtime="tflm", tolerance=1e-4)
    assert ("DEQUANTIZE", 5) not in operators(conversion.data)
    assert any("kept as float32" in note for note in conversion.notes)


@pytest.mark.parametrize("quantize", [lambda model: model, qdq], ids=["float", "int8"])
@pytest.mark.parametrize("n_inputs", [11, 23, 101])
def test_the_microcontroller_runtime_joins_many_in_steps(n_inputs, quantize):
    def case(n, x):
        parts = [n("Slice", x, *(np.array([k]) for k in (i % 4, i % 4 + 1, 1))) for i in range(n_inputs)]
        return n("Concat", *parts, axis=1)

    model = quantize(built(case))
    assert_agrees(model, runtime="tflm", steps=1, transposes=None)
    joins = [code for code, _ in operators(convert(model).data)].count("CONCATENATION")
    assert joins == 1, "others take all at once"
