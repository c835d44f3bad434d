"""Whatever happens to the measuring process, the user is told in one message."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edgecnn.errors import TargetError
from edgecnn.targets import process
from edgecnn.targets.process import run_verb


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch):
    """Runs `program` in place of edgecnn.ondevice, in a real process."""

    def run(program: str, *, timeout_s: float = 20.0):
        start = subprocess.run

        def instead(command, **options):
            return start([sys.executable, "-c", program], **options)

        monkeypatch.setattr(process.subprocess, "run", instead)
        return run_verb(["benchmark"], about="a.tflite on litert", timeout_s=timeout_s)

    return run


def fault_of(stand_in, program: str, **options) -> TargetError:
    with pytest.raises(TargetError) as caught:
        stand_in(program, **options)
    assert caught.value.where == "a.tflite on litert"
    return caught.value


def test_the_last_line_is_the_answer(stand_in):
    assert stand_in("print('INFO: native chatter'); print('{\"a\": 1}')") == {"a": 1}


def test_a_reported_fault_keeps_its_fix(stand_in):
    program = """print('{"error": "no such model", "fix": "check the path"}'); raise SystemExit(3)"""
    fault = fault_of(stand_in, program)
    assert (fault.what, fault.fix) == ("no such model", "check the path")


def test_a_crash_in_native_code_is_named_with_the_last_words(stand_in):
    program = (
        "import os, signal, sys; sys.stderr.write('ERROR: bad tensor\\n'); sys.stderr.flush();"
        "os.kill(os.getpid(), signal.SIGSEGV)"
    )
    fault = fault_of(stand_in, program)
    assert "benchmark crashed in native code (SIGSEGV)" in fault.what and "| ERROR: bad tensor" in fault.what
    assert "another runtime" in fault.fix


def test_a_kill_hints_at_memory(stand_in):
    fault = fault_of(stand_in, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert fault.what == "benchmark was killed (SIGKILL)" and "memory" in fault.fix


def test_a_hang_is_ended(stand_in):
    start = time.monotonic()
    fault = fault_of(stand_in, "import time; time.sleep(60)", timeout_s=0.5)
    assert time.monotonic() - start < 10
    assert "did not end within 0.5 s" in fault.what


@pytest.mark.parametrize("output", ["", "hello", "[1]", '{"cut": '])
def test_no_answer(stand_in, output: str):
    fault = fault_of(stand_in, f"import sys; sys.stderr.write('Traceback: x\\n'); print({output!r})")
    assert "exit code 0 and without an answer" in fault.what and "| Traceback: x" in fault.what
    assert "edgecnn.ondevice probe" in fault.fix


def test_a_bad_exit_with_a_good_line_is_no_answer(stand_in):
    assert "exit code 1" in fault_of(stand_in, "print('{}'); raise SystemExit(1)").what


def test_only_the_last_words_are_shown(stand_in):
    fault = fault_of(stand_in, "import sys\nfor i in range(99): print('line', i, file=sys.stderr)")
    assert "line 98" in fault.what and "line 88\n" not in fault.what


def test_a_python_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(TargetError, match="cannot start /no/such/python"):
        run_verb(["probe"], about="host", timeout_s=5)


def test_an_interrupted_process_is_an_interrupt(stand_in):
    with pytest.raises(KeyboardInterrupt):
        stand_in("raise SystemExit(130)")
    with pytest.raises(KeyboardInterrupt):
        stand_in("import os, signal; os.kill(os.getpid(), signal.SIGINT)")


def is_running(pid: str) -> bool:
    try:
        status = Path("/proc", pid, "status").read_text()
    except OSError:
        return False
    return "State:\tZ" not in status  # dead, and not yet asked for its exit code


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_an_interrupt_ends_the_process(stand_in, tmp_path: Path):
    pid_file = tmp_path / "pid"
    program = (
        "import os, pathlib, time;"
        f"pathlib.Path({str(tmp_path / 'x')!r}).write_text(str(os.getpid()));"
        f"os.rename({str(tmp_path / 'x')!r}, {str(pid_file)!r});"
        "time.sleep(60)"
    )

    def interrupt() -> None:
        while not pid_file.exists():
            time.sleep(0.01)
        main_thread = threading.main_thread().ident
        assert main_thread is not None
        signal.pthread_kill(main_thread, signal.SIGINT)  # as Ctrl-C does: it wakes the waiting thread

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        stand_in(program)
    thread.join()
    end = time.monotonic() + 30
    while is_running(pid_file.read_text()) and time.monotonic() < end:
        time.sleep(0.01)
    assert not is_running(pid_file.read_text())


def test_the_working_directory_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "numpy.py").write_text("raise RuntimeError('the wrong numpy')")
    monkeypatch.chdir(tmp_path)
    assert run_verb(["probe"], about="host", timeout_s=60)["arch"]
