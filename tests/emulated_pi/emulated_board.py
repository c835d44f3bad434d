"""A Raspberry Pi that qemu-user emulates on this machine: an Arm Debian with an sshd, reached over real ssh."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

START = Path(__file__).with_name("start.sh")
SLOWEST_START_S = 60
SLOWEST_COMMAND_S = 300
ROOT_VARIABLES = {"pi4": ("EDGECNN_ARM64_ROOT", "arm64"), "pi2": ("EDGECNN_ARMHF_ROOT", "armhf")}
"""Board -> the variable that names its system, and the architecture of that."""


@dataclass(frozen=True)
class EmulatedPi:
    """One that runs. `name` is a Host of its `ssh_config`."""

    name: str
    ssh_config: Path

    def ssh(self, command: str, stdin: bytes = b"") -> bytes:
        """What the command says there; it must succeed."""
        done = subprocess.run(
            ["ssh", "-F", str(self.ssh_config), self.name, command],
            input=stdin,
            capture_output=True,
            timeout=SLOWEST_COMMAND_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout

    def said(self, command: str) -> str:
        return self.ssh(command).decode()

    def name_targets(self, config_home: Path, pythons: dict[str, str]) -> None:
        """Writes a targets.yaml: this board, and it once more under other names, each with its Python."""
        there = f"host: {self.name}, ssh_config: {self.ssh_config}"
        lines = [f"{self.name}: {{{there}}}"]
        lines += [f"{name}: {{{there}, python: {python}}}" for name, python in pythons.items()]
        (config_home / "edgecnn").mkdir()
        (config_home / "edgecnn" / "targets.yaml").write_text("\n".join(lines) + "\n")


@contextmanager
def emulated(name: str, state: Path) -> Iterator[EmulatedPi]:
    """The board `name` of `ROOT_VARIABLES`, as it was on its first day. Skips the test where there is none."""
    root = _root_of(name)
    home = root / "home" / "pi"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    os.chown(home, 1000, 1000)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["bash", str(START), str(root), str(state), str(port), name]
    with (state / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait_until_it_listens(port, process, state / "log")
        yield EmulatedPi(name, state / "ssh_config")
    finally:
        # It is the first process of its PID namespace: with it all others end.
        process.send_signal(signal.SIGKILL)
        process.wait()


def _root_of(name: str) -> Path:
    variable, architecture = ROOT_VARIABLES[name]
    root = Path(os.environ.get(variable) or "/nowhere")
    if not (root / "usr" / "bin" / "python3").exists():
        pytest.skip(f"{variable} names no {architecture} system: make one with edgecnn/counting/arm_root.sh")
    if os.getuid() != 0:
        pytest.skip("only root can start an emulated board")
    namespaces = ["unshare", "--mount", "--uts", "--pid", "--fork", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    if subprocess.run(namespaces, capture_output=True, check=False).returncode != 0:
        pytest.skip("an emulated board needs mounts, which root may not make here (in a container?)")
    return root


def _wait_until_it_listens(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + SLOWEST_START_S
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    pytest.fail(f"the emulated board did not start:\n{log.read_text()}")
