"""What a process writes, read while it runs: one that never stops writing is stopped, and fills no memory."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from edgecnn.ondevice.written import MOST_BYTES, MOST_STDERR, Written

BLOCK_BYTES = 1 << 16


class Captured(Written):
    """One stream of a process. Where it is a flood, `stop` is called, and no more is read."""

    def __init__(
        self,
        stream: IO[bytes] | None,
        stop: Callable[[], object],
        *,
        kept_bytes: int,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        assert stream is not None
        super().__init__(kept_bytes, most_bytes)
        self._stream, self._stop = stream, stop
        self._thread = threading.Thread(target=self._read_all, daemon=True)

    def fileno(self) -> int:
        return self._stream.fileno()

    def start(self) -> Captured:
        """From now on a thread reads."""
        self._thread.start()
        return self

    def count_anew(self) -> None:
        """What it wrote until now is no part of a flood."""
        self._n_bytes = 0

    def has_ended(self, within_s: float) -> bool:
        self._thread.join(max(0.0, within_s))
        return not self._thread.is_alive()

    def read_on(self) -> bool:
        """Reads what comes next; whether there may be more."""
        block = os.read(self._stream.fileno(), BLOCK_BYTES)
        self.add(block)
        if self.is_flood:
            self._stop()
        return bool(block) and not self.is_flood

    def _read_all(self) -> None:
        with self._stream, suppress(OSError):
            while self.read_on():
                pass


@dataclass(frozen=True)
class Ended:
    """A process that is gone. Of its stderr there is the end."""

    returncode: int
    stdout: str
    stderr: str
    is_flood: bool


def run(command: Sequence[str], *, timeout_s: float, env: Mapping[str, str]) -> Ended:
    """As subprocess.run does it, but a process that writes without end is killed.

    Raises subprocess.TimeoutExpired where it takes longer, OSError where it cannot be started. Whatever is
    raised, an interrupt too, the process is killed before.
    """
    end = time.monotonic() + timeout_s
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env
    )
    try:
        stdout = Captured(process.stdout, process.kill, kept_bytes=MOST_BYTES).start()
        stderr = Captured(process.stderr, process.kill, kept_bytes=MOST_STDERR).start()
        # The ends of its streams tell at once that it is done; to ask again and again would disturb what it
        # measures.
        for stream in (stdout, stderr):
            if not stream.has_ended(end - time.monotonic()):
                raise subprocess.TimeoutExpired(command, timeout_s)
        process.wait(max(0.0, end - time.monotonic()))
    finally:
        process.kill()
        process.wait()
    is_flood = stdout.is_flood or stderr.is_flood
    return Ended(process.returncode, "" if is_flood else stdout.text, stderr.text, is_flood)
