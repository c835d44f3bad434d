"""Whatever happens to the measuring process, the user is told in one message."""

from __future__ import annotations

import signal
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import pytest

from edgecnn import captured
from edgecnn.errors import TargetError
from edgecnn.targets.process import run_verb


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch):
    """Runs `program` in place of edgecnn.ondevice, in a real process."""

    def run(program: str, *, timeout_s: float = 20.0):
        start = captured.run

        def instead(command, **options):
            return start([sys.executable, "-c", program], **options)

        monkeypatch.setattr(captured, "run", instead)
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


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_process_that_writes_without_end_is_stopped_and_fills_no_memory(stand_in, stream: str):
    program = (
        "import sys\nsys.stderr.write('ERROR: first\\n')\n"
        f"while True: print('no end ' * 1000, file=sys.{stream})"
    )
    start = time.monotonic()
    tracemalloc.start()
    fault = fault_of(stand_in, program, timeout_s=300)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "benchmark wrote more than 30 MB of text and was stopped\n  | " in fault.what
    assert len(fault.what) < 5000 and "another one or version" in fault.fix
    assert peak < 100_000_000 and time.monotonic() - start < 60


def test_a_process_that_closes_its_streams_and_goes_on_is_ended(stand_in):
    fault = fault_of(stand_in, "import os, time; os.close(1); os.close(2); time.sleep(60)", timeout_s=1.0)
    assert "did not end within 1 s" in fault.what


def test_what_two_streams_say_at_once_is_all_read(stand_in):
    program = (
        "import json, sys\nfor i in range(3000): print('x' * 999, file=sys.stderr)\n"
        "print(json.dumps({'a': 'y' * 3_000_000}))"
    )
    assert stand_in(program) == {"a": "y" * 3_000_000}


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
