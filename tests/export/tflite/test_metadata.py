"""TFLite Model Metadata, read back as FlatBuffers and archives are read."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from export.tflite.agreement import assert_agrees
from export.tflite.nets import Net, lenet5, qdq
from flatbuffers import encode, number_types
from flatbuffers.table import Table

from edgecnn.errors import UsageError
from edgecnn.export.tflite import convert
from edgecnn.export.tflite.metadata import Metadata, read

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SAID = Metadata(
    name="digits", description="handwritten", version="1", author="us", license="MIT",
    mean=(33.3,), std=(78.6,), labels=DIGITS,
)  # fmt: skip


class Read:
    """A table of a FlatBuffer, read by slot numbers."""

    def __init__(self, table: Table) -> None:
        self.table = table

    @classmethod
    def root(cls, data: bytes) -> Read:
        return cls(Table(data, encode.Get(number_types.UOffsetTFlags.packer_type, data, 0)))

    def _at(self, slot: int) -> int:
        offset = self.table.Offset(4 + 2 * slot)
        return self.table.Pos + offset if offset else 0

    def text(self, slot: int) -> str:
        at = self._at(slot)
        return self.table.String(at).decode() if at else ""

    def number(self, slot: int, flags: Any) -> int:
        at = self._at(slot)
        return self.table.Get(flags, at) if at else 0

    def child(self, slot: int) -> Read:
        return Read(Table(self.table.Bytes, self.table.Indirect(self._at(slot))))

    def children(self, slot: int) -> list[Read]:
        if not self._at(slot):
            return []
        start, n = (f(self._at(slot) - self.table.Pos) for f in (self.table.Vector, self.table.VectorLen))
        return [Read(Table(self.table.Bytes, self.table.Indirect(start + 4 * i))) for i in range(n)]

    def floats(self, slot: int) -> list[float]:
        return self.table.GetVectorAsNumpy(number_types.Float32Flags, self._at(slot) - self.table.Pos).tolist()


def attached(data: bytes) -> dict[str, bytes]:
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    return {entry.name.decode(): bytes(model.buffers[entry.buffer].data) for entry in model.metadata or []}


def byte(table: Read, slot: int) -> int:
    return table.number(slot, number_types.Uint8Flags)


def test_what_is_written_is_read_back():
    data = convert(qdq(lenet5()), metadata=SAID).data
    content = attached(data)["TFLITE_METADATA"]
    assert content[4:8] == b"M001"
    root = Read.root(content)
    assert [root.text(slot) for slot in (0, 1, 2, 4, 5, 7)] == [
        "digits", "handwritten", "1", "us", "MIT", "1.0.0",
    ]  # fmt: skip
    (graph,) = root.children(3)
    (image,), (output,) = graph.children(2), graph.children(3)
    assert (image.text(0), output.text(0)) == ("image", "output")
    content_of_image = image.child(3)
    assert byte(content_of_image, 0) == 2, "ImageProperties"
    assert byte(content_of_image.child(1), 0) == 2, "GRAYSCALE"
    (unit,) = image.children(4)
    assert byte(unit, 0) == 1, "NormalizationOptions"
    options = unit.child(1)
    np.testing.assert_allclose([options.floats(0), options.floats(1)], [[33.3], [78.6]], rtol=1e-6)
    assert byte(output.child(3), 0) == 1, "FeatureProperties"
    (file,) = output.children(6)
    assert (file.text(0), byte(file, 2)) == ("labels.txt", 2), "TENSOR_AXIS_LABELS"


def test_labels_are_a_stored_file_at_the_end():
    data = convert(qdq(lenet5()), metadata=SAID).data
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        (entry,) = archive.infolist()
        assert (entry.filename, entry.compress_type) == ("labels.txt", zipfile.ZIP_STORED)
        assert tuple(archive.read(entry).decode().splitlines()) == DIGITS
    assert data == convert(qdq(lenet5()), metadata=SAID).data


@pytest.mark.parametrize("runtime", ["litert", "tflite-runtime", "tflm"])
def test_runtimes_take_the_file(runtime):
    plain = assert_agrees(qdq(lenet5()), runtime=runtime)
    said = assert_agrees(qdq(lenet5()), runtime=runtime, metadata=SAID)
    assert len(plain.data) < len(said.data) < len(plain.data) + 1000


def test_without_it_nothing_is_added():
    data = convert(qdq(lenet5())).data
    assert attached(data) == {}
    assert not zipfile.is_zipfile(io.BytesIO(data))


def test_colours_and_other_inputs():
    net = Net()
    image, number = net.input(1, 3, 8, 8), net.input(1, 4, name="number")
    model = net.model(net.conv(image, 3, 2, 3), net("Relu", number))
    content = attached(convert(model, metadata=Metadata(name="two")).data)["TFLITE_METADATA"]
    (graph,) = Read.root(content).children(3)
    first, second = graph.children(2)
    assert [byte(table.child(3), 0) for table in (first, second)] == [2, 1]
    assert byte(first.child(3).child(1), 0) == 1, "RGB"
    assert [table.text(0) for table in (first, second)] == ["image", "number"]
    assert not first.children(4)
    assert [table.text(0) for table in graph.children(3)] == ["output", "output1"]


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        (Metadata(labels=("one", "two")), "2 labels for 10 classes"),
        (Metadata(labels=(*DIGITS[:9], "")), "empty"),
        (Metadata(mean=(1.0,)), "different lengths"),
        (Metadata(mean=(1.0,) * 3, std=(1.0,) * 3), "3 means for 1 channels"),
        (Metadata(mean=(1.0,), std=(0.0,)), "not positive"),
    ],
)
def test_what_does_not_fit_is_refused(wrong, what):
    with pytest.raises(UsageError, match=what):
        convert(lenet5(), metadata=wrong)


def test_a_file_of_its_fields_is_read(tmp_path: Path):
    path = tmp_path / "digits.json"
    path.write_text(json.dumps(asdict(SAID)))
    assert read(path) == SAID
    path.write_text('{"name": "digits"}')
    assert read(path) == Metadata(name="digits")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{", "not JSON"),
        ("[]", "metadata: the whole"),
        ('{"nmae": "digits"}', "metadata: nmae: Unexpected"),
        ('{"mean": "33"}', "metadata: mean"),
        ('{"preprocessing": 1}', "not an edgecnn manifest"),
    ],
)
def test_a_file_that_is_neither_is_refused(tmp_path: Path, text: str, what: str):
    path = tmp_path / "digits.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=what) as fault:
        read(path)
    assert str(path) in str(fault.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(UsageError, match="cannot read it: No such file"):
        read(tmp_path / "none.json")
