"""What a stored network could be coded in, and the zeros that it stores."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgecnn.export.cost import tflite_storage, tflite_weight_bytes
from edgecnn.export.tflite import convert

FIXTURE = Path(__file__).parents[1] / "fixtures" / "qdq" / "onnxruntime.onnx"


def dense_layer(folder: Path, weights: np.ndarray, bias: np.ndarray) -> Path:
    """A float ONNX file of one fully connected layer: weights [outputs, inputs]."""
    n_outputs, n_inputs = weights.shape
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)],
        "dense",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, n_inputs])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, n_outputs])],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(bias, "b")],
    )
    path = folder / "dense.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def test_zeros_are_counted_with_the_bytes_that_they_take(tmp_path: Path) -> None:
    weights = np.arange(1, 81, dtype=np.float32).reshape(8, 10)
    weights[:, :5] = 0
    storage = tflite_storage(convert(dense_layer(tmp_path, weights, np.ones(8, np.float32))).data)
    assert storage.n_zeros == 40
    assert storage.zero_bytes == 160
    assert storage.zero_share == pytest.approx(40 / 88)


def test_distinct_floats_cannot_be_coded_in_less_and_shared_ones_can(tmp_path: Path) -> None:
    bias = np.arange(1, 65, dtype=np.float32)
    distinct = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    stored = 4 * (distinct.size + bias.size)
    assert tflite_storage(convert(dense_layer(tmp_path, distinct, bias)).data).entropy_bytes == stored
    # Half of them 1, half of them 2: a bit each, and two numbers of four bytes to be told.
    shared = np.where(np.arange(64 * 64).reshape(64, 64) % 2, 1, 2).astype(np.float32)
    found = tflite_storage(convert(dense_layer(tmp_path, shared, bias)).data)
    assert found.entropy_bytes == 64 * 64 // 8 + 8 + 4 * bias.size


def test_integers_are_coded_by_how_often_each_comes() -> None:
    """The same figure from the ONNX file's integers, whose order and layout are others."""
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(FIXTURE).graph.initializer}
    bits, n_zeros = 0.0, 0
    for values in constants.values():
        if values.dtype in (np.int8, np.int32) and values.ndim and values.size > 1:
            counts = np.unique(values, return_counts=True)[1]
            bits -= float(np.sum(counts * np.log2(counts / values.size)))
            n_zeros += int(np.sum(values == 0))
    data = convert(FIXTURE).data
    assert tflite_storage(data).entropy_bytes == pytest.approx(bits / 8, rel=0.02)
    assert tflite_storage(data).n_zeros == pytest.approx(n_zeros, abs=2)
    assert tflite_storage(data).entropy_bytes <= tflite_weight_bytes(data)


def test_int4_counts_half_a_byte_for_a_zero() -> None:
    eight, four = (tflite_storage(convert(FIXTURE, weights=weights).data) for weights in ("as-is", "int4"))
    assert four.n_zeros > eight.n_zeros, "coarser integers: more of them are zero"
    assert four.entropy_bytes < eight.entropy_bytes
    assert four.zero_bytes < four.n_zeros
