"""One multiplexed connection to a board by OpenSSH, which knows the user's config, agent and jump hosts."""

from __future__ import annotations

import os
import re
import select
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

from edgecnn.captured import Captured
from edgecnn.errors import TargetError
from edgecnn.target_file import Address
from edgecnn.targets import ssh_faults

CONNECT_TIMEOUT_S = 10
MOST_WORDS_BYTES = 2000
KEPT_LOG_BYTES = 64_000
MOST_STDERR_BYTES = 4_000_000
"""Of one command, and of the connection meanwhile. It is read and forgotten: a file would fill the disk."""
LAST_WORDS_S = 5
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
        self._log: Captured | None = None
        self._stderr: Captured | None = None
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
        self._end_master()
        self._cleaner()

    def _end_master(self) -> None:
        if self._master_ender is not None:
            self._master_ender()
        self._master = None

    @contextmanager
    def command(self, script: str, *, timeout_s: float) -> Iterator[subprocess.Popen[bytes]]:
        """A running `sh -c SCRIPT` on the board with pipes to its stdin and stdout, killed after `timeout_s`.

        The user's login shell there starts it: any that reads single quotes as sh does, which csh does not.
        `last_words` has the end of its stderr. At the end of the block it is killed if it still runs: its end
        of the pipes closes, which is how what runs on the board learns of it. Raises TargetError where no
        connection can be made.
        """
        self._connect()
        assert self._log is not None
        self._log.count_anew()
        command = [*self._ssh(*_NEVER_DIAL), "--", self.host, "sh -c " + shlex.quote(script)]
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=_environment(),
            )
        except OSError as fault:  # Linux takes 128 KiB in one word
            raise TargetError(
                f"ssh cannot be started with a command of {len(script):,} letters: {fault.strerror}",
                where=self.host,
                fix="give it less at once: fewer files, or shorter names",
            ) from fault
        self._stderr = Captured(
            process.stderr, process.kill, kept_bytes=MOST_WORDS_BYTES, most_bytes=MOST_STDERR_BYTES
        ).start()
        timer = threading.Timer(timeout_s, process.kill)
        timer.start()
        try:
            yield process
        finally:
            timer.cancel()
            _end(process)

    def last_words(self) -> list[str]:
        """The last lines that the last command wrote to its stderr; that command has ended."""
        assert self._stderr is not None
        self._stderr.has_ended(LAST_WORDS_S)
        return self._stderr.text.strip().splitlines()[-3:]

    def fault(self, process: subprocess.Popen[bytes], what: str) -> TargetError | None:
        """Why `process` has ended without an answer, as far as ssh knows. None: it was not ssh."""
        if any(stream is not None and stream.is_flood for stream in (self._stderr, self._log)):
            self._end_master()
            return ssh_faults.flood(what, self.host)
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
        control = self._folder / "control"
        control.unlink(missing_ok=True)
        accept = "accept-new" if self._accept else "yes"
        command = [
            *self._ssh("-o", "ControlMaster=yes"), "-v", "-o", f"StrictHostKeyChecking={accept}",
            "--", self.host, _HOLD,
        ]  # fmt: skip
        try:
            master = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=_environment(),
                start_new_session=True,  # Ctrl-C is for us: what runs there is ended in order
            )
        except FileNotFoundError as fault:
            raise TargetError(
                "there is no ssh on this machine", fix="install OpenSSH's client (Debian: openssh-client)"
            ) from fault
        self._master, self._master_ender = master, weakref.finalize(self, _end, master)
        self._log = Captured(
            master.stderr, master.kill, kept_bytes=KEPT_LOG_BYTES, most_bytes=MOST_STDERR_BYTES
        )
        try:
            self._wait_for(control, master, self._log)
        finally:
            self._log.start()

    def _wait_for(self, control: Path, master: subprocess.Popen[bytes], log: Captured) -> None:
        end = time.monotonic() + 2 * CONNECT_TIMEOUT_S
        while not control.exists():
            has_ended = master.poll() is not None
            _catch_up(log)
            if log.is_flood:
                raise ssh_faults.flood("connecting", self.host)
            if has_ended:
                raise ssh_faults.connection_fault(log.text, self.host)
            if time.monotonic() > end:
                _end(master)
                raise ssh_faults.connection_fault("Connection timed out", self.host)
            time.sleep(0.01)
        _catch_up(log)
        if self._accept and "Permanently added" in log.text:
            key = re.search(r"Server host key: (\S+ \S+)", log.text)
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


def _catch_up(log: Captured) -> None:
    """Reads all that was written until now."""
    waiting = select.poll()
    waiting.register(log, select.POLLIN)
    while not log.is_flood and waiting.poll(0) and log.read_on():
        pass


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
