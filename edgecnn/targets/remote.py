"""Measuring on a board over ssh: its python3 runs `edgecnn-device.pyz`, which is sent there once."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from edgecnn import files
from edgecnn.errors import TargetError
from edgecnn.ondevice import receive
from edgecnn.ondevice.runtimes import RUNTIMES, runtime_class
from edgecnn.ondevice.supervise import ANSWER, SCRATCH
from edgecnn.target_file import Address
from edgecnn.targets import process, ssh, ssh_faults, zipapp
from edgecnn.targets.ssh import Connection
from edgecnn.targets.target import Target

# A slow board may need this long for starting Python, and the network for a file.
ANSWER_S = 60
SLOWEST_BYTES_PER_S = 50_000
LARGEST_FILE_BYTES = 16 * 2**20
BLOCK_BYTES = 1 << 16
VENV_PYTHON = "~/edgecnn/venv/bin/python"


class RemoteTarget(Target):
    """A board. `connection` ends with `close`."""

    def __init__(self, address: Address, connection: Connection, *, timeout_s: float = 600.0) -> None:
        self.board = Board(address, connection)
        super().__init__(address.name, self.board, timeout_s)
        self.how_to_install = f"install one there: edgecnn doctor --target {address.name} --fix"
        self._runtimes: dict[str, str] | None = None

    def runtimes_for(self, model_format: str) -> tuple[str, ...]:
        if self._runtimes is None:
            self._runtimes = self.probe().runtimes
        return tuple(
            name
            for name in RUNTIMES
            if name in self._runtimes and runtime_class(name).model_format == model_format
        )

    def close(self) -> None:
        self.board.connection.close()


class Board:
    """Runs verbs over there, and brings files there: a `target.Machine`."""

    largest_file_bytes: int | None = LARGEST_FILE_BYTES

    def __init__(self, address: Address, connection: Connection) -> None:
        self.address = address
        self.connection = connection
        self._placed: dict[tuple[str, str], str] = {}
        """(sha256, name) -> path there, of what was found there in this session."""

    def run(self, arguments: Sequence[str], *, about: str, timeout_s: float) -> dict[str, Any]:
        return self._supervised(arguments, "", about, timeout_s)[0]

    def run_to_file(
        self, arguments: Sequence[str], output: Path, *, about: str, timeout_s: float
    ) -> dict[str, Any]:
        arguments = [*arguments, "--output", f"{SCRATCH}/{output.name}"]
        answer, content = self._supervised(arguments, output.name, about, timeout_s)
        files.write_bytes(output, content)
        return answer

    def place(self, path: Path) -> str:
        try:
            return self.put(path.read_bytes(), path.name)
        except OSError as fault:
            what = "no such model file" if isinstance(fault, FileNotFoundError) else "cannot be read"
            raise TargetError(f"{what}: {fault.strerror}", where=str(path)) from fault

    def put(self, content: bytes, name: str) -> str:
        """The path there of a file with this content, sent where it is missing."""
        name = re.sub(r"[^A-Za-z0-9._+=-]", "_", name).lstrip(".-") or "file"
        sha256 = hashlib.sha256(content).hexdigest()
        if (sha256, name) not in self._placed:
            self._placed[sha256, name] = self._send(content, sha256, name)
        return self._placed[sha256, name]

    def _send(self, content: bytes, sha256: str, name: str) -> str:
        source = inspect.getsource(receive)
        script = self._python() + shlex.join(["-c", source, sha256, str(len(content)), name])
        what = f"the upload of {name}"
        timeout_s = ANSWER_S + len(content) / SLOWEST_BYTES_PER_S
        with self.connection.command(script, timeout_s=timeout_s) as running:
            answer = self._answer(running, what)
            if "send" in answer:
                _write(running, content)
                answer = self._answer(running, what)
        return cast(str, answer["have"])

    def _supervised(
        self, arguments: Sequence[str], output_name: str, about: str, timeout_s: float
    ) -> tuple[dict[str, Any], bytes]:
        """The answer of one verb, and the file `output_name` that it left in its scratch folder."""
        verb = arguments[0]
        app = self.put(zipapp.build(), zipapp.NAME)
        script = self._python() + shlex.join([app, "supervise", f"{timeout_s:g}", output_name, *arguments])
        with self.connection.command(script, timeout_s=timeout_s + ANSWER_S) as running:
            outcome = self._answer(running, verb)
            content = self._content(running, outcome["output"], verb)
        if outcome["timed_out"]:
            raise process.timed_out(verb, about, timeout_s)
        answer = process.answer_of(
            outcome["returncode"], outcome["stdout"], outcome["stderr"], verb=verb, about=about
        )
        return answer, content

    def _answer(self, running: subprocess.Popen[bytes], what: str) -> dict[str, Any]:
        """The next line that is meant for us. Raises TargetError for a fault told in it, or without one."""
        while line := ssh.read_line(running):
            if line.startswith(ANSWER.encode()) and line.endswith(b"\n"):
                answer: dict[str, Any] = json.loads(line[len(ANSWER) :])
                if "error" in answer:
                    raise TargetError(answer["error"], where=self.address.host, fix=answer["fix"])
                return answer
        raise self._silence(running, what)

    def _content(self, running: subprocess.Popen[bytes], output: dict[str, Any] | None, what: str) -> bytes:
        if output is None:
            return b""
        assert running.stdout is not None
        content = running.stdout.read(output["size"])
        if hashlib.sha256(content).hexdigest() != output["sha256"]:
            raise self._silence(running, what)
        return content

    def _silence(self, running: subprocess.Popen[bytes], what: str) -> TargetError:
        """Why what runs there ended without an answer."""
        running.wait()
        self._placed.clear()  # the board may have been another, or set up anew, when it is reached again
        if fault := self.connection.fault(running, what):
            return fault
        if running.returncode == ssh_faults.COMMAND_NOT_FOUND:
            return TargetError(
                f"there is no {self.address.python or 'python3'}",
                where=self.address.host,
                fix="install it there: sudo apt install python3, or name another: python: PATH in targets.yaml",
            )
        words = self.connection.stderr_path.read_text(errors="replace").strip().splitlines()[-3:]
        return TargetError(
            f"{what} ended with exit code {running.returncode} and without an answer"
            + "".join(f"\n  | {line}" for line in words),
            where=self.address.host,
            fix=f"check the Python there: ssh {self.address.host} {self._named_python()} -V",
        )

    def _python(self) -> str:
        """Shell text that starts the board's Python; arguments come after it."""
        if self.address.python:
            return f"exec {shell_path(self.address.python)} "
        return f'p={shell_path(VENV_PYTHON)}; [ -x "$p" ] || p=python3; exec "$p" '

    def _named_python(self) -> str:
        """The Python that `_python` starts, as the user would write it."""
        return self.address.python or f"{VENV_PYTHON} -V, or where that is not there python3"


def shell_path(path: str) -> str:
    """A path for the shell there; ~ is that user's home, spaces are spaces."""
    if path.startswith("~/"):
        return '"$HOME"/' + shlex.quote(path[2:])
    return shlex.quote(path)


def _write(running: subprocess.Popen[bytes], content: bytes) -> None:
    """All of `content` to its stdin; less where it no longer reads."""
    assert running.stdin is not None
    try:
        for start in range(0, len(content), BLOCK_BYTES):
            running.stdin.write(content[start : start + BLOCK_BYTES])
        running.stdin.flush()
    except OSError:
        pass  # the answer, or its absence, tells why
