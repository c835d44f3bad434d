"""TFLite Model Metadata: what Android's tooling reads to feed a model images and name its classes.

A FlatBuffer of its own (`metadata_schema.fbs` of TFLite Support) in a buffer of the model, named
TFLITE_METADATA; the file of labels is appended to the .tflite file as a zip archive, which readers of models do
not see and readers of archives find at the end.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydantic

from edgecnn import files
from edgecnn.errors import UsageError
from edgecnn.export.tflite.flatbuffer import FlatWriter
from edgecnn.export.tflite.model import Model, Tensor
from edgecnn.ondevice.manifest import DeviceError, Manifest
from edgecnn.ondevice.text_file import parse_json

METADATA_NAME = "TFLITE_METADATA"
LABELS_FILE = "labels.txt"
_FILE_IDENTIFIER = b"M001"
# The oldest version of the schema that has all that we write.
_PARSER_VERSION = "1.0.0"
# Numbers of the schema's unions and enumerations.
_FEATURE_PROPERTIES, _IMAGE_PROPERTIES = 1, 2
_NORMALIZATION = 1
_COLOR_SPACES = {3: 1, 1: 2}  # channels -> RGB, GRAYSCALE
_AXIS_LABELS = 2


@dataclass(frozen=True)
class Metadata:
    """What a .tflite file says of itself. An input is (pixel - mean) / std of pixels 0..255: one number for all
    channels or one each. `labels` name the classes along the last axis of the first output.
    """

    __pydantic_config__ = pydantic.ConfigDict(extra="forbid", strict=True)

    name: str = ""
    description: str = ""
    version: str = ""
    author: str = ""
    license: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()


def read(path: Path) -> Metadata:
    """The `Metadata` in a JSON file: its fields by name, or the manifest of an edgecnn build.

    Raises UsageError for a file that is neither.
    """
    try:
        text = files.read_text(path)
        raw = parse_json(text)
    except OSError as fault:
        raise UsageError(f"cannot read it: {fault.strerror}", where=str(path)) from fault
    except ValueError as fault:
        raise UsageError(f"not JSON: {fault}", where=str(path)) from fault
    try:
        if isinstance(raw, dict) and "preprocessing" in raw:
            return _of_manifest(Manifest.from_json(text))
        return pydantic.TypeAdapter(Metadata).validate_json(text)
    except DeviceError as fault:
        raise UsageError(fault.what, where=str(path), fix=fault.fix) from fault
    except pydantic.ValidationError as fault:
        first = fault.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the whole"
        known = ", ".join(Metadata.__dataclass_fields__)
        raise UsageError(
            f"metadata: {key}: {first['msg']}", where=str(path), fix=f"an object with any of: {known}"
        ) from fault


def _of_manifest(manifest: Manifest) -> Metadata:
    """The manifest scales pixels to 0..1 first."""
    pre = manifest.preprocessing
    mean, std = (tuple(255 * value for value in values) for values in (pre.mean, pre.std))
    return Metadata(name=manifest.recipe_name, mean=mean, std=std, labels=manifest.class_names)


def encode(metadata: Metadata, model: Model) -> bytes:
    """The content of the buffer TFLITE_METADATA."""
    _check(metadata, model)
    out = FlatWriter(1024)
    inputs = [_input(out, metadata, tensor) for tensor in model.inputs]
    outputs = [_output(out, metadata, tensor, i) for i, tensor in enumerate(model.outputs)]
    subgraph = out.table(7, (2, "offset", out.offsets(inputs), 0), (3, "offset", out.offsets(outputs), 0))
    texts = {0: metadata.name, 1: metadata.description, 2: metadata.version, 4: metadata.author}
    texts |= {5: metadata.license, 7: _PARSER_VERSION}
    fields = [(slot, "offset", out.string(text), 0) for slot, text in texts.items() if text]
    root = out.table(8, (3, "offset", out.offsets([subgraph]), 0), *fields)
    return out.finish(root, _FILE_IDENTIFIER)


def append_labels(data: bytes, labels: tuple[str, ...]) -> bytes:
    """The .tflite file with the labels, one a line, in an archive at its end. Same labels, same bytes."""
    if not labels:
        return data
    buffer = io.BytesIO(data)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_STORED) as archive:  # Android reads stored files only.
        archive.writestr(zipfile.ZipInfo(LABELS_FILE), "\n".join(labels) + "\n")
    return buffer.getvalue()


def _check(metadata: Metadata, model: Model) -> None:
    if len(metadata.mean) != len(metadata.std):
        raise UsageError("metadata: mean and std have different lengths")
    if any(std <= 0 for std in metadata.std):
        raise UsageError("metadata: std is not positive")
    channels = model.inputs[0].shape[-1] if model.inputs and model.inputs[0].shape else 1
    if metadata.mean and len(metadata.mean) not in (1, channels):
        fix = f"give one mean and std, or {channels}"
        raise UsageError(f"metadata: {len(metadata.mean)} means for {channels} channels", fix=fix)
    classes = model.outputs[0].shape[-1] if model.outputs[0].shape else 1
    if metadata.labels and len(metadata.labels) != classes:
        raise UsageError(f"metadata: {len(metadata.labels)} labels for {classes} classes")
    if any(not label or "\n" in label for label in metadata.labels):
        raise UsageError("metadata: a label is empty or has more than one line")


def _input(out: FlatWriter, metadata: Metadata, tensor: Tensor) -> int:
    """TensorMetadata of an input: an image where its last axis can be colours."""
    is_image = len(tensor.shape) == 4 and tensor.shape[-1] in _COLOR_SPACES
    if is_image:
        kind, properties = _IMAGE_PROPERTIES, out.table(2, (0, "int8", _COLOR_SPACES[tensor.shape[-1]], 0))
    else:
        kind, properties = _FEATURE_PROPERTIES, out.table(0)
    content = out.table(3, (0, "uint8", kind, 0), (1, "offset", properties, 0))
    units = 0
    if metadata.mean:
        mean, std = (out.numbers(np.asarray(v, np.float32)) for v in (metadata.mean, metadata.std))
        options = out.table(2, (0, "offset", mean, 0), (1, "offset", std, 0))
        units = out.offsets([out.table(2, (0, "uint8", _NORMALIZATION, 0), (1, "offset", options, 0))])
    name = out.string(tensor.memory.name or "image")
    return out.table(7, (0, "offset", name, 0), (3, "offset", content, 0), (4, "offset", units, 0))


def _output(out: FlatWriter, metadata: Metadata, tensor: Tensor, index: int) -> int:
    """TensorMetadata of an output; the first one carries the labels."""
    content = out.table(3, (0, "uint8", _FEATURE_PROPERTIES, 0), (1, "offset", out.table(0), 0))
    files = 0
    if metadata.labels and index == 0:
        named = (0, "offset", out.string(LABELS_FILE), 0)
        files = out.offsets([out.table(4, named, (2, "int8", _AXIS_LABELS, 0))])
    name = out.string(tensor.memory.name or f"output{index or ''}")
    return out.table(7, (0, "offset", name, 0), (3, "offset", content, 0), (6, "offset", files, 0))
