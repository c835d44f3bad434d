"""The sshd of the tests starts where it can, and says why where it cannot."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from targets import local_sshd


@pytest.fixture
def taken_port():
    """A port on which another program listens."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_a_port_that_another_took_in_between(tmp_path: Path, taken_port: int, monkeypatch: pytest.MonkeyPatch):
    local_sshd.require()
    free = local_sshd._free_port
    ports = [taken_port, free()]
    monkeypatch.setattr(local_sshd, "_free_port", lambda: ports.pop(0))
    board = local_sshd.LocalSSHD(tmp_path / "board")
    assert board.port != taken_port and board.target().probe().arch
    board.stop()


@pytest.mark.parametrize(("ci", "outcome"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_no_port_at_all_fails_in_ci(
    tmp_path: Path, taken_port: int, monkeypatch: pytest.MonkeyPatch, ci: str, outcome: type[BaseException]
):
    local_sshd.require()
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(local_sshd, "_free_port", lambda: taken_port)
    with pytest.raises(outcome, match="sshd"):
        local_sshd.LocalSSHD(tmp_path / "board")
