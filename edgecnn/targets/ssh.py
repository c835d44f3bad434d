"""One multiplexed connection to a board by OpenSSH, which knows the user's config, agent and jump hosts."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

from edgecnn.errors import TargetError
from edgecnn.target_file import Address
from edgecnn.targets import ssh_faults

CONNECT_TIMEOUT_S = 10
MOST_WORDS_BYTES = 2000
# A path of a Unix socket has 104 bytes on some systems; ssh adds 17 while it makes one. Spaces, quotes, % and $
# in ControlPath mean something to ssh, not the same in all versions.
_SOCKET_FOLDER = re.compile(r"[A-Za-z0-9_./+-]{1,80}")
# A session that does nothing, and ends with our end of its stdin: a connection does not outlive us, however we
# end.
_HOLD = "exec cat >/dev/null"
# A command uses the connection that is there. Without one ssh would dial by itself, with options of the user.
_NEVER_DIAL = ("-o", "ControlMaster=no", "-o", "ProxyCommand=false")


class Connection:
    """Opened by the first command, and again by the next one where it was lost. `close` ends it.

    Host keys are checked strictly; `accept_new_host_key` takes an unknown one (never a changed one), and tells
    its fingerprint to `say`.
    """

    def __init__(
        self,
        address: Address,
        *,
        accept_new_host_key: bool = False,
        say: Callable[[str], None] = lambda _: None,
        alive_interval_s: int = 5,
    ) -> None:
        self.address = address
        self.host = address.host
        self._accept = accept_new_host_key
        self._say = say
        self._alive_interval_s = alive_interval_s
        self._master: subprocess.Popen[bytes] | None = None
        folder = tempfile.mkdtemp(prefix="edgecnn-ssh-")
        if not _SOCKET_FOLDER.fullmatch(folder):
            Path(folder).rmdir()
            folder = tempfile.mkdtemp(prefix="edgecnn-ssh-", dir="/tmp")
        self._folder = Path(folder)
        self._cleaner = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._master_ender: weakref.finalize[Any, Any] | None = None

    @property
    def is_open(self) -> bool:
        return self._master is not None and self._master.poll() is None

    def close(self) -> None:
        if self._master_ender is not None:
            self._master_ender()
        self._master = None
        self._cleaner()

    @contextmanager
    def command(self, script: str, *, timeout_s: float) -> Iterator[subprocess.Popen[bytes]]:
        """A running `sh -c SCRIPT` on the board with pipes to its stdin and stdout, killed after `timeout_s`.

        The user's login shell there starts it: any that reads single quotes as sh does, which csh does not.
        Its stderr goes to `stderr_path`. At the end of the block it is killed if it still runs: its end of the
        pipes closes, which is how what runs on the board learns of it. Raises TargetError where no connection
        can be made.
        """
        self._connect()
        command = [*self._ssh(*_NEVER_DIAL), "--", self.host, "sh -c " + shlex.quote(script)]
        with self.stderr_path.open("wb") as stderr:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, env=_environment()
            )
        timer = threading.Timer(timeout_s, process.kill)
        timer.start()
        try:
            yield process
        finally:
            timer.cancel()
            _end(process)

    @property
    def stderr_path(self) -> Path:
        return self._folder / "stderr"

    def last_words(self) -> list[str]:
        """The last lines that the last command wrote to its stderr."""
        with self.stderr_path.open("rb") as stderr:
            size = stderr.seek(0, os.SEEK_END)
            stderr.seek(max(0, size - MOST_WORDS_BYTES))
            return stderr.read().decode("utf-8", "replace").strip().splitlines()[-3:]

    def fault(self, process: subprocess.Popen[bytes], what: str) -> TargetError | None:
        """Why `process` has ended without an answer, as far as ssh knows. None: it was not ssh."""
        if process.returncode == ssh_faults.SSH_FAULT or not self._lives_on():
            return ssh_faults.lost(what, self.host)
        if process.returncode < 0:
            return TargetError(
                f"{what} did not end in time and was stopped",
                where=self.host,
                fix="try again; a slow board or network may need fewer images (--samples)",
            )
        return None

    def _lives_on(self) -> bool:
        """Whether the connection is there, a moment after a command has ended."""
        time.sleep(0.05)  # the master notices, too
        return self.is_open

    def _connect(self) -> None:
        if self.is_open:
            return
        control, log = self._folder / "control", self._folder / "log"
        control.unlink(missing_ok=True)
        accept = "accept-new" if self._accept else "yes"
        command = [
            *self._ssh("-o", "ControlMaster=yes"), "-v", "-o", f"StrictHostKeyChecking={accept}",
            "--", self.host, _HOLD,
        ]  # fmt: skip
        try:
            with log.open("wb") as stderr:
                self._master = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=stderr,
                    env=_environment(),
                    start_new_session=True,  # Ctrl-C is for us: what runs there is ended in order
                )
        except FileNotFoundError as fault:
            raise TargetError(
                "there is no ssh on this machine", fix="install OpenSSH's client (Debian: openssh-client)"
            ) from fault
        self._master_ender = weakref.finalize(self, _end, self._master)
        self._wait_for(control, log)

    def _wait_for(self, control: Path, log: Path) -> None:
        assert self._master is not None
        end = time.monotonic() + 2 * CONNECT_TIMEOUT_S
        while not control.exists():
            if self._master.poll() is not None:
                raise ssh_faults.connection_fault(log.read_text(errors="replace"), self.host)
            if time.monotonic() > end:
                _end(self._master)
                raise ssh_faults.connection_fault("Connection timed out", self.host)
            time.sleep(0.01)
        text = log.read_text(errors="replace")
        if self._accept and "Permanently added" in text:
            key = re.search(r"Server host key: (\S+ \S+)", text)
            self._say(f"{self.host}: its host key is now known: {key[1] if key else '?'}")

    def _ssh(self, *first: str) -> list[str]:
        """ssh with our options; those in `first` come before all others."""
        address = self.address
        config = ["-F", str(address.ssh_config)] if address.ssh_config else []
        # What comes first counts: the user's own options may change all that follows but these.
        options = [
            "BatchMode=yes",
            f"ControlPath={self._folder}/control",
            "ControlPersist=no",
            "RemoteCommand=none",
            *address.ssh_options,
            f"ConnectTimeout={CONNECT_TIMEOUT_S}",
            f"ServerAliveInterval={self._alive_interval_s}",
            "ServerAliveCountMax=3",
            "ForwardX11=no",
            "ForwardAgent=no",
            "ClearAllForwardings=yes",
        ]
        return ["ssh", "-T", *first, *config, *(word for option in options for word in ("-o", option))]


def read_line(process: subprocess.Popen[bytes], most_bytes: int) -> bytes:
    """The next line of its stdout, or as much of it; empty where it has ended."""
    return cast(BinaryIO, process.stdout).readline(most_bytes)


def _environment() -> dict[str, str]:
    """Ours, with ssh's messages in English: they are told apart by their words."""
    return {**os.environ, "LC_ALL": "C"}


def _end(process: subprocess.Popen[bytes]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(OSError):
                stream.close()
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
