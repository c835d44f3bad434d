"""Quantization-aware training: what is trained is the QDQ graph, and both formats carry what it learned."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from export.tflite.agreement import assert_agrees
from onnx import TensorProto, helper, numpy_helper

from edgecnn.compress.qat import QatNetwork, per_tensor, prepare, read_graph, trained_model
from edgecnn.compress.qat.network import key_of
from edgecnn.compress.qat.operators import OPERATORS
from edgecnn.compress.qat.rounding import LearnedScale, fake_quantize
from edgecnn.compress.quantize import quantize
from edgecnn.data import Dataset
from edgecnn.errors import QuantizationError
from edgecnn.export.onnx import export_onnx
from edgecnn.export.tflite import convert
from edgecnn.models import MODELS, build_model
from edgecnn.ondevice.manifest import Preprocessing
from edgecnn.recipe import QatSpec, QuantizeSpec
from edgecnn.training.loop import Pictures, Settings, evaluate, train

PREPROCESSING = Preprocessing(28, 28, 1, (0.1,), (0.3,))
LENET = {"conv1": 4, "conv2": 5, "fc1": 12, "fc2": 8}
SQUEEZED = dict(zip(MODELS["squeezenet1_1"].widths, [8] + [4, 6, 6] * 8, strict=True))


def bars(n: int, seed: int) -> Pictures:
    """Three classes of noisy bars, at the left, in the middle, at the right."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, n)
    images = random.integers(0, 90, (n, 28, 28, 1)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[4:24, 4 + 8 * label : 8 + 8 * label] = 220
    return Pictures(Dataset(images, labels, ("l", "m", "r"), "train"), PREPROCESSING, torch.device("cpu"))


TRAINING, VALIDATION = bars(256, 0), bars(256, 1)
SETTINGS = Settings(2, 32, "adamw", 3e-3, "one_cycle", 0.0, 0.0, (), 0)


def qdq_model(
    name: str = "lenet5", widths: dict[str, int] | None = None, trained: bool = True
) -> onnx.ModelProto:
    return float_and_quantized(name, widths, trained)[1]


def float_and_quantized(
    name: str = "lenet5", widths: dict[str, int] | None = None, trained: bool = True
) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    torch.set_num_threads(1)
    options = {"stem": "small"} if name.startswith("squeeze") else {}
    model = build_model(name, in_channels=1, n_classes=3, widths=widths or LENET, seed=3, options=options)
    if trained:
        train(model, TRAINING, VALIDATION, SETTINGS)
    calibration = TRAINING.normalized(TRAINING.images[:64]).numpy()
    original = export_onnx(model, (1, 28, 28))
    return original, quantize(original, calibration, QuantizeSpec(engine="onnxruntime")).model


@pytest.fixture(scope="module")
def float_and_int8() -> tuple[onnx.ModelProto, onnx.ModelProto]:
    return float_and_quantized()


@pytest.fixture(scope="module")
def lenet(float_and_int8: tuple[onnx.ModelProto, onnx.ModelProto]) -> onnx.ModelProto:
    return float_and_int8[1]


def by_onnxruntime(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {session.get_inputs()[0].name: images})[0]


def simulated(network: QatNetwork, images: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return network.eval()(torch.from_numpy(images)).numpy()


IMAGES = VALIDATION.normalized(VALIDATION.images).numpy()


def steps_apart(model: onnx.ModelProto, network: QatNetwork) -> np.ndarray:
    """How far the simulation is from onnxruntime on IMAGES, in steps of the output's scale."""
    last = next(step for step in reversed(network.graph.steps) if hasattr(step, "scale"))
    scale = float(network.scales[key_of(last.scale)]().detach())
    return np.abs(by_onnxruntime(model, IMAGES) - simulated(network, IMAGES)) / scale


@pytest.mark.parametrize(("name", "widths"), [("lenet5", LENET), ("squeezenet1_1", SQUEEZED)])
def test_the_network_in_torch_is_the_one_in_the_file(name: str, widths: dict[str, int]) -> None:
    model = qdq_model(name, widths, trained=False)
    apart = steps_apart(model, QatNetwork(read_graph(model)))
    # A tie that falls the other way in a deep network moves what is behind it.
    assert (apart < 1.01).mean() > (0.97 if name == "squeezenet1_1" else 0.9999)
    assert (apart < 0.01).mean() > 0.9


def test_what_was_not_trained_is_written_back_as_it_was(lenet: onnx.ModelProto) -> None:
    written = trained_model(lenet, QatNetwork(read_graph(lenet)))
    onnx.checker.check_model(written, full_check=True)
    np.testing.assert_array_equal(by_onnxruntime(written, IMAGES), by_onnxruntime(lenet, IMAGES))
    assert [node.op_type for node in written.graph.node] == [node.op_type for node in lenet.graph.node]


def scales_of_weights(model: onnx.ModelProto) -> list[int]:
    return [
        one.scales.size for one in (*read_graph(model).weights.values(), *read_graph(model).biases.values())
    ]


@pytest.mark.parametrize(("name", "widths"), [("lenet5", LENET), ("squeezenet1_1", SQUEEZED)])
def test_one_scale_a_layer_is_the_same_network_in_wider_steps(name: str, widths: dict[str, int]) -> None:
    model = qdq_model(name, widths, trained=False)
    coarse = per_tensor(model)
    onnx.checker.check_model(coarse, full_check=True)
    assert max(scales_of_weights(model)) > 1
    assert set(scales_of_weights(coarse)) == {1}
    for before, after in zip(
        read_graph(model).weights.values(), read_graph(coarse).weights.values(), strict=True
    ):
        # Half of the wider step, and a float's rounding.
        assert np.abs(before.values - after.values).max() <= 0.501 * after.scales[0]
    for before, after in zip(
        read_graph(model).biases.values(), read_graph(coarse).biases.values(), strict=True
    ):
        assert np.abs(before.values - after.values).max() <= 0.501 * after.scales[0]


@pytest.mark.parametrize("bits", [8, 4])
def test_one_scale_a_layer_is_in_both_files_after_training(lenet: onnx.ModelProto, bits: int) -> None:
    network = QatNetwork(read_graph(per_tensor(lenet)), weight_bits=bits)
    train(network, TRAINING, VALIDATION, SETTINGS)
    written = trained_model(per_tensor(lenet), network)
    assert set(scales_of_weights(written)) == {1}
    weights = "int4" if bits == 4 else "as-is"
    coarse, fine = (convert(model, weights=weights).data for model in (written, lenet))
    n_channels = sum(LENET[name] for name in ("conv1", "conv2"))
    # A scale and a zero point of 12 bytes for the weights, a scale of 4 for the bias: of all channels but one.
    assert len(fine) - len(coarse) >= 16 * (n_channels - 2)
    for runtime in ("litert", "litert-reference", "tflite-runtime", "tflm"):
        assert_agrees(written, weights=weights, runtime=runtime, steps=2)


@pytest.mark.parametrize("bits", [8, 4])
def test_what_was_trained_is_what_the_file_holds(lenet: onnx.ModelProto, bits: int) -> None:
    network = QatNetwork(read_graph(lenet), weight_bits=bits)
    before = {name: one.detach().clone() for name, one in network.named_parameters()}
    history = train(network, TRAINING, VALIDATION, SETTINGS)
    moved = [name for name, one in network.named_parameters() if not torch.equal(one, before[name])]
    assert len(moved) == len(before), "weights, biases and scales are all trained"
    written = trained_model(lenet, network)
    onnx.checker.check_model(written, full_check=True)
    apart = steps_apart(written, network)
    assert apart.max() < 1.01
    assert (apart < 0.01).mean() > 0.95
    n_right = (by_onnxruntime(written, IMAGES).argmax(1) == VALIDATION.labels.numpy()).mean()
    assert n_right == pytest.approx(history[-1].validation_accuracy, abs=0.01)


def test_training_makes_up_for_four_bits(lenet: onnx.ModelProto) -> None:
    """On a network whose weights were spoilt, so that there is something to make up for."""
    graph = read_graph(lenet)
    network = QatNetwork(graph, weight_bits=4)
    with torch.no_grad():
        for weight in network.weights.values():
            weight.add_(
                torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)) * weight.std() / 2
            )
    spoilt = evaluate(network, VALIDATION)
    # Its activations are larger than those that the scales were made for: these have some way to go.
    train(network, TRAINING, VALIDATION, replace(SETTINGS, epochs=12, learning_rate=2e-2))
    assert spoilt < 0.9 < 0.95 < evaluate(network, VALIDATION)


def test_four_bit_weights_go_into_the_tflite_file_with_their_scales(
    lenet: onnx.ModelProto, tmp_path: Path
) -> None:
    network = QatNetwork(read_graph(lenet), weight_bits=4)
    train(network, TRAINING, VALIDATION, SETTINGS)
    written = trained_model(lenet, network)
    constants = {one.name: numpy_helper.to_array(one) for one in written.graph.initializer}
    weights = [array for array in constants.values() if array.dtype == np.int8 and array.ndim > 1]
    assert len(weights) == 5 and all(np.abs(array.astype(int)).max() <= 7 for array in weights)
    path = tmp_path / "q.onnx"
    onnx.save(written, path)
    eight, four = convert(path).data, convert(path, weights="int4").data
    assert len(four) < len(eight) - 0.45 * sum(array.size for array in weights)
    assert [(one.dtype, one.granularity) for one in weights_of(four)] == [("int4", "per-channel")] * 2 + [
        ("int4", "per-tensor")
    ] * 3
    scales = {float(s) for array in constants.values() if array.dtype == np.float32 for s in array.ravel()}
    stored = np.frombuffer(four, np.uint8).tobytes()
    of_weights = [scale().detach().numpy().astype(np.float32) for scale in network.weight_scales.values()]
    for scale in of_weights:
        assert set(map(float, scale.ravel())) <= scales
        assert scale.tobytes() in stored, "the trained scales stand in the file, bit for bit"


@pytest.mark.parametrize("granularity", ["per_channel", "per_tensor"])
def test_layers_may_keep_8_bits_among_those_of_4(
    float_and_int8: tuple[onnx.ModelProto, onnx.ModelProto], granularity: Any
) -> None:
    spec = QatSpec(weights="int4", int8_layers=("conv1", "fc3"), granularity=granularity)
    model, network = prepare(*float_and_int8, spec)
    train(network, TRAINING, VALIDATION, SETTINGS)
    written = trained_model(model, network)
    constants = {one.name: numpy_helper.to_array(one).astype(int) for one in written.graph.initializer}
    largest = [
        np.abs(constants[one.integers]).max() for one in read_graph(written).weights.values()
    ]  # of conv1, conv2, fc1, fc2, fc3
    assert min(largest[0], largest[4]) > 100 and max(largest[1:4]) <= 7
    for runtime in ("litert", "tflite-runtime", "tflm"):
        assert_agrees(written, weights="packed", runtime=runtime, steps=2)
    data = convert(written, weights="packed").data
    assert [tensor.dtype for tensor in weights_of(data)] == ["int8", "int4", "int4", "int4", "int8"]


def weights_of(tflite: bytes) -> list[Any]:
    from edgecnn.inspection import inspect

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.tflite")
        path.write_bytes(tflite)
        return [layer.weights for layer in inspect(path).layers if layer.n_params]


def test_a_layer_that_is_to_keep_8_bits_and_is_not_there_is_named(
    float_and_int8: tuple[onnx.ModelProto, onnx.ModelProto],
) -> None:
    with pytest.raises(QuantizationError, match="int8_layers: no layer is named conv7") as fault:
        prepare(*float_and_int8, QatSpec(weights="int4", int8_layers=("conv1", "conv7")))
    assert "the layers of the network are conv1, conv2, fc1, fc2, fc3" in str(fault.value)


def test_the_gradient_of_a_scale_is_that_of_the_paper() -> None:
    """Esser et al., equation 3: -v/s + round(v/s) inside, the limit outside."""
    values = torch.tensor([-3.0, -0.4, 0.26, 0.74, 9.0])
    scale = torch.tensor(0.5, requires_grad=True)
    for k, expected in enumerate([-4.0, 0.8 - 1, round(0.52) - 0.52, 1 - 1.48, 3.0]):
        scale.grad = None
        fake_quantize(values[k], scale, 0, -4, 3).backward()
        assert scale.grad is not None and float(scale.grad) == pytest.approx(expected, abs=1e-6)


def test_adam_moves_scales_by_shares_of_their_size() -> None:
    """A rate that is right for weights would move a scale of 0.01, an activation's, to and fro by halves."""
    for size in (0.002, 0.05, 2.0):
        scale = LearnedScale(torch.tensor([size, 3 * size]))
        optimizer = torch.optim.Adam(scale.parameters(), lr=0.01)
        for _ in range(10):
            optimizer.zero_grad()
            (-5 * scale().sum()).backward()
            optimizer.step()
        np.testing.assert_allclose(scale().detach(), [1.1 * size, 3.3 * size], rtol=1e-4)


def test_plain_descent_moves_a_scale_as_if_it_were_the_parameter() -> None:
    """So that the proportions of "Learned step size quantization", section 2.2, hold."""
    scale = LearnedScale(torch.tensor([0.02, 0.5]))
    optimizer = torch.optim.SGD(scale.parameters(), lr=0.01)
    (scale() * torch.tensor([1.0, -2.0])).sum().backward()
    optimizer.step()
    np.testing.assert_allclose(scale().detach(), [0.02 - 0.01, 0.5 + 0.02], rtol=1e-5)


def test_values_within_the_range_pass_their_gradient_and_others_none() -> None:
    values = torch.tensor([-9.0, -0.4, 0.3, 9.0], requires_grad=True)
    fake_quantize(values, torch.tensor(0.5), 1, -4, 3).sum().backward()
    assert values.grad is not None and values.grad.tolist() == [0, 1, 1, 0]


def test_an_operator_that_is_not_known_is_named() -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3]) for name in "xy")
    node = helper.make_node("Softsign", ["x"], ["y"])
    model = helper.make_model(helper.make_graph([node], "g", [x], [y]))
    with pytest.raises(QuantizationError, match="does not know the operators Softsign") as fault:
        QatNetwork(read_graph(model))
    assert "leave the qat step out" in str(fault.value)


def test_a_layer_that_shared_a_constant_gets_its_own() -> None:
    """Two equal layers, whose constants are one in the file, learn different weights."""
    weight = numpy_helper.from_array(np.array([[2, 0], [0, 3]], np.int8), "w")
    scale, zero = (
        numpy_helper.from_array(np.array(0.5, np.float32), "s"),
        numpy_helper.from_array(np.array(0, np.int8), "z"),
    )
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["wa"]),
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["wb"]),
        helper.make_node("MatMul", ["x", "wa"], ["h"]),
        helper.make_node("MatMul", ["h", "wb"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in "xy")
    model = helper.make_model(
        helper.make_graph(nodes, "g", [x], [y], [weight, scale, zero]),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=8,
    )
    network = QatNetwork(read_graph(model))
    with torch.no_grad():
        network.weights[key_of("wb")].mul_(2)
    images = np.eye(2, dtype=np.float32)
    np.testing.assert_allclose(by_onnxruntime(trained_model(model, network), images), [[2, 0], [0, 4.5]])


@pytest.mark.parametrize(
    ("kind", "attributes"),
    [
        ("AveragePool", {"pads": [1, 0, 1, 1]}),
        ("AveragePool", {"pads": [1, 1, 1, 1], "count_include_pad": 1}),
        ("AveragePool", {"strides": [2, 2], "ceil_mode": 1}),
        ("MaxPool", {"pads": [1, 0, 1, 1]}),
        ("MaxPool", {"strides": [2, 2], "ceil_mode": 1}),
        ("MaxPool", {"dilations": [2, 1]}),
    ],
)
def test_pooling_is_that_of_onnxruntime(kind: str, attributes: dict[str, Any]) -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3, 8, 7])
    node = helper.make_node(kind, ["x"], ["y"], kernel_shape=[3, 2], **attributes)
    model = helper.make_model(
        helper.make_graph([node], "g", [x], [y]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    images = np.random.default_rng(0).normal(size=(2, 3, 8, 7)).astype(np.float32)
    given = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    ours = OPERATORS[kind]([torch.from_numpy(images)], given).numpy()
    np.testing.assert_allclose(ours, by_onnxruntime(model, images), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "attributes", "axes"),
    [
        ("ReduceMean", {"keepdims": 1}, [2, 3]),
        ("ReduceMean", {"keepdims": 0}, [-1]),
        ("ReduceMean", {}, None),
        ("LeakyRelu", {"alpha": 0.3}, None),
        ("LeakyRelu", {}, None),
    ],
)
def test_an_operator_is_that_of_onnxruntime(
    kind: str, attributes: dict[str, Any], axes: list[int] | None
) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3, 8, 7])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    constants = [] if axes is None else [numpy_helper.from_array(np.array(axes, np.int64), "axes")]
    node = helper.make_node(kind, ["x", *(tensor.name for tensor in constants)], ["y"], **attributes)
    graph = helper.make_graph([node], "g", [x], [y], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    images = np.random.default_rng(0).normal(size=(2, 3, 8, 7)).astype(np.float32)
    inputs = [torch.from_numpy(images), *(torch.tensor(axes) for _ in constants)]
    given = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    np.testing.assert_allclose(
        OPERATORS[kind](inputs, given).numpy(), by_onnxruntime(model, images), rtol=1e-5, atol=1e-6
    )


class Scaled(torch.nn.Module):
    """A network with constants of its own between its layers, and a depthwise convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 8, 3)
        self.depthwise = torch.nn.Conv2d(8, 8, 3, groups=8)
        self.fc = torch.nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.conv(x)) * 0.5
        return self.fc(torch.relu(self.depthwise(x + 0.25)).mean((2, 3)))


def scaled(dense_weights: Any = "per_tensor") -> tuple[onnx.ModelProto, onnx.ModelProto]:
    torch.manual_seed(0)
    original = export_onnx(Scaled().eval(), (1, 28, 28))
    calibration = TRAINING.normalized(TRAINING.images[:16]).numpy()
    spec = QuantizeSpec(engine="onnxruntime", dense_weights=dense_weights)
    return original, quantize(original, calibration, spec).model


@pytest.mark.parametrize("bits", ["int8", "int4"])
def test_constants_between_layers_stay_what_they_are(bits: Any) -> None:
    graph, network = prepare(*scaled(), QatSpec(weights=bits))
    if bits == "int8":
        assert steps_apart(graph, network).max() == 0
    train(network, TRAINING, VALIDATION, replace(SETTINGS, epochs=1))
    written = trained_model(graph, network)
    onnx.checker.check_model(written, full_check=True)
    assert steps_apart(written, network).max() == 0


@pytest.mark.parametrize("dense_weights", ["per_tensor", "per_channel"])
def test_what_a_tflite_file_holds_in_8_bits_is_trained_in_8(dense_weights: Any) -> None:
    """Depthwise weights, and those of dense layers with a scale for each output."""
    graph, network = prepare(*scaled(dense_weights), QatSpec(weights="int4"))
    layers = [step for step in network.graph.steps if getattr(step, "kind", "") in ("Conv", "Gemm")]
    conv, depthwise, dense = (network.largest[layer.inputs[1]] for layer in layers)
    assert (conv, depthwise, dense) == (7, 127, 127 if dense_weights == "per_channel" else 7)
    assert convert(trained_model(graph, network), weights="packed").notes == ()
