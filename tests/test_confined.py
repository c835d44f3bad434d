"""The worker for files that nobody vouches for: what it survives, and what is told."""

from __future__ import annotations

import operator
import os
import signal
import sys
import time
from pathlib import Path

import pytest

import edgecnn
from edgecnn import confined
from edgecnn.errors import EdgeCNNError, UsageError
from edgecnn.ondevice.written import MOST_STDERR

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a process")


def test_results_and_errors_come_back_as_they_are(tmp_path: Path) -> None:
    assert confined.run(operator.add, "m.onnx", 0, 1, 2) == 3
    with pytest.raises(ZeroDivisionError):
        confined.run(operator.truediv, "m.onnx", 0, 1, 0)
    with pytest.raises(UsageError, match="it is a folder") as raised:
        confined.run(confined.check_model_file, "m.onnx", 0, tmp_path)
    assert raised.value.where == str(tmp_path) and raised.value.exit_code == 2


def test_one_process_answers_until_it_dies_and_then_another() -> None:
    first = confined.run(os.getpid, "m.onnx", 0)
    assert first != os.getpid()
    assert confined.run(os.getpid, "m.onnx", 0) == first
    with pytest.raises(EdgeCNNError):
        confined.run(os.abort, "m.onnx", 0)
    assert confined.run(os.getpid, "m.onnx", 0) not in (first, os.getpid())


@pytest.mark.parametrize(
    ("function", "argument", "said"),
    [
        (signal.raise_signal, signal.SIGSEGV, "crashed native code (SIGSEGV)"),
        (signal.raise_signal, signal.SIGKILL, "more memory than it is given"),
        (os._exit, 7, "crashed native code (exit code 7)"),
    ],
)
def test_a_crash_is_an_error_that_names_the_file(function, argument: int, said: str) -> None:
    with pytest.raises(EdgeCNNError, match=r"^m\.onnx: ") as raised:
        confined.run(function, "m.onnx", 0, argument)
    assert said in str(raised.value) and raised.value.fix


@ON_LINUX
def test_memory_has_a_limit_that_grows_with_the_file() -> None:
    with pytest.raises(EdgeCNNError, match="more memory than it is given"):
        confined.run(bytearray, "m.onnx", 0, 3 * 2**30)
    # Bytes of 3 GiB, made there and compared with nothing: the answer is small.
    assert not confined.run(eval, "m.onnx", 2**28, "bytes(3 * 2**30) == b''")


def test_what_takes_too_long_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confined, "TIMEOUT_S", 0.5)
    started = time.monotonic()
    with pytest.raises(EdgeCNNError, match=r"not done within 0\.5 s"):
        confined.run(time.sleep, "m.onnx", 0, 60)
    assert time.monotonic() - started < 30


def test_what_libraries_print_there_is_no_answer(capfd: pytest.CaptureFixture[str]) -> None:
    assert confined.run(print, "m.onnx", 0, "noise") is None
    assert confined.run(os.write, "m.onnx", 0, 1, b"noise of native code") == 20
    assert capfd.readouterr().out == ""


def test_one_that_writes_without_end_is_stopped_and_told() -> None:
    started = time.monotonic()
    with pytest.raises(EdgeCNNError, match=r"m\.onnx: it wrote more than 30 MB of text") as raised:
        confined.run(exec, "m.onnx", 0, "import os\nwhile True: os.write(2, b'no end ' * 9000)")
    assert "no end no end" in str(raised.value) and raised.value.fix
    assert time.monotonic() - started < 60
    assert confined.run(operator.add, "m.onnx", 0, 1, 2) == 3


def test_of_what_it_writes_over_many_files_the_end_is_kept() -> None:
    for _ in range(5):
        confined.run(exec, "m.onnx", 0, "import os\nfor _ in range(100): os.write(2, b'x' * 100_000)")
    assert confined._worker._stderr is not None and len(confined._worker._stderr.kept) == MOST_STDERR


def test_relative_paths_begin_where_the_caller_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        assert confined.run(os.getcwd, "m.onnx", 0) == str(tmp_path / name)


def test_the_working_directory_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pickle.py").write_text("raise RuntimeError('the wrong pickle')")
    monkeypatch.chdir(tmp_path)
    confined._worker.close()
    assert confined.run(os.getcwd, "m.onnx", 0) == str(tmp_path)
    confined._worker.close()


def test_a_source_tree_is_found_without_installing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tree = tmp_path / "tree" / "edgecnn"
    tree.mkdir(parents=True)
    monkeypatch.setattr(edgecnn, "__path__", [str(tree)])
    monkeypatch.setenv("PYTHONPATH", "/other")
    assert confined.environment()["PYTHONPATH"] == f"{tree.parent.resolve()}{os.pathsep}/other"
    installed = tmp_path / "site-packages" / "edgecnn"
    installed.mkdir(parents=True)
    monkeypatch.setattr(edgecnn, "__path__", [str(installed)])
    assert confined.environment()["PYTHONPATH"] == "/other"


@pytest.mark.parametrize("kind", ["gone", "folder", "pipe", "large"])
def test_what_is_no_model_file_is_not_opened(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "large":
        with path.open("wb") as file:
            file.truncate(confined.MOST_MODEL_BYTES + 1)
    said = {
        "gone": "No such file",
        "folder": "folder",
        "pipe": "no regular file",
        "large": "1,000,000,001 bytes",
    }
    with pytest.raises(UsageError, match=said[kind]):
        confined.check_model_file(path)
