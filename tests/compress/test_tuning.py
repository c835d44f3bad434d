"""Remedies for a quantized network that is not accurate enough: each does its work, the cheap ones first."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgecnn.analysis.quantization import outputs_of, tensors_of
from edgecnn.compress import engines
from edgecnn.compress.quantize import Quantized, layers_of, quantize
from edgecnn.compress.tuning import Attempt, n_remedies, tune
from edgecnn.errors import QuantizationError
from edgecnn.export.onnx import export_onnx
from edgecnn.export.tflite import convert
from edgecnn.models import build_model
from edgecnn.recipe import QuantizeSpec

IMAGES = np.random.default_rng(0).normal(size=(24, 1, 28, 28)).astype(np.float32)
each_engine = pytest.mark.parametrize("engine", [one for one in engines.ENGINES if engines.is_installed(one)])


@pytest.fixture(scope="module")
def lenet() -> onnx.ModelProto:
    return export_onnx(build_model("lenet5", in_channels=1, n_classes=10, seed=2), (1, 28, 28))


def spec(**changes: object) -> QuantizeSpec:
    return QuantizeSpec(engine="onnxruntime").model_copy(update=changes)


class Bench:
    """Attempts with accuracies that a test gives; a layer in float32 costs a thousand bytes."""

    def __init__(self, accuracy_of: dict[str, float], base: float = 0.9) -> None:
        self.accuracy_of, self.base, self.tried = accuracy_of, base, []  # type: ignore[var-annotated]

    def __call__(self, wanted: QuantizeSpec) -> Attempt:
        said = [wanted.calibrator, *wanted.float_layers]
        said += ["bias"] * wanted.bias_correction + ["equal"] * wanted.equalization
        self.tried.append(wanted)
        accuracy = self.base + sum(self.accuracy_of.get(one, 0) for one in said)
        return Attempt(
            wanted, Quantized(onnx.ModelProto(), "", ()), accuracy, 10_000 + 1000 * len(wanted.float_layers)
        )

    def tune(self, needed: float) -> tuple[Attempt, list[Attempt]]:
        return tune(spec(), needed, self, lambda _: ["conv1", "fc1", "fc2"])


def test_what_is_good_enough_is_tried_alone() -> None:
    bench = Bench({})
    best, made = bench.tune(0.9)
    assert best.spec == spec() and len(made) == len(bench.tried) == 1


def test_the_first_remedy_that_holds_ends_it() -> None:
    bench = Bench({"percentile": 0.05, "conv1": 0.5})
    best, made = bench.tune(0.93)
    assert best.spec.calibrator == "percentile" and len(made) == 2


def test_a_remedy_that_helps_stays_and_one_that_harms_goes() -> None:
    bench = Bench({"percentile": -0.1, "mse": 0.02, "entropy": -0.01, "bias": 0.01, "equal": -0.02})
    best, made = bench.tune(0.925)
    assert (best.spec.calibrator, best.spec.bias_correction, best.spec.equalization) == ("mse", True, False)
    assert best.spec.float_layers == () and len(made) == 5


def test_layers_go_to_float_in_order_and_only_those_that_help_stay() -> None:
    bench = Bench({"conv1": 0.01, "fc1": -0.01, "fc2": 0.05})
    best, made = bench.tune(0.95)
    assert best.spec.float_layers == ("conv1", "fc2") and best.size_bytes == 12_000
    assert len(made) == 1 + n_remedies(spec()) + 3


def test_where_nothing_holds_the_most_accurate_and_then_the_smallest_is_left() -> None:
    best, made = Bench({"mse": 0.01}).tune(0.99)
    assert best.spec == spec(calibrator="mse") and best.accuracy < 0.99
    assert len(made) == 1 + n_remedies(spec()) + 3


@each_engine
def test_a_float_layer_is_as_exact_as_the_float_network(lenet: onnx.ModelProto, engine: str) -> None:
    """All layers in float32 give the float network; the file grows by three bytes a weight."""
    exact = outputs_of(lenet, IMAGES)
    int8, one, all_of_them = (
        quantize(lenet, IMAGES, spec(engine=engine, float_layers=layers)).model
        for layers in ((), ("conv2",), layers_of(lenet))
    )
    error = [float(np.abs(outputs_of(model, IMAGES) - exact).max()) for model in (int8, all_of_them)]
    assert error[0] > 1e-4 and error[1] < 1e-6
    n_weights = next(int(np.prod(t.dims)) for t in lenet.graph.initializer if t.name == "conv2.weight")
    grown = len(convert(one).data) - len(convert(int8).data)
    assert 2.8 * n_weights < grown < 3 * n_weights + 500


def test_an_unknown_float_layer_is_named_with_those_there_are(lenet: onnx.ModelProto) -> None:
    with pytest.raises(QuantizationError) as fault:
        quantize(lenet, IMAGES, spec(float_layers=("conv7",)))
    message = str(fault.value)
    assert "no layer is named conv7" in message and "conv1, conv2, fc1, fc2, fc3" in message


@each_engine
def test_corrected_biases_give_each_channel_its_mean(lenet: onnx.ModelProto, engine: str) -> None:
    """The logits of a network quantized with coarse weights: their means come back, in both formats."""
    model = onnx.ModelProto()
    model.CopyFrom(lenet)
    for tensor in model.graph.initializer:
        if tensor.name.endswith(".weight"):
            values = numpy_helper.to_array(tensor).copy()
            values.reshape(-1)[0] = 20 * np.abs(values).max()  # all others get few of the 255 steps
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    exact = outputs_of(model, IMAGES).mean(axis=0)
    plain, corrected = (
        quantize(model, IMAGES, spec(engine=engine, bias_correction=on)) for on in (False, True)
    )
    shift = [
        float(np.abs(outputs_of(one.model, IMAGES).mean(axis=0) - exact).max()) for one in (plain, corrected)
    ]
    assert shift[1] < 0.2 * shift[0]
    assert convert(corrected.model).notes == () and len(convert(corrected.model).data) == len(
        convert(plain.model).data
    )


@each_engine
@pytest.mark.parametrize("calibrator", ["percentile", "mse", "entropy"])
def test_biases_have_the_scale_that_tflite_wants_behind_pools_too(
    lenet: onnx.ModelProto, engine: str, calibrator: str
) -> None:
    """Engines give a pooled tensor the scale of what was pooled: it is set once, for both."""
    assert convert(quantize(lenet, IMAGES, spec(engine=engine, calibrator=calibrator)).model).notes == ()


def test_the_tensors_of_a_network_are_those_asked_for(lenet: onnx.ModelProto) -> None:
    name = lenet.graph.node[0].output[0]
    chunks = list(tensors_of(lenet, [name, lenet.graph.input[0].name], IMAGES))
    assert np.array_equal(np.concatenate([given for _, given in chunks]), IMAGES)
    assert sum(len(found) for found, _ in chunks) == len(IMAGES)
