"""ONNX files that are made to do harm: small ones that ask for much, and ones that reach for other files."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgecnn.errors import EdgeCNNError
from edgecnn.export.tflite import convert
from edgecnn.operations import convert as convert_file

LONGEST_S = 5.0


def model(
    nodes: list[onnx.NodeProto],
    *,
    shape: tuple[int, ...] = (1, 4),
    constants: dict[str, np.ndarray] | None = None,
    functions: list[onnx.FunctionProto] | None = None,
) -> onnx.ModelProto:
    """From `x` [shape] to `y` by `nodes`."""
    graph = helper.make_graph(
        nodes,
        "hostile",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    return helper.make_model(graph, opset_imports=opsets, functions=functions or [], ir_version=8)


def added(constant: onnx.NodeProto, **constants: np.ndarray) -> onnx.ModelProto:
    """x + the constant `c` that a node makes."""
    return model([constant, helper.make_node("Add", ["x", "c"], ["y"])], constants=constants)


def _int64(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def huge_range() -> onnx.ModelProto:
    node = helper.make_node("Range", ["start", "end", "step"], ["c"])
    return added(node, start=np.int64(0), end=np.int64(2**60), step=np.int64(1))


def huge_expand() -> onnx.ModelProto:
    node = helper.make_node("Expand", ["one", "shape"], ["c"])
    return added(node, one=np.ones((1, 1), np.float32), shape=_int64(2**20, 2**20))


def huge_fill() -> onnx.ModelProto:
    return added(helper.make_node("ConstantOfShape", ["shape"], ["c"]), shape=_int64(2**40))


def huge_outer_product() -> onnx.ModelProto:
    node = helper.make_node("Mul", ["column", "row"], ["c"])
    column = np.ones((2**17, 1), np.float32)
    return added(node, column=column, row=column.reshape(1, -1))


def doubling_concatenations() -> onnx.ModelProto:
    """40 nodes, each twice as long as the one before."""
    names = ["one", *(f"c{k}" for k in range(40)), "c"]
    nodes = [helper.make_node("Concat", [a, a], [b], axis=0) for a, b in pairwise(names)]
    return model(
        [*nodes, helper.make_node("Add", ["x", "c"], ["y"])], constants={"one": np.ones(8, np.float32)}
    )


def many_sums() -> onnx.ModelProto:
    """150 nodes, each of which is small enough by itself: 2^32 elements and more in all."""
    filled = helper.make_node("ConstantOfShape", ["shape"], ["c0"])
    sums = [helper.make_node("Add", [f"c{k}", "one"], [f"c{k + 1}"]) for k in range(150)]
    mean = helper.make_node("ReduceMean", ["c150"], ["c"], keepdims=1)
    last = helper.make_node("Add", ["x", "c"], ["y"])
    constants = {"shape": _int64(1, 2**25), "one": np.ones(1, np.float32)}
    return model([filled, *sums, mean, last], constants=constants)


def many_reductions() -> onnx.ModelProto:
    """Small results of a large constant, again and again."""
    filled = helper.make_node("ConstantOfShape", ["shape"], ["big"])
    means = [helper.make_node("ReduceMean", ["big"], [f"m{k}"], keepdims=1) for k in range(300)]
    sums = [helper.make_node("Add", [f"m{k}", f"s{k}" if k else "m0"], [f"s{k + 1}"]) for k in range(300)]
    last = helper.make_node("Add", ["x", "s300"], ["y"])
    return model([filled, *means, *sums, last], constants={"shape": _int64(1, 2**25)})


def huge_input() -> onnx.ModelProto:
    return model([helper.make_node("Relu", ["x"], ["y"])], shape=(1, 2**30, 2**30))


def negative_input() -> onnx.ModelProto:
    return model([helper.make_node("Relu", ["x"], ["y"])], shape=(1, -5))


def huge_output() -> onnx.ModelProto:
    nodes = [helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="nearest")]
    scales = np.array([1, 1, 2**20, 2**20], np.float32)
    return model(nodes, shape=(1, 1, 2**8, 2**8), constants={"scales": scales})


def many_nodes() -> onnx.ModelProto:
    names = ["x", *(f"t{k}" for k in range(20_000)), "y"]
    return model([helper.make_node("Relu", [a], [b]) for a, b in pairwise(names)])


def _function(name: str, inner: str, n_calls: int) -> onnx.FunctionProto:
    names = ["a", *(f"t{k}" for k in range(n_calls - 1)), "b"]
    domain = "own" if inner.startswith("f") else ""
    nodes = [helper.make_node(inner, [a], [b], domain=domain) for a, b in pairwise(names)]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    return helper.make_function("own", name, ["a"], ["b"], nodes, opsets)


def functions_that_multiply() -> onnx.ModelProto:
    """10 functions of 10 calls each stand for 10^10 nodes."""
    functions = [_function(f"f{k}", f"f{k + 1}" if k < 9 else "Relu", 10) for k in range(10)]
    return model([helper.make_node("f0", ["x"], ["y"], domain="own")], functions=functions)


def function_that_calls_itself() -> onnx.ModelProto:
    node = helper.make_node("f0", ["x"], ["y"], domain="own")
    return model([node], functions=[_function("f0", "f0", 2)])


def functions_in_a_circle() -> onnx.ModelProto:
    node = helper.make_node("f0", ["x"], ["y"], domain="own")
    return model([node], functions=[_function("f0", "f1", 1), _function("f1", "f0", 1)])


def nodes_in_a_circle() -> onnx.ModelProto:
    return model([helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])])


BOMBS: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "a range": (huge_range, "1,152,921,504,606,846,976 elements"),
    "an expansion": (huge_expand, "1,099,511,627,776 elements"),
    "a filled tensor": (huge_fill, "1,099,511,627,776 elements"),
    "an outer product": (huge_outer_product, "17,179,869,184 elements"),
    "concatenations": (doubling_concatenations, "elements"),
    "sums": (many_sums, "too many elements in all"),
    "means": (many_reductions, "too many elements in all"),
    "an input": (huge_input, "which no device holds"),
    "an input of less than nothing": (negative_input, "shape"),
    "an output": (huge_output, "which no device holds"),
    "nodes": (many_nodes, "20,001 nodes; at most 10,000"),
    "functions": (functions_that_multiply, "10,000,000,000 nodes"),
    "a function that calls itself": (function_that_calls_itself, "calls itself"),
    "functions in a circle": (functions_in_a_circle, "calls itself"),
    "nodes in a circle": (nodes_in_a_circle, ""),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_that_asks_for_much_is_refused_at_once(name: str, tmp_path: Path) -> None:
    make, said = BOMBS[name]
    path = tmp_path / "bomb.onnx"
    onnx.save(make(), path)
    began = time.process_time()
    with pytest.raises(EdgeCNNError, match=said):
        convert(path)
    assert time.process_time() - began < LONGEST_S


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/passwd", "link.bin"])
def test_weights_outside_of_the_models_folder_are_not_read(location: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(16))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    hostile = model([helper.make_node("Add", ["x", "w"], ["y"])], constants={"w": np.zeros(4, np.float32)})
    weights = hostile.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value=location)
    (folder / "m.onnx").write_bytes(hostile.SerializeToString())
    with pytest.raises(EdgeCNNError):
        convert_file(folder / "m.onnx", tmp_path / "out.tflite")
    assert not (tmp_path / "out.tflite").exists()
