"""Folders for what is not kept. They end with their owner, and what a killed one left is removed by the next.

An owner holds a lock on its folder. The system gives it back when a process ends, whatever ends it: unlike the
number of a process, which another may have by now.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import Iterator, Optional, Tuple

PREFIX = "edgecnn-scratch-"
"""Of no folder that is without such a lock: others begin with edgecnn-, too."""


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """One that is there while the block runs."""
    _remove_abandoned()
    path, lock = _made()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def _made() -> Tuple[Path, int]:
    """A new folder, and the lock on it. One that was taken for abandoned before it was locked is made again."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=PREFIX))
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(path, os.O_RDONLY)
            with contextlib.suppress(OSError):  # where a file system has no locks, nobody removes it either
                fcntl.flock(lock, fcntl.LOCK_EX)
            if path.is_dir():
                return path, lock
            os.close(lock)


def _remove_abandoned() -> None:
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        lock = _lock_of_abandoned(path)
        if lock is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)


def _lock_of_abandoned(path: Path) -> Optional[int]:
    """None where it is in use, another user's, a link, or no folder at all."""
    try:
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        if os.fstat(lock).st_uid == os.getuid():
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
    except OSError:
        pass
    os.close(lock)
    return None
