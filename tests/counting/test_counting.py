"""Arm instructions of one inference: the same each time, and cheaper where the core has better instructions."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from cli.commands import run, told

from edgecnn import counting
from edgecnn.errors import TargetError, UsageError

ROOT = Path(os.environ.get(counting.ROOT_VARIABLE) or "/nowhere")


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An untrained LeNet-5, float and int8, as .tflite and .onnx."""
    import numpy as np

    from edgecnn.compress.quantize import quantize
    from edgecnn.export.onnx import export_onnx
    from edgecnn.export.tflite import convert
    from edgecnn.models import build_model
    from edgecnn.recipe import QuantizeSpec

    folder = tmp_path_factory.mktemp("counted")
    float_model = export_onnx(build_model("lenet5", in_channels=1, n_classes=10, seed=0), (1, 28, 28))
    images = np.random.default_rng(0).standard_normal((20, 1, 28, 28)).astype(np.float32)
    quantized = quantize(float_model, images, QuantizeSpec(engine="onnxruntime")).model
    files = {
        "fp32.tflite": convert(float_model).data,
        "int8.tflite": convert(quantized).data,
        "fp32.onnx": float_model.SerializeToString(),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in files}


@pytest.fixture
def counted() -> None:
    """Skips the test where nothing can be counted."""
    missing = [tool for tool in ("qemu-aarch64", "proot", "gcc") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: apt-get install {counting.PACKAGES}")
    if not (ROOT / "opt" / "litert" / "python").exists():
        pytest.skip(
            f"{counting.ROOT_VARIABLE} names no arm64 system: make one with {counting.HERE}/arm_root.sh"
        )


@pytest.mark.usefixtures("counted")
def test_the_same_file_gives_the_same_count_whatever_its_name(network: dict[str, Path], tmp_path: Path):
    other_name = tmp_path / "another name.tflite"
    shutil.copy(network["int8.tflite"], other_name)
    first, second = (
        counting.count(path, "cortex-a72", root=ROOT) for path in (network["int8.tflite"], other_name)
    )
    assert first.instructions == second.instructions
    assert first.spread < 0.005 and len(first.counts) == counting.N_RUNS


@pytest.mark.usefixtures("counted")
def test_a_core_with_dot_products_needs_fewer_for_int8(network: dict[str, Path]):
    a72, a76 = (
        counting.count(network["int8.tflite"], cpu, root=ROOT).instructions
        for cpu in ("cortex-a72", "cortex-a76")
    )
    assert a76 < 0.8 * a72


@pytest.mark.usefixtures("counted")
def test_onnx_is_counted_too_and_the_command_prints_it(network: dict[str, Path]):
    result = run("count", network["fp32.onnx"], "--cpu", "cortex-a72", "--root", ROOT, "--json")
    assert result.exit_code == 0, result.output
    (record,) = json.loads(result.stdout)
    assert record["runtime"] == "onnxruntime" and record["instructions"] > 100_000
    assert record["spread"] < 0.005


@pytest.mark.usefixtures("counted")
def test_a_file_that_does_not_load_there(tmp_path: Path):
    (tmp_path / "broken.tflite").write_bytes(b"TFL3" * 20)
    with pytest.raises(TargetError, match=r"broken\.tflite: .*cannot load"):
        counting.count(tmp_path / "broken.tflite", "cortex-a72", root=ROOT)


# What must be installed first


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "m.tflite"
    path.write_bytes(b"TFL3")
    return path


def test_missing_tools_are_named_with_the_line_that_installs_them(model: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(counting.shutil, "which", lambda tool: None if tool == "proot" else "/usr/bin/x")
    result = run("count", model)
    assert result.exit_code == 2
    assert "there is no proot" in told(result) and "apt-get install qemu-user" in told(result)


def test_a_missing_system_is_told_with_the_line_that_makes_it(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(counting.shutil, "which", lambda tool: "/usr/bin/x")
    result = run("count", model, "--root", tmp_path)
    assert result.exit_code == 2
    assert "there is no arm64 system" in told(result) and "arm_root.sh" in told(result)
    assert (counting.HERE / "arm_root.sh").is_file()


def test_another_system(model: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(counting.sys, "platform", "darwin")
    with pytest.raises(UsageError, match="Linux only"):
        counting.count(model, "cortex-a72")


def test_no_such_file_and_no_such_core(tmp_path: Path, model: Path):
    assert "there is no such file" in told(run("count", tmp_path / "gone.tflite"))
    assert "not a .onnx or .tflite file" in told(run("count", tmp_path))
    assert "'cortex-m4' is not one of" in told(run("count", model, "--cpu", "cortex-m4"))


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs that are found before all others. There is a gcc in it that does nothing."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    write_tool(tmp_path / "bin" / "gcc", "exit 0")
    return tmp_path / "bin"


def write_tool(path: Path, script: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.mark.parametrize("tool", ["gcc", "proot"])
@pytest.mark.parametrize("stream", [1, 2])
def test_a_tool_that_writes_without_end_is_stopped(model: Path, tools: Path, tool: str, stream: int):
    write_tool(tools / tool, f"exec yes 'no end' >&{stream}")
    with pytest.raises(TargetError, match=r"m\.tflite: count wrote more than 30 MB of text and was stopped"):
        counting._run(model, "cortex-a72", "litert", tools, tools)


@pytest.mark.parametrize("tool", ["gcc", "proot"])
def test_a_tool_that_hangs_is_stopped(model: Path, tools: Path, tool: str, monkeypatch: pytest.MonkeyPatch):
    write_tool(tools / tool, "exec sleep 60")
    monkeypatch.setattr(counting, "TIMEOUT_S", 1)
    with pytest.raises(TargetError, match=r"m\.tflite: count did not end within 1 s"):
        counting._run(model, "cortex-a72", "litert", tools, tools)


def test_what_gcc_says_is_told(model: Path, tools: Path):
    write_tool(tools / "gcc", "echo 'glib: no such file' >&2; exit 1")
    with pytest.raises(UsageError, match="gcc cannot compile qemu's plugin:\nglib: no such file"):
        counting._run(model, "cortex-a72", "litert", tools, tools)


def test_marks_that_are_cut_off_do_not_count():
    assert counting._between_marks("mark 0 100\nmark 1 250\nmark 2 300\n") == (150,)
