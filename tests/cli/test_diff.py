"""`edgecnn diff` on files, folders and builds."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli.commands import run, told
from export.tflite.nets import lenet5, qdq

from edgecnn.export.tflite import convert


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two folders: one file is the same, one has other bytes, one is gone, one is new."""
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        (folder / "deep").mkdir(parents=True)
        (folder / ".hidden").mkdir()
        (folder / ".hidden" / "x.onnx").write_bytes(b"no model")
        (folder / "notes.txt").write_text("no model")
        (folder / "deep" / "same.onnx").write_bytes(lenet5().SerializeToString())
    (old / "a.tflite").write_bytes(convert(lenet5()).data)
    (new / "a.tflite").write_bytes(convert(qdq(lenet5())).data)
    (old / "gone.onnx").write_bytes(lenet5().SerializeToString())
    (new / "new.onnx").write_bytes(lenet5().SerializeToString())
    return old, new


def as_build(folder: Path, name: str) -> None:
    """Makes a build's folder of it: files named by the recipe, and the report that tells their keys."""
    (folder / "a.tflite").rename(folder / f"{name}.a.tflite")
    report = {"schema_version": 1, "artifacts": [{"key": "a.tflite", "file": f"{name}.a.tflite"}]}
    (folder / "report.json").write_text(json.dumps(report))


def test_two_files(folders: tuple[Path, Path]) -> None:
    old, new = (folder / "a.tflite" for folder in folders)
    result = run("diff", old, new)
    assert result.exit_code == 0
    first = " ".join(result.stdout.split("Totals")[0].split())
    assert first.startswith("a.tflite shrank by 18") and "5 layers are int8 instead of float32" in first
    for title in ("Totals", "7 of 7 layers differ", "Where the bytes are"):
        assert title in result.stdout
    same = run("diff", old, old)
    assert (same.exit_code, same.stdout.strip()) == (0, "a.tflite: identical")


def test_json(folders: tuple[Path, Path]) -> None:
    old, new = folders
    result = run("diff", old, new, "--json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found["schema_version"] == 1
    assert [model["name"] for model in found["models"]] == ["a.tflite", "deep/same.onnx"]
    first, same = found["models"]
    assert same["is_identical"] and not first["is_identical"]
    parts = [*first["layers"], *first["overhead"]]
    sizes = [(folder / "a.tflite").stat().st_size for folder in folders]
    assert sum(part["delta_bytes"] for part in parts) == first["delta_bytes"] == sizes[1] - sizes[0]
    assert first["layers"][0]["changes"][0] == {"what": "version", "old": 1, "new": 3}
    (gone,), (added,) = found["gone"], found["added"]
    assert (gone["name"], added["name"]) == ("gone.onnx", "new.onnx")
    assert gone["size_bytes"] == (old / "gone.onnx").stat().st_size


@pytest.mark.parametrize("form", ["table", "markdown"])
def test_gone_and_new_files_are_said(folders: tuple[Path, Path], form: str) -> None:
    result = run("diff", *folders, "--format", form)
    assert result.exit_code == 0
    for expected in ("gone.onnx is gone (248", "new.onnx is new (248", "deep/same.onnx: identical", "a.tflite"):
        assert expected in result.stdout
    if form == "markdown":
        assert "|---|---:|---:|---:|" in result.stdout and "**a.tflite shrank by" in result.stdout


def test_builds_are_matched_by_key(folders: tuple[Path, Path]) -> None:
    old, new = folders
    as_build(old, "before")
    as_build(new, "after")
    result = run("diff", old, new, "--json")
    found = json.loads(result.stdout)
    assert [model["name"] for model in found["models"]] == ["a.tflite"]
    assert not found["gone"] and not found["added"]
    # Where one of them has no report that can be read, names are all there is.
    for text in ("{", "[]", '{"artifacts": [1]}', '{"artifacts": 1}'):
        (new / "report.json").write_text(text)
        found = json.loads(run("diff", old, new, "--json").stdout)
        assert [model["name"] for model in found["models"]] == ["deep/same.onnx"]


def test_a_report_cannot_name_files_elsewhere(folders: tuple[Path, Path]) -> None:
    old, new = folders
    as_build(old, "before")
    as_build(new, "after")
    report = {"artifacts": [{"key": "a.tflite", "file": str(old / "before.a.tflite")}]}
    (new / "report.json").write_text(json.dumps(report))
    result = run("diff", old, new)
    assert result.exit_code == 2
    assert str(new / "before.a.tflite") in told(result)


def test_other_formats(folders: tuple[Path, Path]) -> None:
    result = run("diff", folders[0] / "gone.onnx", folders[1] / "a.tflite")
    assert result.exit_code == 0
    assert "layers are not compared" in " ".join(result.stdout.split())


def test_a_file_of_a_build_that_is_gone(folders: tuple[Path, Path]) -> None:
    old, new = folders
    as_build(old, "before")
    as_build(new, "after")
    report = {"artifacts": [{"key": "b.tflite", "file": "missing.b.tflite"}]}
    (new / "report.json").write_text(json.dumps(report))
    result = run("diff", old, new)
    assert result.exit_code == 2
    assert "missing.b.tflite: cannot read it" in told(result)


def test_bad_input(folders: tuple[Path, Path], tmp_path: Path) -> None:
    old, new = folders
    empty = tmp_path / "empty"
    empty.mkdir()
    whole = (old / "a.tflite").read_bytes()
    (tmp_path / "cut.tflite").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.onnx").write_text("this is no model")
    for first, second, expected in (
        (old, new / "a.tflite", "a folder cannot be compared with the file"),
        (new / "a.tflite", old, "name two files or two folders"),
        (tmp_path / "nothing", old, "there is no such file or folder"),
        (empty, old, "no model file (.onnx, .tflite) is in this folder"),
        (old / "a.tflite", tmp_path / "cut.tflite", "the file is corrupt"),
        (tmp_path / "text.onnx", old / "gone.onnx", "text.onnx"),
    ):
        result = run("diff", first, second)
        assert result.exit_code == 2
        assert expected in told(result)


def test_the_command_starts_fast(folders: tuple[Path, Path]) -> None:
    """The least of three, as other processes may be running."""
    took = []
    for _ in range(3):
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "edgecnn", "diff", *(str(folder) for folder in folders), "--json"],
            check=True,
            capture_output=True,
        )
        took.append(time.perf_counter() - began)
    assert min(took) < 1.0


def test_a_build_against_itself(copied: Path, tmp_path: Path) -> None:
    shutil.copytree(copied, tmp_path / "again")
    result = run("diff", copied, tmp_path / "again")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert len(lines) >= 4 and all(line.endswith(": identical") for line in lines)
