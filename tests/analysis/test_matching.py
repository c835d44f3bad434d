"""Which float tensor a quantized one is, in networks with branches, and where activations were dropped."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from edgecnn.analysis.matching import match
from edgecnn.analysis.quantization import analyse
from edgecnn.compress.quantize import quantize
from edgecnn.export.onnx import export_onnx
from edgecnn.models import build_model
from edgecnn.recipe import QuantizeSpec


def images(n: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, 1, 28, 28)).astype(np.float32)


def pair(name: str, engine: str) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """A float network and what `engine` makes of it."""
    options = {"stem": "small"} if name.startswith("squeezenet") else {}
    network = build_model(name, in_channels=1, n_classes=10, seed=1, options=options)
    model = export_onnx(network, (1, 28, 28))
    return model, quantize(model, images(8), QuantizeSpec(engine=engine)).model


@pytest.mark.parametrize("engine", ["onnxruntime", "neural-compressor"])
@pytest.mark.parametrize(("name", "n_layers"), [("lenet5", 5), ("squeezenet1_1", 26)])
def test_every_tensor_of_a_real_network_finds_its_own(name: str, n_layers: int, engine: str) -> None:
    model, quantized = pair(name, engine)
    found = analyse(model, quantized, images(4), split="validation")
    assert found.n_unmatched == 0
    assert len(found.weights) == n_layers
    assert len({row.layer for row in found.weights}) == n_layers
    # Another tensor, or the same before its activation, has nothing to do with it: about 0 dB or less.
    assert min(row.sqnr_db or 0.0 for row in found.activations) > 12
    assert min(row.sqnr_db or 0.0 for row in found.weights) > 25


def test_layers_and_what_makes_their_outputs_are_named() -> None:
    model, quantized = pair("lenet5", "onnxruntime")
    found = match(model.graph, quantized.graph)
    made = [(row.label, row.operator) for row in found.activations]
    assert made[:3] == [("images", "input"), ("conv1", "Conv + Relu"), ("max_pool2d", "MaxPool")]
    assert made[-1] == ("fc3", "Gemm")
    assert [row.layer for row in found.weights] == ["conv1", "conv2", "fc1", "fc2", "fc3"]


def test_what_cannot_be_told_is_left_out_and_counted() -> None:
    """A graph that computes something else: only the input is the same."""
    model, quantized = pair("lenet5", "onnxruntime")
    other, _ = pair("squeezenet1_1", "onnxruntime")
    found = match(other.graph, quantized.graph)
    assert [row.label for row in found.activations] == ["images"]
    assert found.n_unmatched == sum(
        node.op_type == "QuantizeLinear" for node in quantized.graph.node
    ) - 1  # fmt: skip
    assert found.weights == []
    itself = match(model.graph, model.graph)
    assert (itself.activations, itself.weights, itself.n_unmatched) == ([], [], 0), "nothing is quantized"


def test_each_layer_is_known_by_what_it_gives() -> None:
    model, quantized = pair("lenet5", "onnxruntime")
    layers = match(model.graph, quantized.graph).layers
    assert [one.layer for one in layers] == ["conv1", "conv2", "fc1", "fc2", "fc3"]
    made_by = {node.output[0]: node.op_type for node in quantized.graph.node}
    assert [made_by[one.qdq_output] for one in layers] == ["Conv"] * 2 + ["Gemm"] * 3
