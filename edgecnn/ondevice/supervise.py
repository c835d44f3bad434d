"""Runs one verb for a host that is far away: under a time limit, and ended when the host is gone."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Sequence

ANSWER = "edgecnn-answer:"
"""Begins the one line that is meant for the host; a login shell may print others."""
SCRATCH = "{scratch}"
"""Stands for a folder that is there while the verb runs."""
MOST_STDERR = 20_000


def supervise(command: Sequence[str], timeout_s: float, output_name: str = "") -> None:
    """Runs `command`, then prints how it went and, raw after that line, the file `output_name` of SCRATCH.

    The line: {"returncode" (negative: the signal that ended it), "timed_out", "stdout", "stderr",
    "output": null or {"size", "sha256"}}. The end of stdin means that the host is gone: then everything is
    ended and nothing said.
    """
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="edgecnn-") as scratch:
        outcome = _run([word.replace(SCRATCH, scratch) for word in command], timeout_s)
        output = Path(scratch, output_name)
        content = output.read_bytes() if output_name and output.is_file() else None
    outcome["output"] = (
        None if content is None else {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    )
    sys.stdout.buffer.write((ANSWER + json.dumps(outcome) + "\n").encode())
    sys.stdout.buffer.write(content or b"")
    sys.stdout.buffer.flush()


def _run(command: List[str], timeout_s: float) -> Dict[str, Any]:
    # A session of its own: all that the verb starts can be ended together.
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        texts, timed_out = _read_all(process, time.monotonic() + timeout_s)
        if timed_out:
            _kill(process)
        return {
            "returncode": process.wait(),
            "timed_out": timed_out,
            "stdout": texts[0].decode("utf-8", "replace"),
            "stderr": texts[1][-MOST_STDERR:].decode("utf-8", "replace"),
        }
    finally:
        _kill(process)


def _read_all(process: subprocess.Popen[bytes], end: float) -> Any:
    """What the process writes until it closes both pipes, and whether its time was up before."""
    assert process.stdout is not None and process.stderr is not None
    texts = [bytearray(), bytearray()]
    with selectors.DefaultSelector() as selector:
        selector.register(0, selectors.EVENT_READ, None)
        selector.register(process.stdout, selectors.EVENT_READ, texts[0])
        selector.register(process.stderr, selectors.EVENT_READ, texts[1])
        while len(selector.get_map()) > 1:
            left = end - time.monotonic()
            if left <= 0:
                return texts, True
            for key, _ in selector.select(left):
                block = os.read(key.fd, 1 << 16)
                if key.data is not None:
                    key.data.extend(block)
                if not block and key.data is None:
                    sys.exit(1)
                if not block:
                    selector.unregister(key.fileobj)
    return texts, False


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
