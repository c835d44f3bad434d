"""Corners of operators, where a rule that is nearly right gives other numbers. onnxruntime or torch judges."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from export.tflite.agreement import assert_agrees, compare
from export.tflite.nets import Net, lenet5, qdq
from export.tflite.running import operators, run_tflite
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecnn.errors import ConversionError
from edgecnn.export.tflite import convert

SIXTH = np.float32(1 / 6)
WAYS = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "asymmetric", "align_corners")
ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
SIZES = st.tuples(st.integers(2, 6), st.integers(2, 6))


@given(
    size=SIZES,
    out=st.tuples(st.integers(1, 13), st.integers(1, 13)),
    mode=st.sampled_from(["nearest", "linear"]),
    way=st.sampled_from(WAYS),
    rounding=st.sampled_from(ROUNDINGS),
)
@settings(max_examples=150, deadline=None)
def test_a_resize_takes_the_pixels_of_onnxruntime_or_is_refused(
    size: tuple[int, int], out: tuple[int, int], mode: str, way: str, rounding: str
) -> None:
    if (mode, way) == ("nearest", "half_pixel_symmetric"):
        return  # onnxruntime's is off by a float's last bit, which decides on which side of an edge it is.
    net = Net()
    options = {"nearest_mode": rounding} if mode == "nearest" else {}
    sizes = np.array([1, 2, *out], np.int64)
    x = net.input(1, 2, *size)
    model = net.model(net("Resize", x, "", "", sizes, mode=mode, coordinate_transformation_mode=way, **options))
    try:
        assert_agrees(model)
    except ConversionError as refused:
        assert "takes other pixels than TFLite can" in str(refused)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_scales_that_leave_a_part_of_a_pixel(mode: str, way: str) -> None:
    """5 x 1.5 is 7.5: the scale is what the file says, not 7 / 5."""
    net = Net()
    scales = np.array([1, 1, 1.5, 1.5], np.float32)
    x = net.input(1, 2, 5, 5)
    model = net.model(net("Resize", x, "", scales, mode=mode, coordinate_transformation_mode=way))
    try:
        assert_agrees(model)
    except ConversionError as refused:
        assert "takes other pixels than TFLite can" in str(refused)


@pytest.mark.parametrize(
    ("mode", "way", "rounding", "out"),
    [
        ("nearest", "asymmetric", "floor", (9, 9)),
        ("nearest", "half_pixel", "floor", (5, 3)),
        ("nearest", "align_corners", "round_prefer_ceil", (7, 4)),
        ("linear", "half_pixel", "", (9, 4)),
        ("linear", "align_corners", "", (9, 1)),
        ("linear", "half_pixel_symmetric", "", (10, 12)),
        ("linear", "asymmetric", "", (9, 4)),
        ("linear", "pytorch_half_pixel", "", (9, 4)),
    ],
)
def test_what_tflite_can_is_not_refused(mode: str, way: str, rounding: str, out: tuple[int, int]) -> None:
    net = Net()
    options = {"nearest_mode": rounding} if rounding else {}
    sizes = np.array([1, 2, *out], np.int64)
    x = net.input(1, 2, 5, 6)
    assert_agrees(
        net.model(net("Resize", x, "", "", sizes, mode=mode, coordinate_transformation_mode=way, **options))
    )


@given(
    size=SIZES,
    kernel=st.integers(2, 4),
    stride=st.integers(1, 4),
    pad=st.integers(0, 1),
    op=st.sampled_from(["MaxPool", "AveragePool"]),
)
@settings(max_examples=100, deadline=None)
def test_a_window_that_would_begin_behind_the_image_is_none(
    size: tuple[int, int], kernel: int, stride: int, pad: int, op: str
) -> None:
    """As torch has it, whose files these are; onnxruntime contradicts itself there."""
    from torch import from_numpy
    from torch.nn import functional

    if any(one + 2 * pad < kernel for one in size) or 2 * pad > kernel:
        return
    net = Net()
    shared = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4, "ceil_mode": 1}
    model = net.model(net(op, net.input(1, 2, *size), **shared))
    try:
        conversion = convert(model)
    except ConversionError:
        return
    image = np.random.default_rng(0).normal(size=(1, 2, *size)).astype(np.float32)
    pools = {
        "MaxPool": functional.max_pool2d,
        "AveragePool": lambda *a, **k: functional.avg_pool2d(*a, **k, count_include_pad=False),
    }
    wanted = pools[op](from_numpy(image), kernel, stride, pad, ceil_mode=True).numpy()
    ((actual,),) = run_tflite(conversion.data, [[np.transpose(image, (0, 2, 3, 1))]])
    np.testing.assert_allclose(actual, np.transpose(wanted, (0, 2, 3, 1)), rtol=1e-5, atol=1e-6)


def codes(model: onnx.ModelProto) -> list[str]:
    return [code for code, _ in operators(assert_agrees(model).data)]


def normalized(net: Net, x: str, channels: int, gamma: np.ndarray | None = None) -> str:
    numbers = [
        gamma if gamma is not None else net.weights(channels),
        net.weights(channels),
        net.weights(channels),
    ]
    return net("BatchNormalization", x, *numbers, np.abs(net.weights(channels)) + np.float32(0.1))


@pytest.mark.parametrize("shape", [(1, 12), (1, 4, 9)])
def test_a_batch_norm_of_vectors_or_sequences(shape: tuple[int, ...]) -> None:
    net = Net()
    x = net("Relu", net.input(*shape))
    assert codes(net.model(normalized(net, x, shape[1])))


def test_a_batch_norm_that_drops_channels() -> None:
    """Factors of zero have no scale as integers."""
    net = Net()
    gamma = np.array([0, 1, 0, -2], np.float32)
    assert codes(net.model(normalized(net, net("Relu", net.input(1, 4, 5, 5)), 4, gamma)))


def test_a_batch_norm_behind_a_layer_whose_bias_is_computed() -> None:
    net = Net()
    x = net.input(1, 3, 6, 6)
    bias = net("ReduceMean", x, axes=[0, 1, 2], keepdims=0)
    layer = net("Conv", x, net.weights(6, 3, 3, 3), bias)
    model = net.model(normalized(net, layer, 6))
    try:
        assert_agrees(model)
    except ConversionError as refused:
        assert "bias" in str(refused)


@pytest.mark.parametrize("last", [("Mul", SIXTH), ("Div", np.float32(6))])
@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("gate_first", [False, True])
def test_hard_swish_in_all_its_spellings(last: tuple[str, np.float32], swapped: bool, gate_first: bool) -> None:
    net = Net()
    x = net.conv(net.input(1, 4, 9, 9), 4, 4, 1)
    op, factor = last
    gate = net("Clip", net("Add", x, np.float32(3)), np.float32(0), np.float32(6))
    gate = net(op, gate, factor) if gate_first else gate
    product = net("Mul", *((gate, x) if swapped else (x, gate)))
    model = net.model(product if gate_first else net(op, product, factor))
    assert codes(model)[-1] == "HARD_SWISH"


@pytest.mark.parametrize(
    ("shift", "top", "last"),
    [
        (2, 6, ("Mul", 1 / 6)),
        (3, 5, ("Mul", 1 / 6)),
        (3, 6, ("Mul", 1 / 5)),
        (3, 6, ("Div", 5)),
        (3, 6, ("Div", 1 / 6)),
    ],
)
def test_what_only_looks_like_hard_swish_is_none(shift: float, top: float, last: tuple[str, float]) -> None:
    net = Net()
    x = net.conv(net.input(1, 4, 9, 9), 4, 4, 1)
    gate = net("Clip", net("Add", x, np.float32(shift)), np.float32(0), np.float32(top))
    model = net.model(net(last[0], net("Mul", x, gate), np.float32(last[1])))
    assert "HARD_SWISH" not in codes(model)


@pytest.mark.parametrize("axis", [None, 0, 1, 2, 3])
def test_a_constant_is_flattened_as_onnx_does(axis: int | None) -> None:
    net = Net()
    rows = {None: 2, 0: 1, 1: 2, 2: 6, 3: 24}[axis]
    options = {} if axis is None else {"axis": axis}
    flat = net("Flatten", net("Identity", net.weights(2, 3, 4)), **options)
    assert_agrees(net.model(net("MatMul", net.input(1, rows), flat)))


def test_asymmetric_weights_quantized_anew_are_near_what_they_were() -> None:
    """Their zero points off by 8 of 128 steps: the largest of a channel decide its new scale."""
    model = qdq(lenet5(), weight="uint8")
    for one in model.graph.initializer:
        array = onnx.numpy_helper.to_array(one)
        if one.data_type == onnx.TensorProto.UINT8 and array.ndim and set(array.flat) == {128}:
            one.CopyFrom(onnx.numpy_helper.from_array(array - np.uint8(8), one.name))
    _, (steps,) = compare(model, n=8)
    assert steps.max() <= 6
