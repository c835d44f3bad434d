"""Channels with hardly any weights and a large bias, as a BatchNorm with a small factor leaves them.

A bias is in steps of input scale x weight scale: of such a channel they may be too small for 32 bits.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from export.tflite.running import run_tflite
from torch import nn

from edgecnn.analysis.quantization import outputs_of
from edgecnn.compress.qat import per_tensor, prepare, trained_model
from edgecnn.compress.quantize import quantize
from edgecnn.export.onnx import export_onnx
from edgecnn.export.tflite import convert
from edgecnn.recipe import QatSpec, QuantizeSpec
from edgecnn.recipe.steps import QuantizationEngine

IMAGES = np.random.default_rng(0).standard_normal((40, 1, 28, 28)).astype(np.float32)
ENGINES = ("neural-compressor", "onnxruntime")


def network(factor: float) -> onnx.ModelProto:
    """Its second convolution has a channel whose weights are `factor` of the others', with a bias of 1."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    layers = nn.Sequential(
        *(nn.Conv2d(1, 4, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(4, 4, 5), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(64, 10)),
    ).eval()
    layers[4].weight.data[1], layers[4].bias.data[1] = factor, 1.0
    return export_onnx(layers, (1, 28, 28))


def quantized(
    model: onnx.ModelProto, engine: QuantizationEngine, calibrator: str = "minmax"
) -> onnx.ModelProto:
    spec = QuantizeSpec.model_validate({"calibration_images": 40, "engine": engine, "calibrator": calibrator})
    return quantize(model, IMAGES, spec).model


def agreement(one: onnx.ModelProto, other: onnx.ModelProto) -> float:
    """The share of images to which both give the same answer."""
    return float(np.mean(outputs_of(one, IMAGES).argmax(1) == outputs_of(other, IMAGES).argmax(1)))


@pytest.mark.parametrize("factor", [1e-6, 1e-8, 0.0])
@pytest.mark.parametrize("engine", ENGINES)
def test_the_bias_of_a_faint_channel_is_held(engine: QuantizationEngine, factor: float) -> None:
    model = network(factor)
    for calibrator in ("minmax", "mse", "percentile", "entropy"):
        int8 = quantized(model, engine, calibrator)
        assert agreement(model, int8) >= 0.95, calibrator
        # One scale for all of a layer is that of channels with weights.
        assert agreement(model, per_tensor(int8)) >= 0.95, calibrator


def test_a_faint_channel_leaves_the_others_as_they_are() -> None:
    """Their integers are those of the network in which that channel is like the others."""
    faint, plain = (quantized(network(factor), "neural-compressor") for factor in (1e-8, 1.0))

    def weights(model: onnx.ModelProto) -> list[np.ndarray]:
        arrays = [onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
        return [array for array in arrays if array.dtype == np.int8 and array.ndim == 4]

    for one, other in zip(weights(faint), weights(plain), strict=True):
        kept = [0, 2, 3] if one.shape[1] == 4 else [0, 1, 2, 3]
        np.testing.assert_array_equal(one[kept], other[kept])


@pytest.mark.parametrize("factor", [1e-6, 1e-8, 0.0])
@pytest.mark.parametrize("engine", ENGINES)
def test_the_trained_network_is_that_of_its_files(engine: QuantizationEngine, factor: float) -> None:
    model = network(factor)
    for spec in (QatSpec(), QatSpec(weights="int4"), QatSpec(weights="int4", granularity="per_tensor")):
        graph, trained = prepare(model, quantized(model, engine), spec)
        optimizer = torch.optim.AdamW(trained.parameters(), 1e-3)
        labels = torch.from_numpy(outputs_of(model, IMAGES).argmax(1))
        for _ in range(3):
            optimizer.zero_grad()
            nn.functional.cross_entropy(trained(torch.from_numpy(IMAGES)), labels).backward()
            optimizer.step()
        with torch.no_grad():
            wanted = trained(torch.from_numpy(IMAGES)).numpy()
        written = trained_model(graph, trained)
        np.testing.assert_allclose(outputs_of(written, IMAGES), wanted, atol=1e-5)
        converted = convert(written, weights="packed")
        (given,), (taken,) = converted.inputs, converted.outputs
        integers = np.clip(np.rint(IMAGES.transpose(0, 2, 3, 1) / given.scale) + given.zero_point, -128, 127)
        batches = [[image[None]] for image in integers.astype(np.int8)]
        answers = [answer for (answer,) in run_tflite(converted.data, batches)]
        logits = (np.concatenate(answers).astype(np.float32) - taken.zero_point) * taken.scale
        assert np.abs(logits - wanted).max() <= 1.01 * taken.scale
