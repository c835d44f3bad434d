"""Measuring on a board over ssh: its python3 runs `edgecnn-device.pyz`, which is sent there once."""

from __future__ import annotations

import hashlib
import inspect
import re
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from edgecnn import files
from edgecnn.errors import TargetError
from edgecnn.ondevice import receive
from edgecnn.ondevice.runtimes import RUNTIMES, runtime_class
from edgecnn.ondevice.supervise import ANSWER, SCRATCH
from edgecnn.ondevice.written import MOST_FILE_BYTES
from edgecnn.target_file import Address
from edgecnn.targets import answers, process, ssh, ssh_faults, zipapp
from edgecnn.targets.answers import Outcome, Received, SentFile
from edgecnn.targets.ssh import Connection
from edgecnn.targets.target import Target

T = TypeVar("T")

# A slow board may need this long for starting Python, and the network for a file.
ANSWER_S = 60
SLOWEST_BYTES_PER_S = 50_000
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
        if content is None:
            raise answers.unusable(arguments[0], "it left no output", self.address.host)
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
            answer = self._answer(running, Received, what)
            if answer.send:
                _write(running, content)
                answer = self._answer(running, Received, what)
        if answer.have is None:
            raise answers.unusable(what, "it does not say where the file is", self.address.host)
        return answer.have

    def _supervised(
        self, arguments: Sequence[str], output_name: str, about: str, timeout_s: float
    ) -> tuple[dict[str, Any], bytes | None]:
        """The answer of one verb, and the file `output_name` that it left in its scratch folder, if any."""
        verb = arguments[0]
        app = self.put(zipapp.build(), zipapp.NAME)
        script = self._python() + shlex.join([app, "supervise", f"{timeout_s:g}", output_name, *arguments])
        with self.connection.command(script, timeout_s=timeout_s + ANSWER_S) as running:
            outcome = self._answer(running, Outcome, verb)
            content = self._content(running, outcome.output, verb)
        if outcome.timed_out:
            raise process.timed_out(verb, about, timeout_s)
        if outcome.is_flood:
            raise process.flood(verb, about, outcome.stderr)
        answer = process.answer_of(
            outcome.returncode, outcome.stdout, outcome.stderr, verb=verb, about=about, check=self._look()
        )
        return answer, content

    def _answer(self, running: subprocess.Popen[bytes], kind: type[T], what: str) -> T:
        """The next line that is meant for us. Raises TargetError for a fault told in it, or without one."""
        n_bytes = 0
        while line := ssh.read_line(running, answers.MOST_LINE_BYTES):
            if len(line) == answers.MOST_LINE_BYTES:
                raise answers.unusable(what, "a line without end", self.address.host, self._look())
            if line.startswith(ANSWER.encode()) and line.endswith(b"\n"):
                return self._understood(line[len(ANSWER) :], kind, what)
            n_bytes += len(line)
            if n_bytes > answers.MOST_LINE_BYTES:
                raise answers.unusable(what, "lines without end", self.address.host, self._look())
        raise self._silence(running, what)

    def _understood(self, line: bytes, kind: type[T], what: str) -> T:
        try:
            answer = answers.parse(line)
        except ValueError as fault:
            raise answers.unusable(what, str(fault), self.address.host, self._look()) from fault
        if "error" in answer:
            told = process.reported(answer, self.address.host)
            told.fix = told.fix or self._look()
            raise told
        return answers.checked(kind, answer, what, self.address.host)

    def _content(self, running: subprocess.Popen[bytes], output: SentFile | None, what: str) -> bytes | None:
        if output is None:
            return None
        if output.size > MOST_FILE_BYTES:
            raise TargetError(
                f"{what} has {output.size:,} bytes of outputs; up to {MOST_FILE_BYTES:,} are taken",
                where=self.address.host,
                fix="try fewer images (--samples)",
            )
        content = _read(running, output.size)
        if len(content) < output.size:
            raise self._silence(running, what)
        if hashlib.sha256(content).hexdigest() != output.sha256:
            raise answers.unusable(what, "its output is not what its sha256 says", self.address.host)
        return content

    def _silence(self, running: subprocess.Popen[bytes], what: str) -> TargetError:
        """Why what runs there ended without an answer."""
        running.wait()
        self._placed.clear()  # the board may have been another, or set up anew, when it is reached again
        if fault := self.connection.fault(running, what):
            return fault
        if running.returncode == ssh_faults.COMMAND_NOT_FOUND:
            return TargetError(
                f"there is no {self._python_of_its_own() or 'python3'}",
                where=self.address.host,
                fix="install it there: sudo apt install python3, or name another: python: PATH in targets.yaml",
            )
        words = self.connection.last_words()
        return TargetError(
            f"{what} ended with exit code {running.returncode} and without an answer"
            + "".join(f"\n  | {line}" for line in words),
            where=self.address.host,
            fix=self._look(),
        )

    def _look(self) -> str:
        return f"check the Python there: ssh {self.address.host} {self._named_python()} -V"

    def _python(self) -> str:
        """Shell text that starts the board's Python; arguments come after it."""
        if named := self._python_of_its_own():
            return f"exec {shell_path(named)} "
        return f'p={shell_path(VENV_PYTHON)}; [ -x "$p" ] || p=python3; exec "$p" '

    def _python_of_its_own(self) -> str | None:
        """The one that the target names. Ours is none: `doctor --fix` makes it, by the python3 there."""
        return None if self.address.python == VENV_PYTHON else self.address.python

    def _named_python(self) -> str:
        """The Python that `_python` starts, as the user would write it."""
        return self._python_of_its_own() or f"{VENV_PYTHON} -V, or where that is not there python3"


def shell_path(path: str) -> str:
    """A path for the shell there; ~ is that user's home, spaces are spaces."""
    if path.startswith("~/"):
        return '"$HOME"/' + shlex.quote(path[2:])
    return shlex.quote(path)


def _read(running: subprocess.Popen[bytes], n_bytes: int) -> bytes:
    """So many bytes of its stdout; fewer where it ends. Memory is taken as they come, whatever was said."""
    assert running.stdout is not None
    content = bytearray()
    while block := running.stdout.read(min(BLOCK_BYTES, n_bytes - len(content))):
        content += block
    return bytes(content)


def _write(running: subprocess.Popen[bytes], content: bytes) -> None:
    """All of `content` to its stdin; less where it no longer reads."""
    assert running.stdin is not None
    try:
        for start in range(0, len(content), BLOCK_BYTES):
            running.stdin.write(content[start : start + BLOCK_BYTES])
        running.stdin.flush()
    except OSError:
        pass  # the answer, or its absence, tells why
