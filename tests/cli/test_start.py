"""Commands of an editor's and of a CI's every minute load little. How soon they answer: benchmarks/start.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from check.builds import build
from check.test_why import lenet5
from cli.commands import run

HEAVY = ("numpy", "torch", "onnx", "onnxruntime", "ai_edge_litert", "matplotlib", "jinja2")
COMMANDS = {
    "check": ("check", "b"),
    "check of what grew": ("check", "grown", "--baseline", "grown.json"),
    "diff": ("diff", "old.tflite", "new.tflite"),
    "inspect": ("inspect", "old.tflite"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build and its baseline; a model that grew, and its baseline; two models to compare."""
    folder = tmp_path_factory.mktemp("start")
    small, large = lenet5(folder, 85), lenet5(folder, 120)
    (folder / "old.tflite").write_bytes(small)
    (folder / "new.tflite").write_bytes(large)
    build(folder / "b")
    (folder / "grown").mkdir()
    model = folder / "grown" / "a.tflite"
    model.write_bytes(small)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run("baseline", "update", "b").exit_code == 0
        assert run("baseline", "update", "grown", "--baseline", "grown.json").exit_code == 0
    model.write_bytes(large)
    return folder


@pytest.mark.parametrize("name", COMMANDS)
def test_nothing_heavy_is_loaded(folder: Path, name: str) -> None:
    code = (
        "import sys; from edgecnn.cli import cli\n"
        f"try: cli({list(COMMANDS[name])})\n"
        "except SystemExit as end: assert end.code in (0, 1, None), end.code\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
