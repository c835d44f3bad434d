"""An sshd of our own on a loopback port, run by the user of the tests: a board that is this machine."""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import pytest

from edgecnn.target_file import Address
from edgecnn.targets.remote import RemoteTarget
from edgecnn.targets.ssh import Connection

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
N_PORTS_TRIED = 3
SLOWEST_START_S = 30
FLAKY = Path(__file__).with_name("flaky_proxy.py")


def require() -> None:
    """Skips the test where no sshd can be started."""
    if SSHD is None or shutil.which("ssh") is None or shutil.which("ssh-keygen") is None:
        pytest.skip("needs OpenSSH's server and client (Debian: openssh-server, openssh-client)")


class LocalSSHD:
    """sshd with its own keys, config and HOME below `folder`. `config` is for `ssh -F`; the host is `board`."""

    def __init__(self, folder: Path, *, python: str = sys.executable) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.bin = folder / "bin"
        self.port = 0
        self.user = getpass.getuser()
        self.known_hosts = folder / "known_hosts"
        self.config = folder / "ssh_config"
        self.process: subprocess.Popen[bytes] | None = None
        for made in (self.home, self.bin):
            made.mkdir(parents=True)
        for name in ("host", "client"):
            self.make_key(name)
        shutil.copy(folder / "client.pub", folder / "authorized_keys")
        self.set_python(f'exec "{python}" "$@"')
        for tool in ("sh", "cat", "sleep", "kill", "mkdir", "env"):
            (self.bin / tool).symlink_to(shutil.which(tool) or f"/bin/{tool}")
        self._start_on_a_free_port()

    def _start_on_a_free_port(self) -> None:
        """Whoever takes the port before sshd does: a few ports are tried."""
        for _ in range(N_PORTS_TRIED):
            self.port = _free_port()
            self.trust()
            self.write_config()
            if self._launch():
                return
            self.stop()
        self._say_that_it_does_not_start()

    def _say_that_it_does_not_start(self) -> NoReturn:
        log = (self.folder / "sshd.log").read_text(errors="replace")
        if os.environ.get("CI"):
            pytest.fail(f"sshd does not start:\n{log}")
        pytest.skip(f"sshd cannot be started by this user: {' '.join(log.splitlines()[-1:])}")

    @property
    def cache(self) -> Path:
        return self.home / ".cache" / "edgecnn"

    def make_key(self, name: str) -> None:
        (self.folder / name).unlink(missing_ok=True)
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / name)]
        subprocess.run(command, check=True)

    def trust(self) -> None:
        """Writes the host key of now to the known hosts."""
        key = (self.folder / "host.pub").read_text().split()
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {key[0]} {key[1]}\n")

    def set_python(self, script: str) -> None:
        """What `python3` does on the board: lines for sh."""
        path = self.bin / "python3"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def write_config(self, proxy: str | None = None, user: str | None = None, key: str = "client") -> None:
        lines = [
            "Host board",
            "HostName 127.0.0.1",
            f"Port {self.port}",
            f"User {user or self.user}",
            f"IdentityFile {self.folder / key}",
            "IdentitiesOnly yes",
            "IdentityAgent none",
            f"UserKnownHostsFile {self.known_hosts}",
            "GlobalKnownHostsFile none",
        ]
        self.config.write_text("\n".join(lines + ([f"ProxyCommand {proxy}"] if proxy else [])) + "\n")

    def configure(self, line: str) -> None:
        """A line more in the user's configuration of this host."""
        self.config.write_text(f"{self.config.read_text()}{line}\n")

    def make_flaky(self, cut_bytes: int, mode: str = "close") -> None:
        """From now on the link is cut (or stalls) once so many bytes have gone to the board."""
        counted = self.folder / "sent"
        self.write_config(f"{sys.executable} {FLAKY} 127.0.0.1 {self.port} {cut_bytes} {mode} {counted}")

    @property
    def sent_bytes(self) -> int:
        """How many the flaky link has brought to the board."""
        return int((self.folder / "sent").read_text())

    def partial_files(self) -> list[Path]:
        """What lies in the cache and is not under its final name, or not what its folder says."""
        return [
            path
            for path in self.cache.rglob("*")
            if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() != path.parent.name
        ]

    def target(self, **options: Any) -> RemoteTarget:
        """This board as a target called `pi4`."""
        address = Address("pi4", "board", ssh_config=self.config)
        return RemoteTarget(address, Connection(address, **options), timeout_s=60)

    def start(self) -> None:
        """Once more on the same port, after `stop`."""
        if not self._launch():
            self._say_that_it_does_not_start()

    def _launch(self) -> bool:
        """Starts sshd; whether it listens."""
        config = self.folder / "sshd_config"
        config.write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.folder}/host\nPidFile none\n"
            f"AuthorizedKeysFile {self.folder}/authorized_keys\nStrictModes no\nUsePAM no\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\nUseDNS no\n"
            f'PrintMotd no\nSetEnv "HOME={self.home}" "PATH={self.bin}"\n'
        )
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        assert SSHD is not None
        # Absolute: sshd starts itself anew for each connection.
        command = [SSHD, "-D", "-e", "-f", str(config)]
        with (self.folder / "sshd.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        return _listens(self.port, self.process)

    def stop(self) -> None:
        """Ends the sshd that listens and those of all connections."""
        if self.process is None:
            return
        for pid in [*_children(self.process.pid), self.process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        self.process.wait()
        self.process = None


def _children(pid: int) -> list[int]:
    """The processes below `pid` that are sshd too: one or two for each connection."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue
        name, _, rest = text.partition("(")[2].rpartition(")")
        if int(rest.split()[1]) == pid and name.startswith("sshd"):
            found += [*_children(int(stat.parent.name)), int(stat.parent.name)]
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int, process: subprocess.Popen[bytes]) -> bool:
    """Whether `process` comes to listen. Where another has the port, it ends and says so in its log."""
    end = time.monotonic() + SLOWEST_START_S
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                time.sleep(0.05)
                return process.poll() is None
        time.sleep(0.05)
    return False
