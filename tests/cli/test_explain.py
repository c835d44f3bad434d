"""`edgecnn predict --explain`: a PNG for a real artifact, and what it needs is told when it is not there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from cli.commands import run, told
from PIL import Image

from edgecnn import data
from edgecnn.explain import drawing
from edgecnn.records import Report


@pytest.fixture(scope="module")
def digit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("digit") / "digit.png"
    Image.fromarray(data.load("mnist").test.images_nhwc[0, :, :, 0]).save(path)
    return path


@pytest.mark.parametrize("key", ["int8.tflite", "dense.fp32.onnx"])
def test_the_answer_is_explained(built: tuple[Path, Report], digit: Path, tmp_path: Path, key: str) -> None:
    artifact = built[0] / f"quick.{key}"
    plain, layers = tmp_path / "plain.png", tmp_path / "layers.png"
    result = run("predict", artifact, digit, "--explain", plain, "--json")
    assert result.exit_code == 0, result.output
    (prediction,) = json.loads(result.stdout)
    assert prediction["guesses"][0]["class_name"] == "7" and len(prediction["guesses"]) == 5
    assert run("predict", artifact, digit, "--explain", layers, "--explain-layers").exit_code == 0
    small, large = Image.open(plain), Image.open(layers)
    assert small.format == "PNG" and small.width == drawing.WIDTH
    assert large.height > small.height, "filters and feature maps come below"
    panel = np.asarray(small).astype(int)[drawing.HEADER :][: drawing.PANEL]
    middle = panel[:, drawing.MARGIN + drawing.PANEL + drawing.GAP :][:, : drawing.PANEL]
    assert (middle[:, :, 0] - middle[:, :, 2] > 60).any(), "something in the picture is warm"


def test_it_works_where_the_code_has_changed_since(copied: Path, digit: Path, tmp_path: Path) -> None:
    """The stage is found by what the build recorded, not by the hash that this edgecnn would give it."""
    for done in copied.glob(".stages/*/*/done.json"):
        record = json.loads(done.read_text())
        record["inputs"] = {k: ("old" if k.startswith("code of") else v) for k, v in record["inputs"].items()}
        done.write_text(json.dumps(record))
    assert run("predict", copied / "quick.int8.tflite", digit, "--explain", tmp_path / "a.png").exit_code == 0


def test_without_its_build_it_says_what_is_missing(copied: Path, digit: Path, tmp_path: Path) -> None:
    shutil.rmtree(copied / ".stages")
    output = tmp_path / "why.png"
    result = run("predict", copied / "quick.int8.tflite", digit, "--explain", output)
    assert result.exit_code == 2
    assert "quick.int8.tflite: the float network that it was made from is not beside it" in told(result)
    assert "with .stages in it; if that is gone, build again" in result.stderr
    assert not output.exists()
    assert run("predict", copied / "quick.int8.tflite", digit).exit_code == 0, "predicting needs none of it"


def test_without_torch_the_extra_is_named(
    built: tuple[Path, Report], digit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgecnn.steps.networks.TRAINING_PACKAGES", ("no_such_torch",))
    result = run("predict", built[0] / "quick.int8.tflite", digit, "--explain", tmp_path / "a.png")
    assert "--explain needs no_such_torch, which is not installed" in told(result)
    assert 'pip install "edgecnn[train]"' in result.stderr


def test_a_network_that_came_as_onnx_has_no_gradients(copied: Path, digit: Path, tmp_path: Path) -> None:
    for done in copied.glob(".stages/export/*/done.json"):
        record = json.loads(done.read_text())
        record["inputs"] = {k.replace("needs train", "needs import"): v for k, v in record["inputs"].items()}
        done.write_text(json.dumps(record))
    result = run("predict", copied / "quick.int8.tflite", digit, "--explain", tmp_path / "a.png")
    assert "it was made from an ONNX file, which gives no gradients" in told(result)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("{digit}", "--explain", "why.jpg"), "why.jpg: the explanation is a PNG file"),
        (("{digit}", "{digit}", "--explain", "why.png"), "one picture is explained at a time"),
        (("{folder}", "--explain", "why.png"), "one picture is explained at a time"),
        (("{digit}", "--explain", "{digit}"), "it would replace the picture"),
        (("nowhere.png", "--explain", "why.png"), "there is no such picture"),
        (("{digit}", "--explain-layers"), "--explain-layers and --allow-code go with --explain"),
    ],
)
def test_what_cannot_be_explained(
    built: tuple[Path, Report], digit: Path, arguments: tuple[str, ...], expected: str
) -> None:
    before = digit.read_bytes()
    filled = [one.format(digit=digit, folder=digit.parent) for one in arguments]
    result = run("predict", built[0] / "quick.int8.tflite", *filled)
    assert result.exit_code == 2
    assert expected in told(result)
    assert digit.read_bytes() == before
