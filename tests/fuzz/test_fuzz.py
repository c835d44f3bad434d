"""Damaged files end in a clear error: a short run of `make fuzz`, and the inputs that once did not."""

from __future__ import annotations

import contextlib
import importlib.util
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
from recipes_for_tests import ROOT

from edgecnn.errors import EdgeCNNError

N_EXECUTIONS = 150
CORPUS = sorted((ROOT / "tests" / "fuzz" / "corpus").glob("*/*"))


def load() -> ModuleType:
    if "fuzz" not in sys.modules:
        spec = importlib.util.spec_from_file_location("fuzz", ROOT / "tools" / "fuzz.py")
        assert spec is not None and spec.loader is not None
        sys.modules["fuzz"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["fuzz"])
    return sys.modules["fuzz"]


fuzz = load()


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_damaged_files_end_in_a_clear_error(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = [path.read_bytes() for path in fuzz.TARGETS[name].seeds(tmp_path)]
    path = tmp_path / f"damaged{fuzz.TARGETS[name].suffix}"
    for number, content in fuzz.inputs(seeds, 1, range(N_EXECUTIONS)):
        path.write_bytes(content)
        started = time.monotonic()
        try:
            fuzz.TARGETS[name].read(path)
        except EdgeCNNError:
            pass
        except Exception as fault:
            pytest.fail(f"input {number} of seed 1: {type(fault).__name__}: {fault}")
        # Generous: a busy machine is no fault of the reader.
        assert time.monotonic() - started < 4 * fuzz.LONGEST_S, number


def test_what_was_once_found_stays_mended() -> None:
    assert CORPUS
    for path in CORPUS:
        with contextlib.suppress(EdgeCNNError):
            fuzz.TARGETS[path.parent.name].read(path)


def test_the_same_seed_damages_alike_and_another_otherwise() -> None:
    seeds = [b"abcdefgh" * 10, b"12345678" * 10]
    assert list(fuzz.inputs(seeds, 1, range(50))) == list(fuzz.inputs(seeds, 1, range(50)))
    assert [content for _, content in fuzz.inputs(seeds, 1, range(20, 50))] == [
        content for _, content in fuzz.inputs(seeds, 1, range(50))
    ][20:]
    assert list(fuzz.inputs(seeds, 2, range(50))) != list(fuzz.inputs(seeds, 1, range(50)))


def sleeps(connection) -> None:
    connection.send(3)
    time.sleep(60)


def dies(connection) -> None:
    connection.send(4)
    os.kill(os.getpid(), signal.SIGKILL)


def says(connection) -> None:
    connection.send(5)
    connection.send("Traceback: ValueError")


def ends(connection) -> None:
    connection.send(6)
    connection.send(None)


@pytest.mark.parametrize(
    ("child", "number", "said"),
    [
        (sleeps, 3, "took more than"),
        (dies, 4, "the process ended by itself: exit code -9"),
        (says, 5, "ValueError"),
        (ends, 6, None),
    ],
)
def test_a_hang_a_crash_and_an_exception_are_findings(
    child, number: int, said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuzz, "LONGEST_S", 1.0)
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=child, args=(theirs,))
    process.start()
    theirs.close()
    found, told = fuzz.watch(ours, process)
    process.kill()
    process.join()
    assert found == number
    assert told is None if said is None else said in told
