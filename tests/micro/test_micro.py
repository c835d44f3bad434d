"""What a model needs in TFLite Micro, and the model as C source."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_models
from cli.commands import run, told

from edgecnn import micro
from edgecnn.errors import MissingExtraError, TargetError
from edgecnn.export.onnx import export_onnx
from edgecnn.export.tflite import convert
from edgecnn.models import build_model

needs_tflm = pytest.mark.skipif(
    importlib.util.find_spec("tflite_micro") is None, reason="tflite-micro is not installed (x86-64 Linux only)"
)
needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained LeNet-5 in float32."""
    path = tmp_path_factory.mktemp("micro") / "net.tflite"
    path.write_bytes(
        convert(export_onnx(build_model("lenet5", in_channels=1, n_classes=10, seed=0), (1, 28, 28))).data
    )
    return path


@needs_tflm
def test_the_arena_is_the_smallest_that_it_runs_in(model: Path):
    arena = micro.measure(model)
    assert arena.arena_bytes >= arena.head_bytes + arena.tail_bytes > 4 * 28 * 28
    end = time.monotonic() + 100
    assert micro._run(model, arena.arena_bytes, end)
    with pytest.raises(Exception, match="TFLite Micro cannot run it"):
        micro._run(model, arena.arena_bytes - micro.STEP_BYTES, end)


@needs_tflm
def test_a_limit_is_kept_or_missed(model: Path):
    needed = micro.measure(model).arena_bytes
    assert run("benchmark", model, "--target", "tflm", "--arena", f"{needed} B").exit_code == 0
    result = run("benchmark", model, "--target", "tflm", "--arena", "1 KiB", "--json")
    assert result.exit_code == 1
    (record,) = json.loads(result.stdout)
    assert record["fits"] is False and record["limit_bytes"] == 1024 and record["arena_bytes"] == needed
    assert "1,024: too small" in run("benchmark", model, "--target", "tflm", "--arena", "1 KiB").stdout


@needs_tflm
def test_a_file_that_it_cannot_run(tmp_path: Path):
    (tmp_path / "broken.tflite").write_bytes(b"TFL3" * 20)
    result = run("benchmark", tmp_path / "broken.tflite", "--target", "tflm")
    assert result.exit_code == 3 and "TFLite Micro cannot run it" in told(result)


# Reads and writes what TFLite Micro would; stands in for a file that asks for much.
LIMITED = micro.CHILD.partition("from tflite_micro")[0]
TELLS = "print(*(f'Arena allocation {name} 1600 bytes' for name in ('total', 'head', 'tail')), sep='\\n')\n"


@pytest.mark.skipif(sys.platform != "linux", reason="macOS has no such limit")
def test_the_process_has_limits(model: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(micro, "CHILD", LIMITED + "bytearray(4 * 2**30)")
    with pytest.raises(TargetError, match="cannot run it\n  \\| MemoryError"):
        micro.measure(model)
    monkeypatch.setattr(micro, "CHILD", LIMITED + "while True: pass")
    monkeypatch.setattr(micro, "TIMEOUT_S", 1)
    with pytest.raises(TargetError, match="not done within 1 s") as caught:
        micro.measure(model)
    assert caught.value.fix


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_what_writes_without_end_is_stopped(model: Path, monkeypatch: pytest.MonkeyPatch, stream: str):
    endless = f"import sys\nwhile True: print('no end ' * 1000, file=sys.{stream})"
    monkeypatch.setattr(micro, "CHILD", endless)
    with pytest.raises(
        TargetError, match="TFLite Micro wrote more than 30 MB of text and was stopped"
    ) as caught:
        micro.measure(model)
    assert caught.value.where == model.name and caught.value.fix


def test_all_starts_together_have_one_limit(model: Path, monkeypatch: pytest.MonkeyPatch):
    hangs = (
        LIMITED + TELLS + f"import time\ntime.sleep(0 if sys.argv[2] == '{micro.AMPLE_ARENA_BYTES}' else 60)"
    )
    monkeypatch.setattr(micro, "CHILD", hangs)
    monkeypatch.setattr(micro, "TIMEOUT_S", 3)
    start = time.monotonic()
    with pytest.raises(TargetError, match="not done within 3 s"):
        micro.measure(model)
    assert time.monotonic() - start < 30, "not for each of the sizes that are tried"


@pytest.mark.parametrize(("needed", "found"), [(0, 1600), (1601, 1616), (1616, 1616), (2600, 2608)])
def test_the_smallest_is_found_with_few_starts(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needed: int, found: int
):
    count = f"open({str(tmp_path / 'starts')!r}, 'a').write('.')\n"
    monkeypatch.setattr(micro, "CHILD", f"import sys\n{count}{TELLS}sys.exit(int(sys.argv[2]) < {needed})")
    assert micro.measure(model).arena_bytes == found
    assert len((tmp_path / "starts").read_text()) <= 8


def test_what_runs_in_no_arena_is_told(model: Path, monkeypatch: pytest.MonkeyPatch):
    runs_once = f"import sys\n{TELLS}sys.exit(sys.argv[2] != '{micro.AMPLE_ARENA_BYTES}')"
    monkeypatch.setattr(micro, "CHILD", runs_once)
    with pytest.raises(TargetError, match="does not run in 2,608 bytes either"):
        micro.measure(model)


def test_without_the_package(model: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(micro, "CHILD", "raise ModuleNotFoundError(\"No module named 'tflite_micro'\")")
    with pytest.raises(MissingExtraError, match="needs tflite-micro"):
        micro.measure(model)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["benchmark", "gone.tflite", "--target", "tflm"], "there is no such file"),
        (["benchmark", "net.onnx", "--target", "tflm"], "not a .tflite file"),
        (["convert", "gone.tflite", "-o", "x.h"], "there is no such file"),
    ],
)
def test_what_cannot_be_used(arguments: list[str], words: str):
    result = run(*arguments)
    assert result.exit_code == 2 and words in told(result)


def test_a_wrong_size_and_a_target_that_measures_nothing_else(model: Path, tmp_path: Path):
    result = run("benchmark", model, "--target", "tflm", "--arena", "much")
    assert result.exit_code == 2 and "--arena" in told(result)
    for command in (["doctor"], ["validate", tmp_path], ["deploy", tmp_path, "--rollback"]):
        result = run(*command, "--target", "tflm")
        assert result.exit_code == 2 and "it tells the memory of a model" in told(result)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--arena", "64 KiB"], "--arena goes with --target tflm"),
        (["--target", "tflm", "--runtime", "litert"], "--runtime has no meaning for --target tflm"),
        (["--target", "tflm", "--threads", "2"], "--threads has no meaning"),
        (["--target", "tflm", "--rounds", "3"], "--rounds has no meaning"),
        (["--target", "tflm", "--min-time", "1"], "--min-time has no meaning"),
    ],
)
def test_options_that_would_do_nothing_are_refused(model: Path, options: list[str], words: str):
    result = run("benchmark", model, *options)
    assert result.exit_code == 2 and words in told(result)


# As C source


@needs_gcc
@pytest.mark.parametrize("language", ["c", "c++"])
def test_the_array_compiles_aligned_and_holds_the_file(model: Path, tmp_path: Path, language: str):
    header, program = tmp_path / "my model.h", tmp_path / "main.c"
    assert run("convert", model, "-o", header).exit_code == 0
    program.write_text(
        '#include "my model.h"\n#include <stdint.h>\n#include <stdio.h>\n'
        "int main(void) { if ((uintptr_t)my_model % 16) return 1;\n"
        "  return fwrite(my_model, 1, my_model_len, stdout) != my_model_len; }\n"
    )
    built = tmp_path / "program"
    subprocess.run(["gcc", "-x", language, "-Wall", "-Werror", "-o", built, program], check=True)
    assert subprocess.run([built], capture_output=True, check=True).stdout == model.read_bytes()


def test_it_lists_the_operators_for_the_resolver(model: Path, tmp_path: Path):
    header = tmp_path / "net.h"
    micro.write_header(model, header)
    text = header.read_text()
    added = re.findall(r"resolver\.(\w+)\(\)", text)
    assert added == ["AddConv2D", "AddFullyConnected", "AddMaxPool2D"]
    assert f"MicroMutableOpResolver<{len(added)}>" in text


@pytest.mark.parametrize(
    ("operator", "line"),
    [
        ("UNIDIRECTIONAL_SEQUENCE_LSTM", "resolver.AddUnidirectionalSequenceLSTM();"),
        ("RESIZE_NEAREST_NEIGHBOR", "resolver.AddResizeNearestNeighbor();"),
        ("CUSTOM:Flex\nOp", 'resolver.AddCustom("Flex\\nOp", ...);  // your own kernel of it'),
    ],
)
def test_operators_that_are_called_otherwise(operator: str, line: str):
    assert micro._added(operator) == line


@needs_gcc
@pytest.mark.parametrize("language", ["c", "c++"])
@pytest.mark.parametrize("name", ["int", "new", "main", "2nd"])
def test_a_file_called_like_a_word_of_the_language(model: Path, tmp_path: Path, language: str, name: str):
    micro.write_header(model, tmp_path / f"{name}.h")
    program = f'#include "{name}.h"\nint main(void) {{ return m{name}[0] != m{name}_len % 1; }}\n'
    (tmp_path / "main.c").write_text(program)
    subprocess.run(["gcc", "-x", language, "-Wall", "-Werror", "-c", "main.c"], check=True, cwd=tmp_path)


def test_the_manifest_stands_in_it(tmp_path: Path):
    model = tiny_models.write_tflite(tmp_path / "tiny.tflite", quantized=True)
    manifest = tiny_models.manifest_for(model, "int8")
    manifest.path_for(model).write_text(manifest.to_json())
    micro.write_header(model, tmp_path / "tiny.h")
    text = (tmp_path / "tiny.h").read_text()
    assert '// classes: ["top", "middle", "bottom"]' in text
    assert (
        f"int8 [1, 4, 4, 1], real = {tiny_models.INPUT_SCALE!r} * (q - {tiny_models.INPUT_ZERO_POINT})" in text
    )
    assert "mean [0.4], std [0.3]" in text


def test_a_line_break_in_the_name_of_the_model_stays_in_its_comment(model: Path, tmp_path: Path):
    odd = tmp_path / "x\n#error pwned\n.tflite"
    odd.write_bytes(model.read_bytes())
    micro.write_header(odd, tmp_path / "x.h")
    assert not any(line.startswith("#error") for line in (tmp_path / "x.h").read_text().splitlines())
