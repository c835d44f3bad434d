"""What an .onnx file names as its data lies beside it, or no runtime sees the file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny_models
from onnx import TensorProto, helper

from edgecnn.ondevice.manifest import DeviceError
from edgecnn.ondevice.runtimes import load_model
from edgecnn.ondevice.runtimes.external_data import check_external_data


def tensor(location: str) -> TensorProto:
    weights = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in (("length", "16"), ("location", location), ("offset", "0")):
        weights.external_data.add(key=key, value=value)
    return weights


def initializer(location: str) -> onnx.GraphProto:
    """x + w, where w lies at `location`."""
    node = helper.make_node("Add", ["x", "w"], ["y"])
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy")
    return helper.make_graph([node], "g", [x], [y], [tensor(location)])


def in_a_branch(location: str) -> onnx.GraphProto:
    constant = helper.make_node("Constant", [], ["w"], value=tensor(location))
    branch = helper.make_graph(
        [constant], "b", [], [helper.make_tensor_value_info("w", TensorProto.FLOAT, [4])]
    )
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    condition = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    return helper.make_graph(
        [node], "g", [condition], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])]
    )


def save(graph: onnx.GraphProto, folder: Path) -> Path:
    """In `folder`, beside links that lead out of it."""
    folder.mkdir()
    secret = folder.parent / "secret.bin"
    secret.write_bytes(np.arange(4, dtype=np.float32).tobytes())
    (folder / "own.bin").write_bytes(secret.read_bytes())
    (folder / "link.bin").symlink_to(secret)
    (folder / "up").symlink_to(folder.parent)
    (folder / "zero.bin").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe.bin")
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    return folder / "m.onnx"


@pytest.mark.parametrize(
    "location",
    ["../secret.bin", "..\\secret.bin", "/etc/passwd", "link.bin", "up/secret.bin", "zero.bin", "pipe.bin",
     "not there", "", ".", "*/_ORT_MEM_ADDR_/*", "own.bin\0"],
)  # fmt: skip
@pytest.mark.parametrize("make", [initializer, in_a_branch])
def test_data_elsewhere_is_not_run(make, location: str, tmp_path: Path) -> None:
    path = save(make(location), tmp_path / "model")
    with pytest.raises(DeviceError, match=r"outside of the model's folder|external data is missing"):
        load_model("onnxruntime", path)


def test_data_beside_the_model_is_run(tmp_path: Path) -> None:
    runtime = load_model("onnxruntime", save(initializer("own.bin"), tmp_path / "model"))
    (found,) = runtime.run_all([np.zeros((1, 4), np.float32)])
    assert found.tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize(
    "content", [b"\x3a\xff\xff\xff\xff\x0f", b"\x3b", b"\xff" * 12, b"\x3a\x05\x2a", b"\x09\0"]
)
def test_what_is_no_protobuf_is_told(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(DeviceError, match=r"cannot load m\.onnx"):
        check_external_data(tmp_path / "m.onnx")


def test_a_file_without_such_data_passes(tmp_path: Path) -> None:
    check_external_data(tiny_models.write_qdq_onnx(tmp_path / "m.onnx"))
