"""Cross-layer equalization leaves what a network computes, and evens out its channels."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from edgecnn.analysis.quantization import outputs_of
from edgecnn.compress.equalization import equalize
from edgecnn.compress.quantize import quantize
from edgecnn.export.onnx import export_onnx
from edgecnn.models import build_model
from edgecnn.recipe import QuantizeSpec


def network(name: str = "lenet5", channels: int = 1, size: int = 28) -> onnx.ModelProto:
    model = build_model(name, in_channels=channels, n_classes=10, seed=2)
    return export_onnx(model, (channels, size, size))


def pictures(model: onnx.ModelProto, n: int = 8) -> np.ndarray:
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim[1:]]
    return np.random.default_rng(0).normal(size=(n, *shape)).astype(np.float32)


def tensor(model: onnx.ModelProto, name: str) -> np.ndarray:
    return next(numpy_helper.to_array(one) for one in model.graph.initializer if one.name == name)


def with_tensor(model: onnx.ModelProto, name: str, values: np.ndarray) -> onnx.ModelProto:
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for one in changed.graph.initializer:
        if one.name == name:
            one.CopyFrom(numpy_helper.from_array(values.astype(np.float32), name))
    return changed


def unequal(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same function with the channels of conv1 of very different sizes."""
    factors = np.array([1, 1, 1, 1, 1, 400], np.float32)
    model = with_tensor(model, "conv1.weight", tensor(model, "conv1.weight") * factors[:, None, None, None])
    model = with_tensor(model, "conv1.bias", tensor(model, "conv1.bias") * factors)
    return with_tensor(model, "conv2.weight", tensor(model, "conv2.weight") / factors[None, :, None, None])


@pytest.mark.parametrize(("name", "channels", "size"), [("lenet5", 1, 28), ("squeezenet1_1", 3, 64)])
def test_the_network_computes_what_it_did(name: str, channels: int, size: int) -> None:
    model = network(name, channels, size)
    before = outputs_of(model, pictures(model))
    # All but the last layer, whose output is the network's.
    n_layers = sum(node.op_type in ("Conv", "Gemm") for node in model.graph.node)
    assert equalize(model) == n_layers - 1
    assert np.allclose(outputs_of(model, pictures(model)), before, atol=1e-5)


def test_channels_of_very_different_sizes_are_quantized_as_if_they_were_not() -> None:
    even, uneven = network(), unequal(network())
    images = pictures(even, 32)
    exact = outputs_of(even, images)
    assert np.allclose(outputs_of(uneven, images), exact, atol=1e-4)
    spec = QuantizeSpec(engine="onnxruntime")
    mended = spec.model_copy(update={"equalization": True})

    def error(model: onnx.ModelProto, how: QuantizeSpec) -> float:
        return float(np.abs(outputs_of(quantize(model, images, how).model, images) - exact).mean())

    usual, broken, equalized = error(even, spec), error(uneven, spec), error(uneven, mended)
    assert broken > 3 * usual and equalized < 1.5 * usual


def model_of(nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray]) -> onnx.ModelProto:
    """The graph of `nodes`, from x [1, 2, 8, 8] to y."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 2, 8, 8])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


@given(seed=st.integers(0, 1000), clipped=st.booleans(), added=st.booleans(), pooled=st.booleans())
@settings(max_examples=25, deadline=None)
def test_layers_whose_scale_would_show_are_left_alone(
    seed: int, clipped: bool, added: bool, pooled: bool
) -> None:
    """A clipped ReLU and an addition do not commute with a scale; a pool does."""
    rng = np.random.default_rng(seed)
    weights = {
        "a.weight": rng.normal(size=(4, 2, 3, 3)) * rng.lognormal(0, 2, (4, 1, 1, 1)),
        "a.bias": rng.normal(size=4),
        "b.weight": rng.normal(size=(3, 4, 1, 1)),
        "six": np.array(6.0),
        "zero": np.array(0.0),
    }
    nodes = [
        helper.make_node("Conv", ["x", "a.weight", "a.bias"], ["a"], kernel_shape=[3, 3]),
        helper.make_node("Clip", ["a", "zero", "six"], ["r"])
        if clipped
        else helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2])
        if pooled
        else helper.make_node("Identity", ["r"], ["p"]),
        helper.make_node("Add", ["p", "p"], ["s"]) if added else helper.make_node("Identity", ["p"], ["s"]),
        helper.make_node("Conv", ["s", "b.weight"], ["y"], kernel_shape=[1, 1]),
    ]
    model = model_of(nodes, weights)
    images = rng.normal(size=(3, 2, 8, 8)).astype(np.float32)
    before = outputs_of(model, images)
    assert equalize(model) == (0 if clipped or added else 1)
    assert np.allclose(outputs_of(model, images), before, rtol=1e-3, atol=1e-4 * np.abs(before).max())


def test_a_channel_of_zeros_stays_finite() -> None:
    model = network()
    dead = tensor(model, "conv1.weight").copy()
    dead[2] = 0
    model = with_tensor(model, "conv1.weight", dead)
    before = outputs_of(model, pictures(model))
    equalize(model)
    assert np.isfinite(tensor(model, "conv1.weight")).all() and np.isfinite(tensor(model, "conv2.weight")).all()
    assert np.allclose(outputs_of(model, pictures(model)), before, atol=1e-5)


def test_a_tensor_that_a_concat_takes_twice_is_left_alone() -> None:
    rng = np.random.default_rng(0)
    weights = {
        "a.weight": rng.normal(size=(4, 2, 3, 3)) * rng.lognormal(0, 2, (4, 1, 1, 1)),
        "b.weight": rng.normal(size=(3, 8, 1, 1)),
    }
    nodes = [
        helper.make_node("Conv", ["x", "a.weight"], ["a"], kernel_shape=[3, 3]),
        helper.make_node("Concat", ["a", "a"], ["s"], axis=1),
        helper.make_node("Conv", ["s", "b.weight"], ["y"], kernel_shape=[1, 1]),
    ]
    model = model_of(nodes, weights)
    images = rng.normal(size=(3, 2, 8, 8)).astype(np.float32)
    before = outputs_of(model, images)
    assert equalize(model) == 0
    np.testing.assert_array_equal(outputs_of(model, images), before)
