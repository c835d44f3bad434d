"""Ranges narrower than the extremes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from edgecnn.compress import calibration, engines, quantize
from edgecnn.export.onnx import export_onnx
from edgecnn.export.tflite import convert
from edgecnn.models import build_model
from edgecnn.recipe import QuantizeSpec

STEPS = 255
IMAGES = np.random.default_rng(0).normal(size=(48, 1, 28, 28)).astype(np.float32)
# One pixel of 37,632, far brighter than all others, sets every range of the extremes.
IMAGES[7, 0, 14, 14] = 200


@pytest.fixture(scope="module")
def lenet() -> onnx.ModelProto:
    return export_onnx(build_model("lenet5", in_channels=1, n_classes=10, seed=2), (1, 28, 28))


def quantized(lenet: onnx.ModelProto, engine: str, calibrator: str) -> onnx.ModelProto:
    spec = QuantizeSpec(calibration_images=48, engine=engine, calibrator=calibrator)
    return quantize.quantize(lenet, IMAGES, spec).model


def scales(model: onnx.ModelProto) -> list[float]:
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return [float(values[node.input[1]]) for node in model.graph.node if node.op_type == "QuantizeLinear"]


def outputs(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {session.get_inputs()[0].name: one[None]})[0] for one in images])


each_engine = pytest.mark.parametrize("engine", [one for one in engines.ENGINES if engines.is_installed(one)])


@each_engine
def test_an_outlier_no_longer_coarsens_the_others(lenet: onnx.ModelProto, engine: str) -> None:
    extremes, narrower = (quantized(lenet, engine, how) for how in ("minmax", "percentile"))
    pairs = list(zip(scales(narrower), scales(extremes), strict=True))
    assert all(new <= old * 1.001 for new, old in pairs) and pairs[0][0] < 0.1 * pairs[0][1]
    usual = np.delete(IMAGES, 7, axis=0)
    exact = outputs(lenet, usual)
    errors = [float(np.abs(outputs(model, usual) - exact).mean()) for model in (narrower, extremes)]
    assert errors[0] < 0.7 * errors[1]
    assert convert(narrower).n_operators == convert(extremes).n_operators


@each_engine
def test_mse_keeps_an_outlier_that_costs_more_than_finer_steps_save(
    lenet: onnx.ModelProto, engine: str
) -> None:
    extremes, narrower = (scales(quantized(lenet, engine, how)) for how in ("minmax", "mse"))
    assert 0.9 * extremes[0] < narrower[0] <= extremes[0] * 1.001
    assert all(new <= old * 1.001 for new, old in zip(narrower, extremes, strict=True))


@given(
    counts=st.lists(st.integers(0, 1000), min_size=64, max_size=64).filter(any),
    low=st.floats(-100, 0),
    high=st.floats(0.01, 100),
)
def test_a_range_lies_within_the_extremes_and_holds_zero(counts: list[int], low: float, high: float) -> None:
    for how in calibration.METHODS.values():
        bottom, top = how(np.array(counts), low, high, STEPS)
        assert low - 1e-6 <= bottom <= 0 <= top <= high + 1e-6


@given(
    counts=st.lists(st.integers(0, 1000), min_size=64, max_size=64).filter(any),
    low=st.floats(-100, 0),
    high=st.floats(0.01, 100),
)
def test_mse_is_never_worse_than_the_extremes(counts: list[int], low: float, high: float) -> None:
    bottom, top = calibration.mean_squared_error(np.array(counts), low, high, STEPS)
    edges = np.linspace(low, high, 65)
    middles = (edges[1:] + edges[:-1]) / 2

    def error(a: float, b: float) -> float:
        return float(np.sum(counts * (middles - np.clip(middles, a, b)) ** 2)) + (
            (b - a) / STEPS
        ) ** 2 / 12 * sum(counts)

    assert error(bottom, top) <= error(low, high) * (1 + 1e-9) + 1e-12


def test_a_percentile_cuts_off_the_rare_and_keeps_the_rest() -> None:
    counts = np.zeros(1000, np.int64)
    counts[:100], counts[999] = 1_000, 1
    low, high = calibration.percentile(counts, 0.0, 10.0, STEPS)
    assert low == 0 and 0.99 <= high <= 1.02


@pytest.mark.parametrize("n_zeros", [0, 1, 10_000_000])
@pytest.mark.parametrize("low", [0.0, -10.0])
def test_entropy_cuts_off_the_rare_whatever_the_number_of_zeros(low: float, n_zeros: int) -> None:
    n = calibration.N_BINS
    edges = np.linspace(low, 10.0, n + 1)
    middles = (edges[1:] + edges[:-1]) / 2
    counts = np.where(np.abs(middles) < 5, np.random.default_rng(0).integers(500, 1500, n), 0)
    counts[0] = counts[-1] = 1
    counts[np.argmax(edges[1:] > 0)] = n_zeros
    bottom, top = calibration.entropy(counts, low, 10.0, STEPS)
    assert 4.9 <= top <= 5.6
    assert bottom == 0 if low == 0 else -5.6 <= bottom <= -4.9
