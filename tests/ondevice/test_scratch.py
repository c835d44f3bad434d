"""Scratch folders go with their owner, however it ends; nothing else is removed."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path

import pytest

from edgecnn.ondevice import scratch


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's folder for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    return tmp_path / "tmp"


def abandoned(temporary: Path) -> Path:
    """What a killed owner left."""
    folder = temporary / f"{scratch.PREFIX}left"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "output.npy").touch()
    return folder


def test_a_folder_is_there_while_the_block_runs(temporary: Path):
    with scratch.folder() as folder:
        (folder / "output.npy").touch()
        assert folder.parent == temporary and folder.stat().st_mode & 0o777 == 0o700
    assert list(temporary.iterdir()) == []


def test_it_goes_with_a_block_that_raises(temporary: Path):
    with pytest.raises(KeyboardInterrupt), scratch.folder():
        raise KeyboardInterrupt
    assert list(temporary.iterdir()) == []


def test_what_a_killed_owner_left_is_removed_and_what_is_in_use_stays(temporary: Path):
    left = abandoned(temporary)
    with scratch.folder() as first, scratch.folder() as second:
        assert sorted(temporary.iterdir()) == sorted([first, second])
    assert not left.exists()


def test_what_another_user_left_stays(temporary: Path, monkeypatch: pytest.MonkeyPatch):
    left = abandoned(temporary)
    monkeypatch.setattr(os, "getuid", lambda: left.stat().st_uid + 1)
    with scratch.folder():
        pass
    assert (left / "deep" / "output.npy").exists()


def test_what_is_no_scratch_folder_stays(temporary: Path, tmp_path: Path):
    own = tmp_path / "own"
    (own / "thesis").mkdir(parents=True)
    (temporary / f"{scratch.PREFIX}link").symlink_to(own)
    (temporary / f"{scratch.PREFIX}file").touch()
    os.mkfifo(temporary / f"{scratch.PREFIX}pipe")
    for name in ("edgecnn-abcd1234", "edgecnn-ssh-abcd1234"):
        (temporary / name).mkdir()
    before = sorted(temporary.iterdir())
    with scratch.folder():
        pass
    assert sorted(temporary.iterdir()) == before and (own / "thesis").exists()


def test_one_that_is_taken_for_abandoned_before_it_is_locked_is_made_again(monkeypatch: pytest.MonkeyPatch):
    make, lock, n_made = tempfile.mkdtemp, fcntl.flock, 0

    def made(**options: str) -> str:
        nonlocal n_made
        n_made += 1
        path = make(**options)
        if n_made == 1:  # before it is opened
            Path(path).rmdir()
        return path

    def locked(opened: int, how: int) -> None:
        if n_made == 2:  # before it is locked
            Path(os.readlink(f"/proc/self/fd/{opened}")).rmdir()  # noqa: PTH115
        lock(opened, how)

    monkeypatch.setattr(tempfile, "mkdtemp", made)
    monkeypatch.setattr(fcntl, "flock", locked)
    with scratch.folder() as folder:
        assert n_made == 3 and folder.is_dir()


def test_without_locks_nothing_is_removed(temporary: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: int) -> None:
        raise OSError("no locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    left = abandoned(temporary)
    with scratch.folder() as folder:
        assert folder.is_dir()
    assert list(temporary.iterdir()) == [left]
