"""The command line of the device side: one JSON object as the last line, whatever happens."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_models

from edgecnn.ondevice import environment
from edgecnn.ondevice.__main__ import main

IMAGES = tiny_models.random_images(5)


@pytest.fixture
def verb(capsys: pytest.CaptureFixture[str]):
    def run(*arguments: object) -> tuple[int, dict]:
        code = main([str(argument) for argument in arguments])
        return code, json.loads(capsys.readouterr().out.strip().splitlines()[-1])

    return run


def test_probe(verb):
    code, answer = verb("probe")
    assert code == 0 and answer["arch"] and answer["runtimes"]


def test_evaluate_writes_the_outputs(verb, models, tmp_path: Path):
    np.save(tmp_path / "images.npy", IMAGES)
    output = tmp_path / "no_suffix"
    code, answer = verb(
        "evaluate", models.int8_tflite, "--images", tmp_path / "images.npy", "--output", output, "--no-optimize"
    )
    assert code == 0
    assert answer["shape"] == [5, 3] and answer["dtype"] == "int8" and answer["output"] == str(output)
    assert np.load(output).shape == (5, 3)


def test_benchmark(verb, models):
    code, answer = verb(
        "benchmark", models.fp32_tflite, "--min-s", 0.01, "--window-s", 0.01, "--min-samples", 5
    )
    assert code == 0 and answer["runtime"] == "litert" and len(answer["samples_ms"]) >= 5


def test_memory(verb, models):
    code, answer = verb("memory", models.fp32_onnx, "--threads", 2)
    assert code == 0 and answer["num_threads"] == 2 and answer["peak_rss_bytes"] > 0


def test_predict(verb, models, tmp_path: Path):
    np.save(tmp_path / "picture.npy", IMAGES[0])
    code, answer = verb("predict", models.fp32_onnx, tmp_path, "--top", 2)
    assert code == 0
    (prediction,) = answer["predictions"]
    assert prediction["picture"].endswith("picture.npy") and len(prediction["guesses"]) == 2


def test_predict_goes_on_past_a_broken_picture(
    verb, models, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    np.save(tmp_path / "a.npy", IMAGES[0])
    (tmp_path / "b\x1b.npy").write_text("no array")
    np.save(tmp_path / "c.npy", IMAGES[1])
    code, answer = verb("predict", models.fp32_onnx, tmp_path)
    assert code == 0
    assert ["guesses" in one for one in answer["predictions"]] == [True, False, True]
    assert answer["predictions"][1]["error"] and answer["predictions"][1]["fix"]
    assert main(["predict", str(models.fp32_onnx), str(tmp_path), "--text"]) == 0
    shown = capsys.readouterr()
    assert [line.split(":")[0] for line in shown.out.splitlines()] == ["a.npy", "b\\x1b.npy", "c.npy"]
    assert shown.err.startswith("1 of 3 pictures cannot be read: b\\x1b.npy (")


def test_predict_for_a_person_where_no_picture_can_be_read(
    models, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for name in ("a.npy", "b.npy"):
        (tmp_path / name).write_text("no array")
    assert main(["predict", str(models.fp32_onnx), str(tmp_path), "--text"]) == 3
    assert "error: 2 of 2 pictures cannot be read: a.npy (" in capsys.readouterr().err


# Faults


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "required: VERB"),
        (["dance"], "invalid choice: 'dance'"),
        (["probe", "--loud"], "unrecognized arguments: --loud"),
        (["benchmark"], "required: model"),
        (["benchmark", "a.onnx", "--threads", "two"], "invalid int value: 'two'"),
        (["benchmark", "a.onnx", "--runtime", "tensorrt"], "invalid choice: 'tensorrt'"),
        (["benchmark", "gone.onnx"], "no such model file: gone.onnx"),
        (["memory", "gone.h5"], "neither an .onnx nor a .tflite"),
        (
            ["evaluate", "gone.onnx", "--images", "gone.npy", "--output", "o"],
            "not a readable .npy file: gone.npy",
        ),
        (["predict", "gone.onnx", "gone.png"], "no such picture: gone.png"),
    ],
)
def test_a_fault_is_told_with_a_fix(verb, arguments: list[str], words: str):
    code, answer = verb(*arguments)
    assert code == 3
    assert words in answer["error"] and answer["fix"]


def test_a_manifest_of_another_file_is_refused(verb, models, tmp_path: Path):
    model = tmp_path / "altered.onnx"
    shutil.copy(models.fp32_onnx, model)
    model.with_name(model.name + ".json").write_text(tiny_models.manifest_for(models.int8_onnx).to_json())
    np.save(tmp_path / "picture.npy", IMAGES[0])
    code, answer = verb("predict", model, tmp_path / "picture.npy")
    assert code == 3 and "altered.onnx is not the file that its manifest describes" in answer["error"]


def test_a_missing_model_is_told_before_its_missing_manifest(verb, tmp_path: Path):
    np.save(tmp_path / "picture.npy", IMAGES[0])
    code, answer = verb("predict", tmp_path / "gone.onnx", tmp_path / "picture.npy")
    assert code == 3 and "no such model file" in answer["error"]


def test_a_manifest_named_and_missing(verb, models, tmp_path: Path):
    np.save(tmp_path / "picture.npy", IMAGES[0])
    gone = tmp_path / "gone.json"
    code, answer = verb("predict", models.fp32_onnx, tmp_path / "picture.npy", "--manifest", gone)
    assert code == 3 and answer["error"] == f"cannot read {gone}: No such file or directory"


def test_an_output_that_cannot_be_written(verb, models, tmp_path: Path):
    np.save(tmp_path / "images.npy", IMAGES)
    output = tmp_path / "gone" / "o.npy"
    code, answer = verb("evaluate", models.fp32_onnx, "--images", tmp_path / "images.npy", "--output", output)
    assert code == 3 and "cannot write" in answer["error"]


def test_an_unexpected_fault_is_told_with_its_kind(verb, monkeypatch: pytest.MonkeyPatch):
    def broken() -> dict:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(environment, "probe", broken)
    assert verb("probe") == (3, {"error": "ZeroDivisionError: division by zero", "fix": None})


def test_an_interrupt_says_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def interrupted() -> dict:
        raise KeyboardInterrupt

    monkeypatch.setattr(environment, "probe", interrupted)
    assert main(["probe"]) == 130
    assert capsys.readouterr().out == ""


def test_it_runs_as_a_module_and_exits_with_its_code():
    done = subprocess.run(
        [sys.executable, "-m", "edgecnn.ondevice", "memory", "gone.onnx"], capture_output=True, text=True
    )
    assert done.returncode == 3 and done.stderr == ""
    assert json.loads(done.stdout)["error"] == "no such model file: gone.onnx"
