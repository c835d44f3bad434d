"""Files that are broken or made to do harm: a clear error or a result, quickly, and never anything else."""

from __future__ import annotations

import json
import random
import struct
import time
import tracemalloc
from functools import cache

import numpy as np
import onnx
import pytest
from export.tflite.nets import Net, lenet5, qdq
from hypothesis import given, settings
from hypothesis import strategies as st
from inspection.flat_files import everything_model, packed, small_model

from edgecnn.errors import EdgeCNNError, UsageError
from edgecnn.export.tflite import convert
from edgecnn.inspection import inspect

N_FLIPS = 800


def small_net() -> onnx.ModelProto:
    net = Net()
    x = net.conv(net.input("N", 2, 6, 6), 2, 3, 3)
    y = net("Add", net("Relu", x), net("MaxPool", x, kernel_shape=[3, 3], pads=[1] * 4))
    return net.model(net("Reshape", y, np.array([0, -1], np.int64)))


@cache
def sample(name: str) -> bytes:
    return {
        "float.tflite": lambda: convert(small_net()).data,
        "int8.tflite": lambda: convert(qdq(small_net())).data,
        "everything.tflite": lambda: packed(everything_model()),
        "float.onnx": lambda: small_net().SerializeToString(),
        "int8.onnx": lambda: qdq(small_net()).SerializeToString(),
    }[name]()


SAMPLES = ["float.tflite", "int8.tflite", "everything.tflite", "float.onnx", "int8.onnx"]


def outcome(path, data: bytes) -> str:
    """ "result" or "error"; whatever else is raised is a failure of the test."""
    path.write_bytes(data)
    try:
        found = inspect(path)
    except EdgeCNNError as fault:
        assert fault.exit_code == 2 and fault.where == str(path)
        return "error"
    assert sum(found.bytes_by_kind.values()) == len(data)
    json.dumps(found.to_json(), allow_nan=False)
    return "result"


@pytest.mark.parametrize("name", SAMPLES)
def test_flipped_bits(tmp_path, name):
    source = random.Random(name)
    outcomes = []
    for _ in range(N_FLIPS):
        data = bytearray(sample(name))
        for _ in range(source.choice([1, 1, 1, 8])):
            bit = source.randrange(8 * len(data))
            data[bit // 8] ^= 1 << bit % 8
        outcomes.append(outcome(tmp_path / name, bytes(data)))
    # Otherwise the flips would not reach what can go wrong, or nothing would be checked.
    assert 100 < outcomes.count("error") < N_FLIPS - 100


@pytest.mark.parametrize("name", SAMPLES)
def test_words_that_point_anywhere(tmp_path, name):
    words = [struct.pack("<i", value) for value in (-1, 0, 1, 4, 2**31 - 1, -(2**31), 0x10000, 0x7FFF)]
    source = random.Random(name)
    for _ in range(300):
        data = bytearray(sample(name))
        place = source.randrange(len(data) - 4)
        data[place : place + 4] = source.choice(words)
        outcome(tmp_path / name, bytes(data))


@pytest.mark.parametrize("name", ["int8.tflite", "int8.onnx"])
def test_truncated(tmp_path, name):
    data = sample(name)
    ends = range(0, len(data), max(1, len(data) // 150))
    for end in ends:
        if outcome(tmp_path / name, data[:end]) == "result":  # where a list ends, nobody can tell
            assert name.endswith("onnx") and onnx.load_from_string(data[:end]).opset_import
            assert end > 0.98 * len(data)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([b"", b"\x1c\0\0\0TFL3", b"\x08\x08", b"\x08\x08\x3a"]))
def test_any_bytes(tmp_path_factory, data, start):
    outcome(tmp_path_factory.getbasetemp() / "any", start + data)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "the file is empty"),
        (b"hello, this is no model at all", "neither a TFLite nor an ONNX"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "neither a TFLite nor an ONNX"),
        (bytes(64), "neither a TFLite nor an ONNX"),
        (b"\x08\x08\x3a\x02\x12\x00\x42\x02\x10\x12", "has no nodes"),
        (b"\x1c\0\0\0TFL3", "corrupt"),
        (b"\0\0\0\0TFL3" + bytes(64), "corrupt"),
    ],
)
def test_what_is_no_model(tmp_path, data, what):
    path = tmp_path / "model.tflite"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=what):
        inspect(path)


def test_files_that_cannot_be_read(tmp_path):
    for path in (tmp_path, tmp_path / "missing.tflite"):
        with pytest.raises(UsageError, match="cannot read it"):
            inspect(path)


@pytest.mark.parametrize("dims", [[2**31 - 1] * 4, [-5, 3, 3, 3], [1] * 40])
def test_absurd_shapes(tmp_path, dims):
    model = small_model()
    model.subgraphs[0].tensors[1].shape = dims
    assert outcome(tmp_path / "a.tflite", packed(model)) == ("result" if min(dims) < 0 else "error")
    network = small_net()
    network.graph.initializer[0].dims[:] = dims
    assert outcome(tmp_path / "a.onnx", network.SerializeToString()) == "error"


def test_a_shape_of_huge_activations_is_only_a_number(tmp_path):
    network = small_net()
    for dim in network.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_value = 2**62
    assert outcome(tmp_path / "a.onnx", network.SerializeToString()) == "result"


def hostile_tflite(n: int, step: int) -> bytes:
    """A new root table whose vector of subgraphs names n tables of a good model, `step` bytes apart."""
    model = packed(small_model())
    vtable = struct.pack("<7H", 14, 16, 0, 4, 8, 0, 12)  # slots 1, 2 and 4: codes, subgraphs, buffers
    root, vector = 8 + 16, 8 + 16 + 16
    base = vector + 4 + 4 * n
    old = struct.unpack_from("<I", model, 0)[0]
    slots = old - struct.unpack_from("<i", model, old)[0]

    def old_vector(slot: int) -> int:
        field = old + struct.unpack_from("<H", model, slots + 4 + 2 * slot)[0]
        return field + struct.unpack_from("<I", model, field)[0]

    subgraphs = old_vector(2)
    first = base + subgraphs + 4 + struct.unpack_from("<I", model, subgraphs + 4)[0]
    fields = [base + old_vector(1) - root - 4, vector - root - 8, base + old_vector(4) - root - 12]
    head = struct.pack("<I4s", root, b"TFL3") + vtable.ljust(16, b"\0") + struct.pack("<i3I", root - 8, *fields)
    offsets = (first + step * (i % 50) - (vector + 4 + 4 * i) for i in range(n))
    return head + struct.pack(f"<I{n}I", n, *offsets) + model


def hostile_onnx(n: int, node: bytes) -> bytes:
    """A graph of n times the same node of a few bytes."""
    nodes = node * n
    size = onnx.OperatorSetIdProto(version=len(nodes)).SerializeToString()[1:]
    return b"\x08\x08\x3a" + size + nodes + b"\x42\x02\x10\x12"


BOMBS = {
    "one subgraph very often": (lambda: hostile_tflite(20_000, step=0), "over and over"),
    "overlapping subgraphs": (lambda: hostile_tflite(20_000, step=4), "corrupt"),
    "one subgraph twice": (lambda: hostile_tflite(2, step=0), None),
    "empty nodes": (lambda: hostile_onnx(20_000, b"\x0a\x00"), "no operator"),
    "empty attributes": (lambda: hostile_onnx(5_000, b"\x0a\x07\x22\x01A\x2a\x00\x2a\x00"), None),
    "nested graphs": (lambda: nested_graphs(2_000), "deeper"),
}


def nested_graphs(depth: int) -> bytes:
    inner = b""
    for _ in range(depth):
        for tag in (b"\x32", b"\x2a", b"\x0a"):  # graph in attribute in node in graph
            inner = tag + bytes(onnx.OperatorSetIdProto(version=len(inner)).SerializeToString()[1:]) + inner
    return b"\x08\x08\x3a" + bytes(onnx.OperatorSetIdProto(version=len(inner)).SerializeToString()[1:]) + inner


@pytest.mark.parametrize("name", BOMBS)
def test_small_files_that_want_much_time_or_memory(tmp_path, name):
    make, refusal = BOMBS[name]
    path, data = tmp_path / "bomb", make()
    tracemalloc.start()
    began = time.process_time()
    assert outcome(path, data) == ("error" if refusal else "result")
    took = time.process_time() - began
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert took < 10  # tracemalloc makes it several times slower
    assert peak < 5_000_000 + 3000 * len(data)
    if refusal:
        with pytest.raises(UsageError, match=refusal):
            inspect(path)


@pytest.mark.parametrize("name", ["int8.tflite", "int8.onnx"])
def test_more_parts_than_any_model_are_refused(tmp_path, monkeypatch, name):
    for module in ("flatbuffer", "protobuf"):
        monkeypatch.setattr(f"edgecnn.inspection.{module}.MOST_PARTS", 10_000)
    assert outcome(tmp_path / name, sample(name)) == "result"
    for module in ("flatbuffer", "protobuf"):
        monkeypatch.setattr(f"edgecnn.inspection.{module}.MOST_PARTS", 20)
    assert outcome(tmp_path / name, sample(name)) == "error"


def test_lenet_itself_gives_a_result(tmp_path):
    assert outcome(tmp_path / "a.tflite", convert(lenet5()).data) == "result"
