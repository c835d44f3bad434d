"""Runs one verb for a host that is far away: under a time limit, and ended when the host is gone."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import select
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from edgecnn.ondevice import scratch
from edgecnn.ondevice.written import MOST_BYTES, MOST_FILE_BYTES, MOST_STDERR, Written

ANSWER = "edgecnn-answer:"
"""Begins the one line that is meant for the host; a login shell may print others."""
SCRATCH = "{scratch}"
"""Stands for a folder that is there while the verb runs."""
PR_SET_PDEATHSIG = 1
"""Of Linux's prctl(2)."""
POLLED_S = 0.05
"""How often it is asked whether a process has ended that says nothing more."""
MOST_WORDS = 2000
"""Of what it says in place of an answer."""


def supervise(command: Sequence[str], timeout_s: float, output_name: str = "") -> None:
    """Runs `command`, then prints how it went and, raw after that line, the file `output_name` of SCRATCH.

    The line: {"returncode" (negative: the signal that ended it), "timed_out", "is_flood" (it was ended since it
    wrote without end), "stdout" (its last line), "stderr" (its end), "output": null or {"size", "sha256"}}. The
    end of stdin means that the host is gone: then everything is ended and nothing said.
    """
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(1))
    with scratch.folder() as folder:
        outcome = _run([word.replace(SCRATCH, str(folder)) for word in command], timeout_s)
        outcome["output"], content = _output(folder / output_name) if output_name else (None, b"")
    sys.stdout.buffer.write((ANSWER + json.dumps(outcome) + "\n").encode())
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


def _output(path: Path) -> Tuple[Optional[Dict[str, Any]], bytes]:
    """What is said of a file that the verb left, and its content. Of one that the host would not take its size
    is said alone.
    """
    if not path.is_file():
        return None, b""
    size = path.stat().st_size
    content = path.read_bytes() if size <= MOST_FILE_BYTES else b""
    return {"size": size, "sha256": hashlib.sha256(content).hexdigest()}, content


def _run(command: List[str], timeout_s: float) -> Dict[str, Any]:
    # A session of its own: all that the verb starts can be ended together.
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=_ending_with_us(),  # noqa: PLW1509 - there is one thread
    )
    try:
        end = time.monotonic() + timeout_s
        streams, timed_out = _read_all(process, end)
        is_flood = any(stream.is_flood for stream in streams)
        if not timed_out and not is_flood:
            timed_out = _runs_on(process, end)
        if timed_out or is_flood:
            _kill(process)
        return {
            "returncode": process.wait(),
            "timed_out": timed_out,
            "is_flood": is_flood,
            "stdout": "" if is_flood else _last_line(streams[0].kept),
            "stderr": streams[1].text,
        }
    finally:
        _kill(process)


def _ending_with_us() -> Optional[Callable[[], None]]:
    """What the verb's process does before it begins: it asks Linux to be killed when this one is.

    Nothing else would end it where memory runs out and the system chooses this one.
    """
    try:
        import ctypes

        prctl = ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError):  # a Python without ctypes, another system
        return None

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))

    return ask


def _read_all(process: subprocess.Popen[bytes], end: float) -> Tuple[List[Written], bool]:
    """What the process writes until it closes both pipes, or one is a flood; whether its time was up before."""
    assert process.stdout is not None and process.stderr is not None
    streams = [Written(MOST_BYTES), Written(MOST_STDERR)]
    with selectors.DefaultSelector() as selector:
        selector.register(0, selectors.EVENT_READ, None)
        selector.register(process.stdout, selectors.EVENT_READ, streams[0])
        selector.register(process.stderr, selectors.EVENT_READ, streams[1])
        while len(selector.get_map()) > 1 and not any(stream.is_flood for stream in streams):
            left = end - time.monotonic()
            if left <= 0:
                return streams, True
            for key, _ in selector.select(left):
                block = os.read(key.fd, 1 << 16)
                if key.data is not None:
                    key.data.add(block)
                if not block and key.data is None:
                    sys.exit(1)
                if not block:
                    selector.unregister(key.fileobj)
    return streams, False


def _runs_on(process: subprocess.Popen[bytes], end: float) -> bool:
    """Waits for a process that has closed its pipes; whether it still runs when its time is up."""
    while process.poll() is None:
        left = end - time.monotonic()
        if left <= 0:
            return True
        readable, _, _ = select.select([0], [], [], min(left, POLLED_S))
        if readable and not os.read(0, 1 << 16):
            sys.exit(1)
    return False


def _last_line(stdout: bytearray) -> str:
    """All that the host looks at. An answer is JSON in ASCII; of anything else the begin will do."""
    line = bytes(stdout).strip().rpartition(b"\n")[2]
    is_answer = line.startswith(b"{") and line.isascii()
    return (line if is_answer else line[:MOST_WORDS]).decode("utf-8", "replace")


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
