"""Whatever a verb does on the board, the supervisor ends with one line for the host, and with little memory."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgecnn.ondevice.supervise import ANSWER
from edgecnn.ondevice.written import MOST_STDERR, Written

# As on a small board, the system limits what the supervisor may take.
SUPERVISOR = """
import resource, sys
resource.setrlimit(resource.RLIMIT_DATA, (250_000_000,) * 2)
from edgecnn.ondevice.supervise import supervise
supervise([sys.executable, "-c", sys.argv[1], "{scratch}"], float(sys.argv[2]), "left.npy")
"""


def outcome_of(program: str, timeout_s: float = 60) -> dict[str, Any]:
    """What is said of a verb that is `program`."""
    command = [sys.executable, "-c", SUPERVISOR, program, str(timeout_s)]
    supervisor = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert supervisor.stdout is not None
    line = supervisor.stdout.readline()
    _, stderr = supervisor.communicate()
    assert line.startswith(ANSWER.encode()), stderr.decode()
    outcome: dict[str, Any] = json.loads(line[len(ANSWER) :])
    return outcome


def test_the_last_line_and_the_end_of_stderr_are_passed_on():
    outcome = outcome_of(
        "import sys\nprint('chatter')\nprint('{\"a\": 1}')\nsys.stderr.write('x' * 50_000 + 'last')"
    )
    assert (outcome["returncode"], outcome["timed_out"], outcome["is_flood"]) == (0, False, False)
    assert outcome["stdout"] == '{"a": 1}'
    assert len(outcome["stderr"]) == MOST_STDERR and outcome["stderr"].endswith("xlast")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_verb_that_writes_without_end_is_ended(stream: str):
    start = time.monotonic()
    outcome = outcome_of(f"import sys\nwhile True: print('no end ' * 1000, file=sys.{stream})")
    assert outcome["is_flood"] and outcome["returncode"] == -9 and not outcome["timed_out"]
    assert len(outcome["stdout"]) + len(outcome["stderr"]) <= MOST_STDERR
    assert time.monotonic() - start < 50


SILENT = "import os, time; os.close(1); os.close(2); time.sleep({})"


def test_a_verb_that_closes_its_pipes_and_runs_on_is_ended_in_time():
    start = time.monotonic()
    outcome = outcome_of(SILENT.format(120), timeout_s=2)
    assert (outcome["timed_out"], outcome["returncode"]) == (True, -9)
    assert time.monotonic() - start < 60


def test_a_verb_that_closes_its_pipes_is_waited_for():
    outcome = outcome_of(SILENT.format(1))
    assert (outcome["timed_out"], outcome["returncode"]) == (False, 0)


def test_a_file_that_the_host_would_not_take_fills_no_memory():
    outcome = outcome_of("import sys; open(sys.argv[1] + '/left.npy', 'wb').truncate(3_000_000_000)")
    assert (outcome["returncode"], outcome["output"]["size"]) == (0, 3_000_000_000)


@pytest.mark.parametrize("byte", [b"\xff", b"\x01"])
def test_a_long_line_that_is_no_answer_becomes_no_longer_one(byte: bytes):
    outcome = outcome_of(f"import sys; sys.stdout.buffer.write({byte!r} * 25_000_000)")
    assert not outcome["is_flood"] and len(outcome["stdout"]) <= 2000


@pytest.mark.skipif(sys.platform != "linux", reason="no other system ends it")
def test_a_verb_does_not_outlive_a_supervisor_that_is_killed(tmp_path: Path):
    begun = tmp_path / "begun"
    program = (
        f"import os, pathlib, time; path = pathlib.Path({str(begun)!r})\n"
        "path.with_name('x').write_text(str(os.getpid())); path.with_name('x').rename(path); time.sleep(120)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, program, "60"], stdin=subprocess.PIPE
    ) as supervisor:
        wait_until(begun.exists)
        supervisor.kill()
    wait_until(lambda: not is_running(begun.read_text()))


def test_what_a_killed_supervisor_left_is_removed_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    command = [sys.executable, "-c", SUPERVISOR]
    program = "import pathlib, sys, time; pathlib.Path(sys.argv[1], 'begun').touch(); time.sleep(120)"
    with (
        subprocess.Popen([*command, program, "60"], stdin=subprocess.PIPE) as killed,
        subprocess.Popen([*command, program, "60"], stdin=subprocess.PIPE) as busy,
    ):
        wait_until(lambda: len([*tmp_path.glob("*/begun")]) == 2)
        killed.kill()
        killed.wait()
        assert len([*tmp_path.iterdir()]) == 2
        assert outcome_of("print('{}')")["returncode"] == 0
        assert len([*tmp_path.glob("*/begun")]) == 1, "of the one that is at work"
        busy.terminate()
    assert [*tmp_path.iterdir()] == []


def is_running(pid: str) -> bool:
    try:
        return "State:\tZ" not in Path("/proc", pid, "status").read_text()
    except OSError:
        return False


def wait_until(true: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_the_end_is_kept_and_all_of_it_counted():
    written = Written(kept_bytes=4, most_bytes=6)
    for block, kept in ((b"ab", "ab"), (b"cdef", "cdef"), (b"", "cdef")):
        written.add(block)
        assert written.text == kept and not written.is_flood
    written.add(b"g")
    assert written.text == "defg" and written.is_flood
