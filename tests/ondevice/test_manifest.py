"""The JSON beside a model: what is written is read back, what is not a manifest is told."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import tiny_models

from edgecnn.ondevice.manifest import MOST_BYTES, DeviceError, Manifest


def test_round_trip(models):
    manifest = tiny_models.manifest_for(models.int8_tflite, "int8")
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert Manifest.read_for(models.int8_tflite) == manifest


def test_it_lies_beside_the_model():
    assert Manifest.path_for(Path("a/b.int8.tflite")) == Path("a/b.int8.tflite.json")


def test_no_manifest(tmp_path: Path):
    with pytest.raises(DeviceError, match=r"no manifest beside x\.tflite: No such file"):
        Manifest.read_for(tmp_path / "x.tflite")


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"schema_version": 1}', '{"schema_version": "new"}'])
def test_not_a_manifest(text: str):
    with pytest.raises(DeviceError, match="not an edgecnn manifest"):
        Manifest.from_json(text)


def test_an_unknown_key_is_refused(models):
    raw = json.loads(tiny_models.manifest_for(models.fp32_onnx).to_json())
    raw["colour"] = "red"
    with pytest.raises(DeviceError, match="colour"):
        Manifest.from_json(json.dumps(raw))


def test_a_newer_schema_asks_for_an_upgrade(models):
    raw = json.loads(tiny_models.manifest_for(models.fp32_onnx).to_json())
    raw["schema_version"] = 3
    with pytest.raises(DeviceError, match="schema version 3; this edgecnn reads up to 2") as caught:
        Manifest.from_json(json.dumps(raw))
    assert "pip install -U edgecnn" in caught.value.fix


def test_a_manifest_of_version_1_means_what_it_meant(models):
    """Version 1 knew one way of fitting a picture: squeezed, bilinearly."""
    raw = json.loads(tiny_models.manifest_for(models.fp32_onnx).to_json())
    raw["schema_version"] = 1
    for newer in ("fit", "crop_share", "resize_filter", "color_order"):
        del raw["preprocessing"][newer]
    pre = Manifest.from_json(json.dumps(raw)).preprocessing
    assert (pre.fit, pre.crop_share, pre.resize_filter, pre.color_order) == ("stretch", 1.0, "bilinear", "RGB")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("class_names", [1, 2]), ("class_names", 5), ("n_params", -1), ("n_macs", "many"), ("inputs", [5]),
        ("format", 1), ("tool_versions", []), ("reject_below", "half"), ("schema_version", -1),
        ("schema_version", float("nan")), ("preprocessing.width", "a"), ("preprocessing.width", -1),
        ("preprocessing.height", 0), ("preprocessing.width", 60_000_000), ("preprocessing.channels", 1.5),
        ("preprocessing.std", [0]), ("preprocessing.std", [-1.0]), ("preprocessing.std", [0.3, 0.3]),
        ("preprocessing.mean", [float("nan")]), ("preprocessing.mean", ["a"]),
        ("preprocessing.crop_share", 0), ("preprocessing.fit", 1),
    ],
)  # fmt: skip
def test_a_value_that_is_not_what_its_name_says_is_refused(place: str, value: object, models):
    raw = json.loads(tiny_models.manifest_for(models.fp32_onnx).to_json())
    *above, key = place.split(".")
    (raw[above[0]] if above else raw)[key] = value
    with pytest.raises(DeviceError, match="not an edgecnn manifest"):
        Manifest.from_json(json.dumps(raw))


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00", b"[" * 200_000, b'{"schema_version": ' + b"9" * 6000 + b"}"]
)
def test_what_is_no_text_or_no_json_is_no_manifest(content: bytes, tmp_path: Path):
    Manifest.path_for(tmp_path / "x.tflite").write_bytes(content)
    with pytest.raises(DeviceError, match="not an edgecnn manifest"):
        Manifest.read_for(tmp_path / "x.tflite")


@pytest.mark.parametrize("kind", ["pipe", "device", "large"])
def test_a_manifest_is_a_regular_file_of_some_size(kind: str, tmp_path: Path):
    path = Manifest.path_for(tmp_path / "x.tflite")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.write_bytes(b" " * (MOST_BYTES + 1))
    with pytest.raises(DeviceError, match=r"no regular file|more than"):
        Manifest.read_for(tmp_path / "x.tflite")
