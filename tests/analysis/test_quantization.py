"""The figures of a tensor, on a network small enough to be worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgecnn.analysis.matching import match
from edgecnn.analysis.quantization import analyse, sqnr_db

SCALE = 0.5
# Rounding to halves leaves 0, 0.25 (to even) and -0.2; 40 is beyond 0.5 * 63.
INPUTS = np.array([1.0, 0.25, 0.7, 40.0], np.float32).reshape(1, 4, 1, 1)


def model(quantized: bool) -> onnx.ModelProto:
    """Relu(x), as it is, or with its input in uint8 steps and its output in int8 steps."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4, 1, 1]) for name in ("x", "y")]
    constants = [
        numpy_helper.from_array(np.array(SCALE, np.float32), "s"),
        numpy_helper.from_array(np.array(64, np.uint8), "zero_in"),
        numpy_helper.from_array(np.array(64, np.int8), "zero_out"),
    ]
    if quantized:
        nodes = [
            helper.make_node("QuantizeLinear", ["x", "s", "zero_in"], ["xq"]),
            helper.make_node("DequantizeLinear", ["xq", "s", "zero_in"], ["xd"]),
            helper.make_node("Relu", ["xd"], ["r"]),
            helper.make_node("QuantizeLinear", ["r", "s", "zero_out"], ["rq"]),
            helper.make_node("DequantizeLinear", ["rq", "s", "zero_out"], ["y"]),
        ]
    else:
        nodes, constants = [helper.make_node("Relu", ["x"], ["y"])], []
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_figures_worked_out_by_hand() -> None:
    given, put_out = analyse(model(False), model(True), INPUTS, split="validation").activations
    assert (given.tensor, given.low, given.high) == ("x", -32.0, 0.5 * (255 - 64))
    assert (given.float_low, given.float_high, given.clipped) == (0.25, 40.0, 0.0)
    signal = float(np.sum(INPUTS.astype(np.float64) ** 2))
    rounding = 0.25**2 + 0.2**2
    assert given.sqnr_db == pytest.approx(10 * math.log10(signal / rounding), abs=1e-4)
    # The output holds -96 to 31.5: 40 is clipped by 8.5, the rest came in rounded.
    assert (put_out.low, put_out.high, put_out.clipped) == (-96.0, 31.5, 0.25)
    assert put_out.sqnr_db == pytest.approx(10 * math.log10(signal / (rounding + 8.5**2)), abs=1e-4)
    assert put_out.own_sqnr_db == pytest.approx(put_out.sqnr_db, abs=1e-4), "the same rounding, done once"


def test_images_are_run_in_parts_and_counted_together() -> None:
    many = np.repeat(INPUTS, 37, axis=0)
    many[36, 0] = 90.0
    found = analyse(model(False), model(True), many, split="validation")
    assert found.n_images == 37
    assert found.activations[0].float_high == 90.0
    assert found.activations[1].clipped == pytest.approx(38 / (37 * 4))


def test_no_error_and_no_signal_have_no_ratio() -> None:
    assert sqnr_db(1.0, 0.0) is None
    assert sqnr_db(0.0, 0.0) is None
    assert sqnr_db(100.0, 1.0) == 20.0
    exact = analyse(model(False), model(True), np.ones((2, 4, 1, 1), np.float32), split="validation")
    assert [row.sqnr_db for row in exact.activations] == [None, None]


def with_weights(integers: np.ndarray, scales: np.ndarray, axis: int, block: int = 0) -> onnx.ModelProto:
    """x @ w with 4-bit weights [4, 2] of the given scales, per channel or blockwise."""
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", k]) for name, k in (("x", 4), ("y", 2))
    ]
    packed = helper.make_tensor("q", TensorProto.INT4, integers.shape, integers.ravel())
    options = {"axis": axis} | ({"block_size": block} if block else {})
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "scale"], ["w"], **options),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    constants = [packed, numpy_helper.from_array(scales.astype(np.float32), "scale")]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def with_float_weights(values: np.ndarray) -> onnx.ModelProto:
    model = with_weights(np.zeros((4, 2), int), np.ones(2), axis=1)
    del model.graph.node[0], model.graph.initializer[:]
    model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), "w"))
    return model


def test_weights_of_four_bits_have_their_error() -> None:
    integers, scales = np.array([[1, -8], [2, 7], [3, 0], [4, 1]]), np.array([0.5, 0.25])
    exact = integers * scales + np.array([[0.1, 0.0], [0, 0], [0, 0], [0, 0]])
    (found,) = match(with_float_weights(exact).graph, with_weights(integers, scales, axis=1).graph).weights
    assert found.is_per_channel
    np.testing.assert_allclose(found.original - found.dequantized, exact - integers * scales, atol=1e-6)


def test_blockwise_weights_are_left_out_and_counted() -> None:
    quantized = with_weights(np.ones((4, 2), int), np.ones((2, 2)), axis=0, block=2)
    found = match(with_float_weights(np.ones((4, 2))).graph, quantized.graph)
    assert (found.weights, found.n_unmatched) == ([], 1)
