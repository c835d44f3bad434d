"""What travels to the board: small, the same bytes every time, and it runs by hand."""

from __future__ import annotations

import ast
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from edgecnn.targets import zipapp


@pytest.fixture
def app(tmp_path: Path) -> Path:
    path = tmp_path / zipapp.NAME
    path.write_bytes(zipapp.build())
    return path


def run(*command: str | Path, cwd: Path, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*map(str, command)], capture_output=True, text=True, cwd=cwd, **options)


def test_it_is_small_and_the_same_every_time():
    first = zipapp.build()
    zipapp.build.cache_clear()
    assert zipapp.build() == first
    assert len(first) < 100_000


def test_every_file_in_it_is_python_3_9():
    with zipfile.ZipFile(io.BytesIO(zipapp.build())) as archive:
        assert {"__main__.py", "edgecnn/__init__.py", "edgecnn/ondevice/board.py"} <= set(archive.namelist())
        for name in archive.namelist():
            assert name.endswith(".py")
            ast.parse(archive.read(name).decode(), feature_version=(3, 9))


def test_it_runs_by_hand(app: Path, models, tmp_path: Path):
    done = run(
        sys.executable,
        app,
        "benchmark",
        models.int8_tflite,
        "--min-s",
        "0.01",
        "--window-s",
        "0.01",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["runtime"] == "litert" and len(answer["samples_ms"]) >= 50


def test_it_needs_nothing_but_the_standard_library_to_say_what_is_missing(app: Path, tmp_path: Path):
    """-S -I: no site-packages, so no numpy and no runtime, as on a fresh Raspberry Pi OS Lite."""
    bare = [sys.executable, "-S", "-I", app]
    surveyed = run(*bare, "survey", cwd=tmp_path)
    assert surveyed.returncode == 0, surveyed.stderr
    assert json.loads(surveyed.stdout)["packages"] == {}
    probed = run(*bare, "probe", cwd=tmp_path)
    assert probed.returncode == 3
    answer = json.loads(probed.stdout)
    assert "has no numpy" in answer["error"] and "--fix" in answer["fix"]


def test_it_takes_nothing_from_the_folder_that_it_is_run_in(app: Path, models, tmp_path: Path):
    (tmp_path / "numpy.py").write_text("raise SystemExit('taken from the working folder')")
    done = run(sys.executable, app, "probe", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
