"""Every way in which a connection fails is told apart, with what to do about it."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from targets.local_sshd import LocalSSHD

from edgecnn.errors import TargetError
from edgecnn.targets import ssh, ssh_faults
from edgecnn.targets.remote import RemoteTarget


def fault_of(board: LocalSSHD) -> TargetError:
    with pytest.raises(TargetError) as caught:
        board.target().probe()
    assert caught.value.exit_code == 3 and caught.value.fix
    return caught.value


def fingerprint(board: LocalSSHD) -> str:
    shown = subprocess.run(
        ["ssh-keygen", "-lf", str(board.folder / "host.pub")], capture_output=True, text=True, check=True
    )
    return shown.stdout.split()[1]


def test_an_unknown_host_key_is_refused_and_shown(sshd: LocalSSHD):
    sshd.known_hosts.unlink()
    fault = fault_of(sshd)
    assert "the host key of board is not known" in fault.what and fingerprint(sshd) in fault.what
    assert "--accept-new-host-key" in fault.fix
    assert not sshd.known_hosts.exists()


def test_a_new_host_key_is_taken_on_request_and_its_fingerprint_told(sshd: LocalSSHD):
    sshd.known_hosts.unlink()
    said: list[str] = []
    target = sshd.target(accept_new_host_key=True, say=said.append)
    assert target.probe().arch
    target.close()
    assert len(said) == 1 and fingerprint(sshd) in said[0]
    assert sshd.target().probe().arch, "it is known from now on"


def test_a_changed_host_key_is_refused_even_where_new_ones_are_taken(sshd: LocalSSHD):
    sshd.stop()
    sshd.make_key("host")
    sshd.start()
    with pytest.raises(TargetError) as caught:
        sshd.target(accept_new_host_key=True).probe()
    assert "is another than the one that is known" in caught.value.what
    assert "ssh-keygen -R" in caught.value.fix
    sshd.trust()
    assert sshd.target().probe().arch


def test_a_key_that_the_board_does_not_accept(sshd: LocalSSHD):
    sshd.make_key("stranger")
    sshd.write_config(key="stranger")
    fault = fault_of(sshd)
    assert fault.what == "board did not accept our key" and "ssh-copy-id" in fault.fix


def test_no_sshd_there(sshd: LocalSSHD):
    sshd.stop()
    assert "refused the connection" in fault_of(sshd).what
    sshd.start()
    assert sshd.target().probe().arch


def test_a_host_that_never_answers(sshd: LocalSSHD, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ssh, "CONNECT_TIMEOUT_S", 1)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        text = sshd.config.read_text().replace(f"Port {sshd.port}", f"Port {silent.getsockname()[1]}")
        sshd.config.write_text(text)
        start = time.monotonic()
        assert "did not answer in time" in fault_of(sshd).what
    assert time.monotonic() - start < 10


def test_a_name_that_is_no_host(sshd: LocalSSHD):
    # No resolver is asked for a name with an empty label.
    sshd.config.write_text("Host board\nHostName a..b\n")
    assert fault_of(sshd).what == "there is no host called board"


def test_a_config_that_ssh_does_not_understand(sshd: LocalSSHD):
    sshd.config.write_text("Host board\nFlyTo moon\n")
    fault = fault_of(sshd)
    assert "does not accept its configuration" in fault.what and "flyto" in fault.what.lower()


def test_a_config_that_is_not_there(sshd: LocalSSHD):
    sshd.config.unlink()
    assert "does not accept its configuration" in fault_of(sshd).what


@pytest.mark.parametrize(
    "line",
    [
        "RemoteCommand exit 7",
        "ControlMaster auto",
        "ControlPersist yes",
        "RequestTTY force",
        "LocalForward 127.0.0.1:1 127.0.0.1:2",
    ],
)
def test_what_the_user_has_configured_for_logging_in_does_not_disturb(sshd: LocalSSHD, line: str):
    sshd.configure(line)
    target = sshd.target()
    assert target.probe().arch
    target.close()


@pytest.mark.parametrize("name", ["with a space", "50%", "50%h", "a$HOME", "it's", "x" * 90])
def test_a_folder_for_temporary_files_with_any_name(
    sshd: LocalSSHD, monkeypatch: pytest.MonkeyPatch, name: str
):
    with tempfile.TemporaryDirectory(dir="/tmp") as short:  # a socket has no long path
        folder = Path(short, name)
        folder.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        target = sshd.target()
        assert target.probe().arch
        target.close()
        assert list(folder.iterdir()) == []


def test_a_command_never_dials_by_itself(sshd: LocalSSHD, monkeypatch: pytest.MonkeyPatch):
    """It would, with the user's settings, where the connection ends at the moment at which it begins."""
    target = sshd.target()
    target.probe()
    master = target.board.connection._master
    assert master is not None
    master.kill()
    master.wait()
    monkeypatch.setattr(ssh.Connection, "is_open", True)
    with pytest.raises(TargetError, match="the connection was lost during survey"):
        target.survey()
    assert (sshd.folder / "sshd.log").read_text().count("Accepted publickey") == 1


NO_END = "while true; do echo no end of it >&2; done"


def files_of(target: RemoteTarget) -> int:
    """The bytes of all files that the connection has on this machine."""
    return sum(path.stat().st_size for path in target.board.connection._folder.iterdir())


def test_a_board_whose_commands_write_messages_without_end(sshd: LocalSSHD):
    sshd.set_python(NO_END)
    target = sshd.target()
    start = time.monotonic()
    with pytest.raises(TargetError, match="messages without end during the upload") as caught:
        target.probe()
    assert time.monotonic() - start < 60 and caught.value.where == "board" and "ssh board" in caught.value.fix
    assert files_of(target) == 0 and not target.board.connection.is_open
    sshd.set_python(f'exec "{sys.executable}" "$@"')
    assert target.probe().arch, "the next command connects again"
    target.close()


def test_a_login_that_writes_messages_without_end(sshd: LocalSSHD):
    (sshd.folder / "authorized_keys").write_text(
        f'command="{NO_END}" {(sshd.folder / "client.pub").read_text()}'
    )
    target = sshd.target()
    with pytest.raises(TargetError, match="messages without end during"):
        target.probe()
    assert files_of(target) == 0
    target.close()


def test_an_ssh_that_writes_messages_without_end_before_it_is_connected(
    sshd: LocalSSHD, monkeypatch: pytest.MonkeyPatch
):
    (sshd.bin / "ssh").write_text(f"#!/bin/sh\n{NO_END}\n")
    (sshd.bin / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", str(sshd.bin))
    with pytest.raises(TargetError, match="messages without end during connecting"):
        sshd.target().probe()


def test_what_a_connection_says_in_a_long_time_is_no_flood(sshd: LocalSSHD, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ssh, "MOST_STDERR_BYTES", 20_000)
    target = sshd.target()
    for _ in range(40):  # some 700 bytes of messages each
        with target.board.connection.command("echo some words >&2", timeout_s=60) as command:
            command.wait()
        assert target.board.connection.last_words() == ["some words"]
    target.close()


def behind_a_jump_host(board: LocalSSHD, jump_port: int) -> None:
    """`board` is reached by way of the host `jump`: the same sshd, or what listens on `jump_port`."""
    jump = [line.replace(f"Port {board.port}", f"Port {jump_port}") for line in _lines_of(board)[1:]]
    board.configure("\n".join(["ProxyJump jump", "Host jump", *jump]))


def _lines_of(board: LocalSSHD) -> list[str]:
    return board.config.read_text().splitlines()


def test_a_board_behind_a_jump_host(sshd: LocalSSHD):
    behind_a_jump_host(sshd, sshd.port)
    target = sshd.target()
    assert target.probe().arch
    assert target.board.put(b"content", "a.bin")
    log = (sshd.folder / "sshd.log").read_text()
    assert log.count("Accepted publickey") == 2, "once on the jump host, once on the board behind it"
    target.close()
    assert not target.board.connection.is_open


def test_a_jump_host_that_does_not_answer(sshd: LocalSSHD):
    with socket.socket() as unused:  # bound, and nobody listens
        unused.bind(("127.0.0.1", 0))
        behind_a_jump_host(sshd, unused.getsockname()[1])
        assert "refused the connection" in fault_of(sshd).what
    sshd.write_config()
    assert sshd.target().probe().arch


def test_no_ssh_on_this_machine(sshd: LocalSSHD, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    fault = fault_of(sshd)
    assert fault.what == "there is no ssh on this machine" and "openssh-client" in fault.fix


def test_commands_share_one_connection_which_ends_with_the_target(sshd: LocalSSHD):
    target = sshd.target()
    target.probe()
    target.survey()
    assert (sshd.folder / "sshd.log").read_text().count("Accepted publickey") == 1
    folder = target.board.connection._folder
    assert folder.stat().st_mode & 0o077 == 0, "nobody else can use the connection"
    target.close()
    assert not folder.exists() and not target.board.connection.is_open


@pytest.mark.parametrize(
    ("stderr", "expected"),
    [
        ("ssh: connect to host 10.0.0.9 port 22: No route to host", "no way to pi@pi4: ssh: connect"),
        ("kex_exchange_identification: read: gibberish", "no connection: kex_exchange_identification"),
        ("", "no connection: ssh said nothing"),
    ],
)
def test_what_ssh_says_is_passed_on_where_it_is_not_known(stderr: str, expected: str):
    assert expected in ssh_faults.connection_fault(stderr, "pi@pi4").what
