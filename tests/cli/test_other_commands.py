"""report, benchmark, predict, init, schema; help and faults of the command line itself."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from cli.commands import run, told
from pictures_for_tests import truncated_jpeg
from PIL import Image
from recipes_for_tests import ROOT

import edgecnn
from edgecnn import data
from edgecnn.cli import cli
from edgecnn.cli.group import ALIASES
from edgecnn.export.tflite import metadata
from edgecnn.records import Report


@pytest.mark.parametrize("form", ["table", "markdown", "json"])
def test_report(built: tuple[Path, Report], form: str) -> None:
    result = run("report", built[0], "--format", form)
    assert result.exit_code == 0
    for expected in ("int8.tflite", "dense", "litert", "1-prune"):
        assert expected in result.stdout
    if form == "json":
        assert Report.model_validate_json(result.stdout) == built[1]
    if form == "markdown":
        rows = [line for line in result.stdout.splitlines() if line.startswith("| int8.tflite |")]
        assert len({line.count("|") for line in rows[:1]}) == 1
        assert "|---|---:|" in result.stdout


def test_report_of_what_is_no_build(tmp_path: Path) -> None:
    result = run("report", tmp_path)
    assert result.exit_code == 2
    assert "no build is here" in told(result)
    for content, expected in (
        (b'{"schema_version": 99}', "schema version 99; this edgecnn reads up to 1"),
        (b'{"schema_version": 1}', "not a report of edgecnn: recipe: Field required"),
        (b"[]", "not a report of edgecnn"),
        (b"{", "not a report of edgecnn"),
        (b"\xff\xfe", "not a report of edgecnn"),
    ):
        (tmp_path / "report.json").write_bytes(content)
        for command in ("report", "validate"):
            result = run(command, tmp_path)
            assert result.exit_code == 2
            assert expected in told(result)
            assert str(tmp_path / "report.json") in told(result)


def test_a_report_without_artifacts_is_shown(tmp_path: Path) -> None:
    empty = Report(recipe={"name": "empty"}, environment={}, artifacts=(), stages=(), parity=(), verdicts=())
    (tmp_path / "report.json").write_text(empty.model_dump_json())
    for form in ("table", "markdown", "json"):
        assert run("report", tmp_path, "--format", form).exit_code == 0


@pytest.mark.parametrize("columns", [80, 100])
def test_no_figure_is_cut_in_a_narrow_terminal(built: tuple[Path, Report], columns: int) -> None:
    from rich.console import Console

    from edgecnn.report import terminal

    console = Console(width=columns, force_terminal=True, color_system=None, record=True)
    with console.capture() as captured:
        terminal.print_report(built[1], console)
    assert "\u2026" not in captured.get()
    with console.capture() as captured:
        terminal.print_summary(built[1], console)
    table = captured.get().split("int8 ONNX = TFLite")[0]
    assert max(len(line.rstrip()) for line in table.splitlines()) <= 80, "the summary fits in 80 columns"


def test_benchmark(built: tuple[Path, Report]) -> None:
    folder, _ = built
    files = (folder / "quick.int8.tflite", folder / "quick.int8.onnx")
    quick = ("--rounds", "2", "--min-time", "0.05", "--threads", "1")
    result = run("bench", *files, "--runtime", "litert", "--runtime", "onnxruntime", *quick, "--json")
    assert result.exit_code == 0
    records = json.loads(result.stdout)
    assert [(r["file"], r["runtime"]) for r in records] == [
        ("quick.int8.tflite", "litert"),
        ("quick.int8.onnx", "onnxruntime"),
    ]
    assert all(len(r["samples_ms"]) >= 50 and r["peak_rss_bytes"] > 0 for r in records)
    table = run("benchmark", files[0], *quick)
    assert "median" in table.stdout
    assert "quick.int8.tflite" in table.stdout


def test_benchmark_of_what_it_cannot_run(tmp_path: Path, built: tuple[Path, Report]) -> None:
    result = run("benchmark", tmp_path / "x.tflite")
    assert (result.exit_code, "there is no such file" in told(result)) == (2, True)
    result = run("benchmark", tmp_path / "x.h5")
    assert (result.exit_code, "not a .onnx or .tflite file" in told(result)) == (2, True)
    result = run("benchmark", built[0] / "quick.int8.tflite", "--runtime", "onnxruntime")
    assert result.exit_code == 2
    assert "use one of: litert" in told(result)
    result = run("benchmark", built[0] / "quick.int8.tflite", "--runtime", "litert", "--runtime", "onnxrt")
    assert result.exit_code == 2
    assert "there is no runtime 'onnxrt'" in told(result)
    (tmp_path / "bad.tflite").write_bytes(b"not a model at all, but long enough to be read")
    result = run("benchmark", tmp_path / "bad.tflite")
    assert result.exit_code == 3
    assert "bad.tflite" in told(result)


def test_predict(built: tuple[Path, Report], tmp_path: Path) -> None:
    folder, _ = built
    test = data.load("mnist").test
    for index in range(3):
        Image.fromarray(test.images_nhwc[index, :, :, 0]).save(tmp_path / f"{index}.png")
    for model in ("quick.int8.tflite", "quick.int8.onnx"):
        result = run("predict", folder / model, tmp_path, "--json")
        assert result.exit_code == 0
        predictions = json.loads(result.stdout)
        assert [p["guesses"][0]["class_name"] for p in predictions] == ["7", "2", "1"]
        assert all(len(p["guesses"]) == 5 for p in predictions)
        assert sum(g["probability"] for g in predictions[0]["guesses"]) <= 1.0001
    shown = run("predict", folder / "quick.int8.tflite", tmp_path / "0.png", "--top", "2").stdout
    assert "0.png" in shown
    assert shown.count("%") == 2


def test_predict_leaves_out_what_cannot_be_read(built: tuple[Path, Report], tmp_path: Path) -> None:
    model, digits = built[0] / "quick.int8.tflite", tmp_path / "digits"
    digits.mkdir()
    for name in ("a.png", "c.png"):
        Image.new("L", (28, 28)).save(digits / name)
    truncated_jpeg(digits / "b\x1b.jpg")
    (digits / "d.png").symlink_to(tmp_path / "gone.png")
    result = run("predict", model, digits, "--json")
    assert result.exit_code == 0
    a, b, c, d = json.loads(result.stdout)
    assert a["guesses"] and c["guesses"] and b.keys() == d.keys() == {"picture", "error", "fix"}
    assert b["picture"] == str(digits / "b\x1b.jpg") and "truncated" in b["error"]
    assert d["error"] == "there is no such file"
    counted = "2 of 4 pictures cannot be read: b\\x1b.jpg (image file is truncated"
    assert result.stderr.startswith(counted) and "d.png (there is no such file)" in result.stderr
    shown = run("predict", model, digits, "--top", "1")
    assert shown.exit_code == 0 and shown.stdout.count("%") == 2
    assert shown.stdout.count("cannot be read: ") == 2 and shown.stderr.startswith(counted)
    for name in ("a.png", "c.png"):
        (digits / name).unlink()
    result = run("predict", model, digits, "--json")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "2 of 2 pictures cannot be read: " in told(result) and "fix: use a PNG" in told(result)
    result = run("predict", model, digits / "d.png")
    assert (result.exit_code, "there is no such picture" in told(result)) == (2, True)
    assert "3 where none could" in run("predict", "--help").stdout


def test_predict_needs_pictures_and_a_manifest(built: tuple[Path, Report], tmp_path: Path) -> None:
    folder, _ = built
    result = run("predict", folder / "quick.int8.tflite", tmp_path / "none.png")
    assert result.exit_code == 2
    assert "there is no such picture" in told(result)
    result = run("predict", folder / "quick.int8.tflite", folder, "--runtime", "litret")
    assert result.exit_code == 2
    assert "use one of: onnxruntime, litert" in told(result)
    alone = tmp_path / "alone.tflite"
    shutil.copy(folder / "quick.int8.tflite", alone)
    Image.new("L", (28, 28)).save(tmp_path / "a.png")
    result = run("predict", alone, tmp_path / "a.png")
    assert "no manifest beside alone.tflite" in told(result)


def test_init_writes_a_recipe_that_builds_and_never_overwrites(tmp_path: Path) -> None:
    path = tmp_path / "my_model.yaml"
    assert run("init", path).exit_code == 0
    plan = run("build", path, "--dry-run", "-o", tmp_path / "out")
    assert plan.exit_code == 0
    assert "train" in plan.stdout
    for name in ("2024", "yes", "1e3", "_x", "mod\u00e8le"):
        assert run("init", tmp_path / f"{name}.yaml").exit_code == 0
        assert run("build", tmp_path / f"{name}.yaml", "--dry-run", "-o", tmp_path / "o").exit_code == 0, name
    path.write_text("mine")
    result = run("init", path)
    assert (result.exit_code, path.read_text()) == (2, "mine")
    assert "the file exists" in told(result)


def test_schema_prints_what_it_writes(tmp_path: Path) -> None:
    assert run("schema", "-o", tmp_path / "s.json").exit_code == 0
    result = run("schema", "-o", tmp_path / "nowhere" / "s.json")
    assert result.exit_code == 3
    assert f"{tmp_path / 'nowhere' / 's.json'}: cannot be written: there is no such folder" in told(result)
    assert json.loads(run("schema").stdout) == json.loads((tmp_path / "s.json").read_text())


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    result = run("build", tmp_path / "none.yaml", "--debug")
    assert type(result.exception).__name__ == "RecipeError"


def test_help_teaches_every_command() -> None:
    overview = run("--help").stdout
    for name, command in cli.commands.items():
        text = run(name, "--help").stdout
        assert name in overview
        assert "Example" in text, name
        assert command.help, name
        assert "--debug" in text
    for alias, name in ALIASES.items():
        assert run(alias, "--help").stdout.splitlines()[2:] == run(name, "--help").stdout.splitlines()[2:]


def test_an_unknown_command_and_a_bad_target_end_with_2(built: tuple[Path, Report]) -> None:
    assert run("biuld").exit_code == 2
    result = run("validate", built[0], "--target", "pie")
    assert result.exit_code == 2
    assert "there is no target 'pie'; known are: host" in result.stderr


def test_python_m_edgecnn_is_the_same_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edgecnn", "--version"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.stdout.strip() == f"edgecnn, version {edgecnn.__version__}"


def test_convert_takes_the_metadata_of_a_manifest(built: tuple[Path, Report], tmp_path: Path) -> None:
    (source,), (manifest,) = built[0].glob("*.int8.onnx"), built[0].glob("*.int8.tflite.json")
    written = tmp_path / "with.tflite"
    result = run("convert", source, "-o", written, "--metadata", manifest)
    assert result.exit_code == 0, told(result)
    with zipfile.ZipFile(written) as archive:
        assert archive.read("labels.txt").decode().split() == [str(digit) for digit in range(10)]
    said = metadata.read(manifest)
    mnist = data.DATASETS["mnist"].preprocessing
    assert said.mean == pytest.approx([255 * mean for mean in mnist.mean]), "of pixels 0..255"
    assert said.std == pytest.approx([255 * std for std in mnist.std])
