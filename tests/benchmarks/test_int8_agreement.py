"""The int8 agreement benchmark, run for real on small networks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from export.tflite.nets import lenet5, qdq

from edgecnn.export.tflite import convert

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "int8_agreement.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False, timeout=300
    )


def rows_of(report: Path) -> dict[str, dict]:
    assert report.with_suffix(".md").read_text().count("\n") > 4
    return {row["runtime"]: row for row in json.loads(report.with_suffix(".json").read_text())["rows"]}


def test_a_network_of_the_zoo(tmp_path: Path) -> None:
    done = run("--networks", "SqueezeNet11", "--n", "12", "--n-slow", "3", "--write", str(tmp_path / "report"))
    assert done.returncode == 0, done.stderr
    rows = rows_of(tmp_path / "report")
    assert rows["litert"]["n_inputs"] == 12 and rows["litert-reference"]["n_inputs"] == 3
    for row in (rows["litert"], rows["litert-reference"]):
        for distance in row["distances"].values():
            assert sum(distance["histogram"].values()) == row["n_inputs"] * 10
            assert distance["within_one"] >= 0.9
    assert set(rows["litert"]["distances"]) == {"onnxruntime", "onnxruntime, optimized"}
    assert "| SqueezeNet11" in done.stdout


@pytest.fixture(scope="module")
def lenet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(a QDQ ONNX file, pictures for it)."""
    folder = tmp_path_factory.mktemp("lenet")
    onnx.save(qdq(lenet5(batch=1)), folder / "lenet.onnx")
    images = np.random.default_rng(0).uniform(-1, 1, (6, 1, 28, 28)).astype(np.float32)
    np.save(folder / "images.npy", images)
    np.save(folder / "labels.npy", np.zeros(6, np.int64))
    return folder / "lenet.onnx", folder / "images.npy"


def test_a_model_of_ones_own(lenet: tuple[Path, Path], tmp_path: Path) -> None:
    model, images = lenet
    labels = images.with_name("labels.npy")
    report = tmp_path / "report"
    done = run(
        "--onnx", str(model), "--images", str(images), "--labels", str(labels), "--write", str(report)
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = rows_of(report)
    assert rows["litert"]["distances"]["onnxruntime"]["within_one"] == 1.0
    assert rows["litert"]["accuracy"] == rows["onnxruntime"]["accuracy"]


def test_a_wrong_file_is_seen(lenet: tuple[Path, Path], tmp_path: Path) -> None:
    model, images = lenet
    other = onnx.load(model)
    for init in other.graph.initializer:
        array = onnx.numpy_helper.to_array(init)
        if array.dtype == np.int8 and array.ndim == 4:
            init.CopyFrom(onnx.numpy_helper.from_array(array[:, :, ::-1].copy(), init.name))
    wrong = tmp_path / "wrong.tflite"
    wrong.write_bytes(convert(other).data)
    report = tmp_path / "report"
    run("--onnx", str(model), "--images", str(images), "--tflite", str(wrong), "--write", str(report))
    assert rows_of(report)["litert"]["distances"]["onnxruntime"]["within_one"] < 0.9


def test_a_model_without_pictures_is_refused(lenet: tuple[Path, Path]) -> None:
    done = run("--onnx", str(lenet[0]))
    assert done.returncode == 2 and "--images" in done.stderr
