"""Builds off the main road, for real: 4-bit weights by training, and pictures without labels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli.commands import run, told
from digits_for_tests import write_npz
from PIL import Image
from safetensors.torch import save_file

from edgecnn import build_folder
from edgecnn.models import build_model

FOUR_BITS = """\
version: 1
name: small
data: {npz: {path: digits.npz, size: 28, channels: 1}}
model: {lenet5: {widths: [4, 6, 16, 12]}}
train: {epochs: 4, batch_size: 32, threads: 1}
compress:
  - quantize: {calibration_images: 50, engine: onnxruntime}
  - qat: {weights: int4, int8_layers: [conv1], epochs: 2, teacher: dense}
reject: {keep: 95 %}
budget:
  int4.tflite: {max_size: 5.5 kB, max_accuracy_drop: 20 pt}
"""
MANY_CHANNELS = """\
version: 1
name: many
data: {{npz: {{path: many.npz, size: 28, channels: {channels}, normalization: {{mean: {mean}, std: [0.2]}}}}}}
model: {{lenet5: {{widths: [4, 6, 16, 12]}}}}
train: {{epochs: 8, batch_size: 16, learning_rate: 1e-2, threads: 1, augment: [flip]}}
compress:
  - quantize: {{calibration_images: 20, engine: onnxruntime}}
"""
UNLABELLED = """\
version: 1
name: unlabelled
data: {pictures: {path: pictures, size: 48, classes: names.txt, test_share: 0.5}}
model: {squeezenet1_1: {weights: net.safetensors}}
train: {epochs: 0, threads: 1}
compress:
  - quantize: {calibration_images: 10, engine: onnxruntime}
reject: {keep: 80 %}
"""


@pytest.fixture
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_four_bit_weights_from_the_recipe_to_the_files(at_home: Path, measured_little: None) -> None:
    write_npz(at_home / "digits.npz", n_images=1_500)
    (at_home / "recipe.yaml").write_text(FOUR_BITS)
    result = run("build", "recipe.yaml", "-o", "out")
    assert result.exit_code == 0, result.stderr
    report = build_folder.read_report(at_home / "out")
    by_key = {artifact.key: artifact for artifact in report.artifacts}
    assert {"int4.onnx", "int4.tflite"} < by_key.keys()
    assert (
        by_key["int4.tflite"].size_bytes < by_key["int4.onnx"].size_bytes - 0.4 * by_key["fp32.onnx"].n_params
    )
    assert [stage.stage for stage in report.stages] == ["train", "1-quantize", "2-qat"]
    assert report.stages[1].file_bytes > report.stages[2].file_bytes
    assert report.parity and all(record.candidate == "int4.tflite" for record in report.parity)
    assert max(record.max_lsb for record in report.parity) <= 2
    trained = [row for row in by_key["int4.tflite"].measurements if row.num_threads == 1]
    assert all(row.rejection is not None and row.accuracy > 0.6 for row in trained)
    assert run("validate", "out").exit_code == 0
    assert "int4.tflite" in run("report", "out", "--format", "markdown").stdout
    layers = json.loads(run("inspect", at_home / "out" / "small.int4.tflite", "--json").stdout)["layers"]
    assert [one["weights"]["dtype"] for one in layers if one["n_params"]] == ["int8"] + ["int4"] * 4


@pytest.mark.parametrize("channels", [2, 4])
def test_arrays_of_any_number_of_channels(at_home: Path, measured_little: None, channels: int) -> None:
    """The class of a picture is the channel that is bright: who mixes the channels up is as good as chance."""
    random, labels = np.random.default_rng(0), np.arange(200) % channels
    images = random.integers(0, 120, (200, 20, 24, channels)).astype(np.uint8)
    images[np.arange(200), :, :, labels] += 120
    np.savez(at_home / "many.npz", images=images, labels=labels)
    mean = [0.3 + 0.05 * c for c in range(channels)]
    (at_home / "recipe.yaml").write_text(MANY_CHANNELS.format(channels=channels, mean=mean))
    result = run("build", "recipe.yaml", "-o", "out")
    assert result.exit_code == 0, result.output
    report = build_folder.read_report(at_home / "out")
    assert {artifact.key for artifact in report.artifacts} > {"int8.onnx", "int8.tflite", "fp32.tflite"}
    assert all(row.accuracy > 0.9 for artifact in report.artifacts for row in artifact.measurements)
    for key in ("int8.tflite", "int8.onnx"):
        pre = json.loads((at_home / "out" / f"many.{key}.json").read_text())["preprocessing"]
        assert (pre["channels"], pre["mean"], pre["std"]) == (channels, mean, [0.2] * channels)
    picture = np.full((28, 28, channels), 60, np.uint8)
    picture[..., 1] = 180
    np.save(at_home / "bright.npy", picture)
    Image.fromarray(picture[..., 0]).save(at_home / "grey.png")
    for key in ("int8.tflite", "int8.onnx"):
        result = run("predict", at_home / "out" / f"many.{key}", "bright.npy", "grey.png", "--json")
        assert result.exit_code == 0, result.output
        bright, grey = json.loads(result.stdout)
        assert bright["guesses"][0]["class_name"] == "1"
        assert f"cannot become an image of {channels} channels" in grey["error"]
        assert grey["fix"] == "give the picture as a uint8 .npy file"


@pytest.fixture
def unlabelled(at_home: Path) -> Path:
    """Forty noisy pictures, four names, and weights that nobody trained."""
    random = np.random.default_rng(0)
    (at_home / "pictures").mkdir()
    for k in range(40):
        pixels = random.integers(0, 256, (6, 8, 3)).astype(np.uint8)
        Image.fromarray(pixels).resize((60, 50)).save(at_home / "pictures" / f"{k:02d}.png")
    (at_home / "names.txt").write_text("north\neast\nsouth\nwest\n")
    model = build_model("squeezenet1_1", in_channels=3, n_classes=4, seed=5, options={"stem": "small"})
    save_file(model.state_dict(), at_home / "net.safetensors")
    (at_home / "recipe.yaml").write_text(UNLABELLED)
    return at_home


def test_pictures_without_labels_are_judged_by_the_float_network(
    unlabelled: Path, measured_little: None
) -> None:
    result = run("build", "recipe.yaml", "-o", "out")
    assert result.exit_code == 0, result.stderr
    report = build_folder.read_report(unlabelled / "out")
    assert any("the pictures have no labels" in note for note in report.notes)
    by_key = {artifact.key: artifact for artifact in report.artifacts}
    dense = by_key["dense.fp32.onnx"].measurements[0]
    assert (dense.accuracy, dense.n_images) == (1.0, 20)
    assert dense.rejection is not None and dense.rejection.accuracy == 1.0, "of itself it is always right"
    for row in by_key["int8.tflite"].measurements:
        assert row.follows is not None and row.accuracy == row.follows.top1
    assert all(stage.validation_accuracy is None for stage in report.stages)
    again = run("validate", "out", "--json")
    assert again.exit_code == 0, again.stderr
    accuracies = [m["accuracy"] for m in json.loads(again.stdout)["artifacts"][0]["measurements"]]
    assert accuracies == [1.0] * len(accuracies)


def test_a_last_layer_that_nothing_trains_must_fit(unlabelled: Path) -> None:
    (unlabelled / "names.txt").write_text("north\neast\nsouth\n")
    result = run("build", "recipe.yaml", "-o", "out")
    assert result.exit_code == 3
    message = told(result)
    assert "classes than 3" in message and "would stay random" in message
    assert "classifier.1.weight" in message and "net.safetensors" in message
