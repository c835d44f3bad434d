"""Quantization: both engines give the same tensors; the finished file is small and the same network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgecnn.compress import engines, qdq, quantize
from edgecnn.errors import MissingExtraError, QuantizationError
from edgecnn.export.onnx import export_onnx
from edgecnn.models import build_model
from edgecnn.recipe import QuantizeSpec

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.normal(size=(24, 1, 28, 28)).astype(np.float32)


@pytest.fixture(scope="module")
def lenet() -> onnx.ModelProto:
    return export_onnx(build_model("lenet5", in_channels=1, n_classes=10, seed=2), (1, 28, 28))


@pytest.fixture(scope="module")
def by_engine(lenet: onnx.ModelProto) -> dict[str, onnx.ModelProto]:
    return {
        engine: quantize.quantize(lenet, IMAGES, QuantizeSpec(calibration_images=24, engine=engine)).model
        for engine in engines.ENGINES
        if engines.is_installed(engine)
    }


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def operands(model: onnx.ModelProto, op_type: str) -> list[list[np.ndarray]]:
    """For each node of the type, in order, its weight and bias with their scales and zero points."""
    made_by = {node.output[0]: node for node in model.graph.node}
    values = constants(model)
    return [
        [values[name] for source in node.input[1:] for name in made_by[source].input]
        for node in model.graph.node
        if node.op_type == op_type
    ]


def activations(model: onnx.ModelProto) -> list[tuple[float, int]]:
    """(scale, zero point) of every QuantizeLinear, in order."""
    values = constants(model)
    return [
        (float(values[node.input[1]]), int(values[node.input[2]]))
        for node in model.graph.node
        if node.op_type == "QuantizeLinear"
    ]


def run(model: onnx.ModelProto, images: np.ndarray, *, optimize: bool = True) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return session.run(None, {model.graph.input[0].name: images})[0]


def test_both_engines_give_the_same_tensors(by_engine: dict[str, onnx.ModelProto]) -> None:
    if len(by_engine) < 2:
        pytest.skip("neural-compressor is not installed")
    one, other = by_engine.values()
    assert activations(one) == activations(other)
    for op_type, n_nodes in (("Conv", 2), ("Gemm", 3)):
        ours, theirs = operands(one, op_type), operands(other, op_type)
        assert len(ours) == len(theirs) == n_nodes
        for a, b in zip(ours, theirs, strict=True):
            assert all(np.array_equal(x.reshape(-1), y.reshape(-1)) for x, y in zip(a, b, strict=True))
    assert np.array_equal(run(one, IMAGES), run(other, IMAGES))


@pytest.mark.parametrize("engine", engines.ENGINES)
def test_the_scheme_is_the_one_that_both_formats_carry(
    by_engine: dict[str, onnx.ModelProto], engine: str
) -> None:
    if engine not in by_engine:
        pytest.skip(f"{engine} is not installed")
    model = by_engine[engine]
    for weight, weight_scale, weight_zero, bias, bias_scale, bias_zero in operands(model, "Conv"):
        assert weight.dtype == np.int8
        assert weight_scale.shape == (weight.shape[0],), "per channel"
        assert not weight_zero.any()
        assert np.abs(weight).reshape(len(weight), -1).max(1).tolist() == [127] * len(weight), "whole range"
        assert bias.dtype == np.int32
        assert bias_scale.shape == weight_scale.shape
        assert not bias_zero.any()
    for weight, weight_scale, *_ in operands(model, "Gemm"):
        assert weight.dtype == np.int8
        assert weight_scale.size == 1, "per tensor"
        assert weight.min() >= -127
    values = constants(model)
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            assert values[node.input[2]].dtype == np.uint8
    assert not [n for n in model.graph.node if n.op_type == "Relu"], "clipping at the zero point does it"


def test_ranges_are_true_min_max(lenet: onnx.ModelProto, by_engine: dict[str, onnx.ModelProto]) -> None:
    scale, zero_point = activations(by_engine["onnxruntime"])[0]
    low, high = IMAGES.min(), IMAGES.max()
    assert scale == pytest.approx((high - low) / 255, rel=1e-5)
    assert zero_point == round(-low / scale)
    logits = run(lenet, IMAGES)
    scale, _ = activations(by_engine["onnxruntime"])[-1]
    assert scale == pytest.approx((max(0, logits.max()) - min(0, logits.min())) / 255, rel=1e-4)


def test_the_finished_file_is_small_and_says_nothing_but_the_network(
    by_engine: dict[str, onnx.ModelProto],
) -> None:
    for model in by_engine.values():
        assert model.ByteSize() <= 66_000
        assert (model.graph.input[0].name, model.graph.output[0].name) == ("images", "logits")
        assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param, "the batch stays open"
        assert all(not node.name and not node.doc_string for node in model.graph.node)
        assert all(len(tensor.name) <= 2 for tensor in model.graph.initializer)
        unique = {
            (t.data_type, tuple(t.dims), numpy_helper.to_array(t).tobytes()) for t in model.graph.initializer
        }
        assert len(unique) == len(model.graph.initializer), "every constant once"
        for node in model.graph.node:
            if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
                assert len(node.input) == 3, "zero points stay: onnxruntime's integer Gemm wants them"


def test_finishing_changes_no_output(lenet: onnx.ModelProto, tmp_path: Path) -> None:
    path = tmp_path / "float.onnx"
    onnx.save(lenet, path)
    fitted = engines.load_engine("onnxruntime")(path, IMAGES, engines.Request(), tmp_path)
    finished = qdq.finish(fitted)
    for optimize in (True, False):
        assert np.array_equal(run(finished, IMAGES, optimize=optimize), run(fitted, IMAGES, optimize=optimize))
    assert fitted.graph.node[0].name, "the model that was given is left as it was"


def test_per_channel_dense_weights_are_an_option(lenet: onnx.ModelProto) -> None:
    spec = QuantizeSpec(calibration_images=24, engine="onnxruntime", dense_weights="per_channel")
    model = quantize.quantize(lenet, IMAGES, spec).model
    assert [scale.size for _, scale, *_ in operands(model, "Gemm")] == [120, 84, 10]


def test_without_neural_compressor_the_other_engine_runs_and_says_so(
    lenet: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "is_installed", lambda engine: engine == "onnxruntime")
    quantized = quantize.quantize(lenet, IMAGES, QuantizeSpec(calibration_images=24))
    assert quantized.engine == "onnxruntime"
    assert "neural-compressor is not installed" in quantized.notes[0]
    monkeypatch.setattr(engines, "is_installed", lambda engine: False)
    with pytest.raises(MissingExtraError, match="not installed") as fault:
        quantize.quantize(lenet, IMAGES, QuantizeSpec())
    assert 'pip install "edgecnn[train]"' in str(fault.value)


def test_a_failure_of_neural_compressor_is_one_of_our_errors(tmp_path: Path) -> None:
    if not engines.is_installed("neural-compressor"):
        pytest.skip("neural-compressor is not installed")
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])
    node = helper.make_node("Unknown", ["x"], ["y"], domain="nowhere")
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])
    model = helper.make_model(helper.make_graph([node], "g", [value], [output]))
    path = tmp_path / "bad.onnx"
    onnx.save(model, path)
    with pytest.raises(QuantizationError) as fault:
        engines.load_engine("neural-compressor")(path, IMAGES, engines.Request(), tmp_path)
    assert "engine: onnxruntime" in str(fault.value)


def pooled_and_joined(ranges: list[tuple[float, int]]) -> onnx.ModelProto:
    """x -> Q/DQ -> Conv (int32 bias) -> Q/DQ ; both halves -> Concat -> Q/DQ, each with its own range."""
    nodes, initializers = [], []

    def constant(name: str, value: np.ndarray) -> str:
        initializers.append(numpy_helper.from_array(value, name))
        return name

    def pair(source: str, name: str, scale: float, zero_point: int) -> str:
        s = constant(f"{name}_s", np.float32(scale).reshape(()))
        z = constant(f"{name}_z", np.uint8(zero_point).reshape(()))
        nodes.append(helper.make_node("QuantizeLinear", [source, s, z], [f"{name}_q"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", s, z], [f"{name}_dq"]))
        return f"{name}_dq"

    first = pair("x", "a", *ranges[0])
    second = pair("y", "b", *ranges[1])
    nodes.append(helper.make_node("Concat", [first, second], ["joined"], axis=1))
    joined = pair("joined", "c", *ranges[2])
    weight_scale, bias = np.float32(0.01), np.array([4000, -3000], np.int32)
    w = constant("w", np.array([[[[50]], [[-127]]], [[[20]], [[127]]]], np.int8))
    ws = constant("ws", weight_scale.reshape(()))
    wz = constant("wz", np.int8(0).reshape(()))
    bs = constant("bs", (np.float32(ranges[2][0]) * weight_scale).reshape(()))
    bz = constant("bz", np.int32(0).reshape(()))
    nodes.append(helper.make_node("DequantizeLinear", [w, ws, wz], ["w_dq"]))
    nodes.append(helper.make_node("DequantizeLinear", [constant("bias", bias), bs, bz], ["bias_dq"]))
    nodes.append(helper.make_node("Conv", [joined, "w_dq", "bias_dq"], ["out"]))
    pair("out", "o", 0.5, 100)
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 1, 3, 3]) for n in "xy"],
        [helper.make_tensor_value_info("o_dq", TensorProto.FLOAT, ["n", 2, 3, 3])],
        initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


RANGE = st.tuples(st.floats(0.001, 1.0), st.integers(0, 255))


@settings(max_examples=40, deadline=None)
@given(st.lists(RANGE, min_size=3, max_size=3))
def test_a_concat_gets_one_range_that_holds_all_of_them(ranges: list[tuple[float, int]]) -> None:
    model = pooled_and_joined(ranges)
    finished = qdq.finish(model)
    onnx.checker.check_model(finished, full_check=True)
    (scale, zero_point), *others = activations(finished)[:3]
    assert others == [(scale, zero_point)] * 2
    for old_scale, old_zero in ranges:
        slack = scale  # half a step from rounding the zero point, and float dust
        assert (0 - zero_point) * scale <= np.float32(old_scale) * (0 - old_zero) + slack
        assert (255 - zero_point) * scale >= np.float32(old_scale) * (255 - old_zero) - slack
    # The bias is the same number as before, in steps of the new scale.
    ((_, weight_scale, _, bias, bias_scale, _),) = operands(finished, "Conv")
    assert bias_scale.item() == pytest.approx(scale * weight_scale.item(), rel=1e-5)
    old = np.array([4000, -3000]) * ranges[2][0] * 0.01
    np.testing.assert_allclose(bias * bias_scale, old, atol=bias_scale.item() * 0.51 + 1e-6)


def test_ranges_that_agree_are_left_alone() -> None:
    model = pooled_and_joined([(0.05, 10)] * 3)
    assert activations(qdq.finish(model)) == activations(model)
