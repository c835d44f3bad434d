"""`edgecnn validate`: measured again, and told what is missing or another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli.commands import run, told

from edgecnn.records import Report


def test_validate_measures_again(built: tuple[Path, Report]) -> None:
    folder, report = built
    result = run("val", folder, "--json")
    assert result.exit_code == 0
    found = Report.model_validate_json(result.stdout)
    assert found.verdicts == report.verdicts
    for artifact, before in zip(found.artifacts, report.artifacts, strict=True):
        assert [m.accuracy for m in artifact.measurements] == [m.accuracy for m in before.measurements]


def test_validate_says_that_a_file_is_another(copied: Path) -> None:
    model = copied / "quick.fp32.tflite"  # no limit is on it, so only the note can tell
    content = bytearray(model.read_bytes())
    at = len(content) // 2
    content[at : at + 2] = bytes(byte ^ 1 for byte in content[at : at + 2])
    model.write_bytes(content)
    result = run("validate", copied)
    assert result.exit_code == 0
    assert "quick.fp32.tflite is not the file that was built" in " ".join(result.stdout.split())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("quick.int8.tflite", "the artifact is gone"),
        ("quick.int8.tflite.json", "no manifest beside quick.int8.tflite"),
        ("recipe.yaml", "there is no such recipe"),
        ("report.json", "no build is here"),
    ],
)
def test_validate_names_what_is_missing(copied: Path, name: str, expected: str) -> None:
    (copied / name).unlink()
    result = run("validate", copied)
    assert result.exit_code == 2
    assert expected in told(result)
    assert str(copied) in told(result)


def test_validate_refuses_a_recipe_that_was_changed_but_for_its_budget(copied: Path) -> None:
    recipe = copied / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("22 kB", "1 kB"))
    assert run("validate", copied).exit_code == 1
    recipe.write_text(recipe.read_text().replace("epochs: 1", "epochs: 2", 1))
    result = run("validate", copied)
    assert result.exit_code == 2
    assert "is not the one that was built" in told(result)


def test_validate_does_not_take_times_of_another_machine(copied: Path) -> None:
    path = copied / "report.json"
    report = json.loads(path.read_text())
    report["environment"]["cpu_model"] = "Cray-1"
    path.write_text(json.dumps(report))
    found = Report.model_validate_json(run("validate", copied, "--json").stdout)
    assert all(m.latency_ms is None for artifact in found.artifacts for m in artifact.measurements)
    assert {v.status for v in found.verdicts if v.metric == "max_peak_rss_bytes"} == {"missing"}
    assert found.environment["cpu_model"] != "Cray-1"
