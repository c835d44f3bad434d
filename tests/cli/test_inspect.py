"""`edgecnn inspect` on the files of a real build."""

import json
from pathlib import Path

import pytest
from cli.commands import run, told

from edgecnn.records import Report


@pytest.mark.parametrize("key", ["fp32.onnx", "int8.onnx", "fp32.tflite", "int8.tflite"])
def test_inspect_agrees_with_the_build(built: tuple[Path, Report], key: str) -> None:
    folder, report = built
    artifact = next(one for one in report.artifacts if one.key == key)
    result = run("inspect", folder / artifact.file, "--json")
    assert result.exit_code == 0
    totals = json.loads(result.stdout)["totals"]
    assert (totals["n_params"], totals["n_macs"]) == (artifact.n_params, artifact.n_macs)
    shown = run("inspect", folder / artifact.file).stdout
    assert artifact.file in shown


def test_inspect_of_what_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "x.tflite").write_bytes(b"nothing")
    result = run("inspect", tmp_path / "x.tflite")
    assert result.exit_code == 2
    assert "x.tflite" in told(result)
