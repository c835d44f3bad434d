"""Other scales inside, the same integers: files hold fewer numbers, and compute the same."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from export.tflite.nets import Net, lenet5, qdq, random_inputs
from export.tflite.running import run_onnx, run_tflite
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from edgecnn.export.tflite import convert
from edgecnn.export.unit_scales import unit_scales


def branches() -> onnx.ModelProto:
    """A fire module and a residual sum: scales that can only change together."""
    net = Net()
    x = net("Relu", net.conv(net.input(1, 3, 12, 12), 3, 8, 3))
    x = net("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    squeezed = net("Relu", net.conv(x, 8, 4, 1))
    left = net("Relu", net.conv(squeezed, 4, 6, 1))
    right = net("Relu", net.conv(squeezed, 4, 6, 3, pads=[1] * 4))
    x = net("Concat", left, right, axis=1)
    x = net("Add", x, net("Relu", net.conv(x, 12, 12, 1)))
    x = net("Flatten", net("GlobalAveragePool", net.conv(x, 12, 5, 1)))
    return net.model(net("Gemm", x, net.weights(4, 5), net.weights(4), transB=1))


def stacked() -> onnx.ModelProto:
    net = Net()
    x = net("Relu", net.conv(net.input(1, 3, 12, 12), 3, 8, 3))
    x = net("Relu", net.conv(x, 8, 6, 3))
    return net.model(net.conv(x, 6, 4, 1))


NETS: dict[str, Callable[[], onnx.ModelProto]] = {"lenet5": lenet5, "branches": branches, "stacked": stacked}


def arrays(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}


def integers(model: onnx.ModelProto) -> list[np.ndarray]:
    """Those that the DequantizeLinear nodes read, in order."""
    constants = arrays(model)
    nodes = [node for node in model.graph.node if node.op_type == "DequantizeLinear"]
    return [constants[node.input[0]] for node in nodes if node.input[0] in constants]


def scales_of(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """By what a DequantizeLinear makes."""
    constants = arrays(model)
    return {n.output[0]: constants[n.input[1]] for n in model.graph.node if n.op_type == "DequantizeLinear"}


def input_scales(model: onnx.ModelProto) -> list[float]:
    """Those that the layers of weights read, in order."""
    scales = scales_of(model)
    return [
        float(scales[node.input[0]]) for node in model.graph.node if node.op_type in ("Conv", "Gemm", "MatMul")
    ]


def steps_apart(one: onnx.ModelProto, other: onnx.ModelProto, runtime: str) -> int:
    """How far the two .tflite files are apart at most, in steps of their outputs."""
    first, second = convert(one), convert(other)
    assert first.inputs == second.inputs and first.outputs == second.outputs
    images = np.random.default_rng(0).integers(-128, 128, (16, *first.inputs[0].shape)).astype(np.int8)
    batches = [[image] for image in images]
    answers = [run_tflite(conversion.data, batches, runtime) for conversion in (first, second)]
    return max(int(np.abs(a[0].astype(int) - b[0].astype(int)).max()) for a, b in zip(*answers, strict=True))


@pytest.mark.parametrize("runtime", ["litert", "litert-reference", "tflite-runtime", "tflm"])
@pytest.mark.parametrize("name", NETS)
def test_the_network_is_the_same_and_its_file_smaller(name: str, runtime: str) -> None:
    model = qdq(NETS[name]())
    chosen = unit_scales(model)
    onnx.checker.check_model(chosen, full_check=True)
    for before, after in zip(integers(model), integers(chosen), strict=True):
        np.testing.assert_array_equal(before, after)
    assert steps_apart(model, chosen, runtime) <= 1, "a float32 rounds elsewhere"
    assert len(convert(chosen).data) < len(convert(model).data)
    assert convert(model, unit_scales=True).data == convert(chosen).data


@pytest.mark.parametrize("name", NETS)
def test_onnxruntime_gives_the_same(name: str) -> None:
    model = qdq(NETS[name]())
    batches = [random_inputs(model, seed) for seed in range(8)]
    step = convert(model).outputs[0].scale
    assert step is not None
    for before, after in zip(run_onnx(model, batches), run_onnx(unit_scales(model), batches), strict=True):
        assert np.abs(before[0] - after[0]).max() <= 1.01 * step


def test_layers_read_a_scale_of_one_and_hold_theirs_once() -> None:
    model = qdq(stacked())
    chosen = unit_scales(model)
    assert input_scales(chosen)[1:] == [1.0, 1.0]
    assert input_scales(chosen)[0] == input_scales(model)[0], "what is given to the network stays"
    scales = scales_of(chosen)
    for node in [node for node in chosen.graph.node if node.op_type == "Conv"][1:]:
        np.testing.assert_array_equal(scales[node.input[1]], scales[node.input[2]])
    # Of 6 and 4 channels, and the parameters of one activation, at the least.
    assert len(convert(model).data) - len(convert(chosen).data) >= 4 * (6 + 4)


def test_what_is_chosen_once_stays() -> None:
    chosen = unit_scales(qdq(branches()))
    assert convert(unit_scales(chosen)).data == convert(chosen).data


@given(seed=st.integers(0, 1000), widths=st.lists(st.integers(1, 9), min_size=2, max_size=5))
@settings(max_examples=15, deadline=None)
def test_any_chain_of_layers(seed: int, widths: list[int]) -> None:
    net = Net(seed=seed)
    x, n_in = net.input(1, 2, 8, 8), 2
    for n_out in widths:
        x, n_in = net("Relu", net.conv(x, n_in, n_out, 1)), n_out
    model = qdq(net.model(x))
    chosen = unit_scales(model)
    assert input_scales(chosen)[1:] == [1.0] * (len(widths) - 1)
    assert steps_apart(model, chosen, "litert-reference") <= 1


def clipped() -> onnx.ModelProto:
    net = Net()
    x = net.conv(net.input(1, 3, 8, 8), 3, 4, 3)
    x = net("Clip", x, np.float32(0), np.float32(0.5))
    return net.model(net.conv(x, 4, 4, 1))


def curved() -> onnx.ModelProto:
    net = Net()
    x = net("Sigmoid", net.conv(net.input(1, 3, 8, 8), 3, 4, 3))
    return net.model(net.conv(x, 4, 4, 1))


def shifted() -> onnx.ModelProto:
    net = Net()
    x = net("Add", net.conv(net.input(1, 3, 8, 8), 3, 4, 3), np.float32(0.7))
    return net.model(net.conv(x, 4, 4, 1))


@pytest.mark.parametrize("make", [clipped, curved, shifted])
def test_what_does_not_grow_with_its_input_keeps_its_scales(make: Callable[[], onnx.ModelProto]) -> None:
    model = qdq(make())
    assert unit_scales(model) is model


def test_layers_that_stay_float_keep_the_scales_around_them() -> None:
    model = qdq(stacked())
    layer = [node for node in model.graph.node if node.op_type == "Conv"][1]
    (weights,) = (node for node in model.graph.node if node.output[0] == layer.input[1])
    constants = arrays(model)
    scale = constants[weights.input[1]].reshape(-1, 1, 1, 1)
    model.graph.initializer.append(numpy_helper.from_array(constants[weights.input[0]] * scale, "floats"))
    model.graph.node.remove(weights)
    layer.input[1] = "floats"
    assert input_scales_are_kept(model, unit_scales(model))


def input_scales_are_kept(model: onnx.ModelProto, chosen: onnx.ModelProto) -> bool:
    return all(np.array_equal(scale, scales_of(chosen)[name]) for name, scale in scales_of(model).items())


def test_a_bias_left_float_keeps_the_scales_around_its_layer() -> None:
    model = qdq(stacked(), bias="float")
    assert input_scales_are_kept(model, unit_scales(model))


def test_a_float_model_is_left_alone() -> None:
    model = stacked()
    assert unit_scales(model) is model
