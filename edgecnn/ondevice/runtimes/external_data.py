"""Where an .onnx file says that its weights lie: beside it, or it is not run.

onnxruntime up to 1.20 maps whatever file is named there, `../`, absolute, or behind a link. This walks over the
file by its field numbers alone (onnx.proto), so that a board needs nothing more to check it.
"""

from __future__ import annotations

import mmap
from pathlib import Path, PurePosixPath
from typing import Any, Iterator, List, Tuple

from edgecnn.ondevice.manifest import DeviceError

# By message: the fields in which messages lie that lead to tensors, and what they are.
_FIELDS = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Graph": {1: "Node", 5: "Tensor", 15: "Sparse"},
    "Function": {7: "Node", 11: "Attribute"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "Sparse", 23: "Sparse"},
    "Sparse": {1: "Tensor", 2: "Tensor"},
    "Tensor": {13: "Entry"},
    "Entry": {},
}
_BYTES = 2
_KEY, _VALUE = 1, 2


def check_external_data(model: Path) -> None:
    """Raises DeviceError where the .onnx file names data that is no regular file in its own folder."""
    if not model.stat().st_size:
        return  # nothing to map; the runtime says what is wrong
    with model.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            locations = set(_locations(data))
        except (ValueError, IndexError) as fault:
            raise DeviceError(
                f"onnxruntime cannot load {model.name}: no ONNX model ({fault})", "the file is damaged"
            ) from fault
    for location in sorted(locations):
        _check(model.parent, location)


def _check(folder: Path, location: str) -> None:
    fix = "keep the .onnx file and its data file in one folder, or save them as one file"
    parts = PurePosixPath(location.replace("\\", "/"))
    leads_out = parts.is_absolute() or ".." in parts.parts or "\0" in location
    if leads_out or folder.resolve() not in (folder / parts).resolve().parents:
        raise DeviceError(f"a constant lies in a file outside of the model's folder ({location!r})", fix)
    if not (folder / parts).is_file():
        raise DeviceError(f"its external data is missing: {location!r}", fix)


def _locations(data: Any) -> Iterator[str]:
    """Every `location` of a tensor's external data. Raises ValueError, IndexError for what is no protobuf."""
    waiting: List[Tuple[str, int, int]] = [("Model", 0, len(data))]
    while waiting:
        kind, start, end = waiting.pop()
        texts = {}
        for number, at, stop in _byte_fields(data, start, end):
            inner = _FIELDS[kind].get(number)
            if inner is not None:
                waiting.append((inner, at, stop))
            elif kind == "Entry":
                texts[number] = data[at:stop]
        if kind == "Entry" and texts.get(_KEY) == b"location":
            yield texts.get(_VALUE, b"").decode("utf-8")


def _byte_fields(data: Any, start: int, end: int) -> Iterator[Tuple[int, int, int]]:
    """Number, first and last place of each field that holds bytes, in the message between `start` and `end`."""
    while start < end:
        tag, start = _varint(data, start)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            _, start = _varint(data, start)
        elif wire in (1, 5):
            start += 8 if wire == 1 else 4
        elif wire == _BYTES:
            length, start = _varint(data, start)
            if start + length > end:
                raise ValueError("a field is longer than what it lies in")
            yield number, start, start + length
            start += length
        else:  # groups: nobody writes them
            raise ValueError(f"a field of wire type {wire}")
    if start != end:
        raise ValueError("a field is longer than what it lies in")


def _varint(data: Any, at: int) -> Tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (2**64 - 1), at
    raise ValueError("a number is too long")
