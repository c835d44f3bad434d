"""Versions of a deployed model: folders ~/edgecnn/NAME/VERSION, and the links `current` and `previous`.

A version is put together under a temporary name and renamed when it is whole; links are replaced by renaming.
So whatever is interrupted, and whoever deploys at the same moment, `current` is a whole version; and which one
`previous` is, the next action settles.
"""

from __future__ import annotations

import contextlib
import fcntl
import filecmp
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Sequence

from edgecnn.ondevice.names import is_name

CURRENT, PREVIOUS = "current", "previous"
NEXT_PREVIOUS = ".previous.next"
"""Leads to the version that will be `previous` as soon as `current` is another one."""
VENV = "venv"
"""Of `ondevice.venv`, in the same folder."""
# As tempfile.mkdtemp names it: .VERSION.abcd1234
_UNFINISHED = re.compile(r"\.[A-Za-z0-9][A-Za-z0-9._-]*\.[a-z0-9_]{8}(\.altered)?")


def act(arguments: Sequence[str]) -> Dict[str, Any]:
    """`install NAME VERSION FILE...`, `switch NAME VERSION` or `rollback NAME`, as JSON for the host."""
    action, name, *rest = arguments
    for one in (name, *rest[:1]):
        if not is_name(one):  # a host's word: it must not lead out of ~/edgecnn
            return {"error": f"no name of a model or a version: {one!r}", "fix": "build again, and deploy that"}
    if name == VENV:
        return {
            "error": f"a model called {VENV} would lie where `edgecnn doctor --fix` makes its environment",
            "fix": "give the recipe another name, and build again",
        }
    home = Path.home() / "edgecnn" / name
    try:
        home.mkdir(parents=True, exist_ok=True)
        with _alone(home):
            _end_what_was_interrupted(home)
            if action == "install":
                return install(home, rest[0], [Path(path) for path in rest[1:]])
            return switch(home, rest[0]) if action == "switch" else rollback(home)
    except OSError as fault:
        return {
            "error": f"cannot write {fault.filename or home}: {fault.strerror}",
            "fix": "free some space on the board, or check who owns that folder",
        }


def install(home: Path, version: str, files: Sequence[Path]) -> Dict[str, Any]:
    """Copies `files` into the folder of a version, unless they are there already. Programs are made executable.

    What was altered there since is made anew, file by file: the folder may be `current`, and must not be away
    for a moment.
    """
    folder = home / version
    if folder.is_dir():
        for file in files:
            if not _is_copy(folder / file.name, file):
                _copy(file, folder)
        return {"folder": str(folder)}
    made = Path(tempfile.mkdtemp(dir=home, prefix=f".{version}."))
    try:
        for file in files:
            _copy(file, made)
        made.chmod(0o755)
        made.rename(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return {"folder": str(folder)}


def _is_copy(copy: Path, file: Path) -> bool:
    return copy.is_file() and filecmp.cmp(file, copy, shallow=False)


def _copy(file: Path, folder: Path) -> None:
    """Puts a copy into `folder`, in place of whatever has that name there."""
    target, temporary = folder / file.name, folder / f".{file.name}.tmp"
    try:
        shutil.copyfile(file, temporary)
        is_program = temporary.read_bytes()[:2] == b"#!"
        temporary.chmod(0o755 if is_program else 0o644)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        temporary.replace(target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def switch(home: Path, version: str) -> Dict[str, Any]:
    """Makes an installed version the current one; what was current becomes `previous`."""
    if not (home / version).is_dir():
        return {
            "error": f"version {version} of {home.name} is not there any more",
            "fix": "deploy it again: edgecnn deploy DIR --target T",
        }
    _make_current(home, version)
    return {"current": version, "previous": _linked(home / PREVIOUS)}


def rollback(home: Path) -> Dict[str, Any]:
    """Exchanges `current` and `previous`."""
    current, previous = _linked(home / CURRENT), _linked(home / PREVIOUS)
    if previous in (None, current) or not (home / previous).is_dir():
        return {
            "error": f"there is no version of {home.name} before the one that is deployed",
            "fix": "deploy one: edgecnn deploy DIR --target T",
        }
    _make_current(home, previous)
    return {"current": previous, "previous": current}


def _make_current(home: Path, version: str) -> None:
    """The one moment that counts is that in which `current` is replaced. An end before it leaves all as it was,
    and what an end after it leaves undone is done by `_settle`.
    """
    before = _linked(home / CURRENT)
    if before == version:
        return
    if before is not None:
        _link(home / NEXT_PREVIOUS, before)
    _link(home / CURRENT, version)
    _settle(home)


def _settle(home: Path) -> None:
    """Makes `previous` what it is to be, if `current` was replaced; if not, it stays."""
    following = _linked(home / NEXT_PREVIOUS)
    if following is None:
        return
    if following == _linked(home / CURRENT):
        (home / NEXT_PREVIOUS).unlink()
    else:
        (home / NEXT_PREVIOUS).replace(home / PREVIOUS)


@contextlib.contextmanager
def _alone(home: Path) -> Iterator[None]:
    """One host at a time. The system gives the lock back when the process ends, however it ends."""
    with (home / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _linked(link: Path) -> Optional[str]:
    try:
        return os.readlink(link)  # noqa: PTH115 - the text; pathlib would give a path
    except OSError:
        return None


def _link(link: Path, version: str) -> None:
    temporary = link.with_name(f".{link.name}.tmp")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    temporary.symlink_to(version)
    temporary.replace(link)


def _end_what_was_interrupted(home: Path) -> None:
    """Whoever began it is gone: the lock is ours."""
    _settle(home)
    for path in home.iterdir():
        if _UNFINISHED.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
