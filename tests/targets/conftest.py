"""The tiny models of tests/ondevice, for measuring them in processes of their own."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from targets import local_sshd

ONDEVICE_TESTS = Path(__file__).parents[1] / "ondevice"
sys.path.insert(0, str(ONDEVICE_TESTS))

_spec = importlib.util.spec_from_file_location("ondevice_fixtures", ONDEVICE_TESTS / "conftest.py")
assert _spec is not None and _spec.loader is not None
_fixtures = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_fixtures)
models = _fixtures.models


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[local_sshd.LocalSSHD]:
    """A board that is this machine, behind an sshd of our own."""
    local_sshd.require()
    board = local_sshd.LocalSSHD(tmp_path / "board")
    yield board
    board.stop()
