"""What the tests of boards share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from targets import local_sshd


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[local_sshd.LocalSSHD]:
    """A board that is this machine, behind an sshd of our own."""
    local_sshd.require()
    board = local_sshd.LocalSSHD(tmp_path / "board")
    yield board
    board.stop()
