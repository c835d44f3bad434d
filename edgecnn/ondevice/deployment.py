"""Versions of a deployed model: folders ~/edgecnn/NAME/VERSION, and the links `current` and `previous`.

A version is put together under a temporary name and renamed when it is whole; links are replaced by renaming.
So whatever is interrupted, and whoever deploys at the same moment, `current` is a whole version.
"""

from __future__ import annotations

import contextlib
import fcntl
import filecmp
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence

from edgecnn.ondevice.names import is_name

CURRENT, PREVIOUS = "current", "previous"
VENV = "venv"
"""Of `ondevice.venv`, in the same folder."""
# A folder that another host is still putting together is younger.
ABANDONED_S = 3600


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

    What was altered there since is set aside and made anew.
    """
    folder = home / version
    _remove_abandoned(home)
    if not _holds(folder, files):
        made = Path(tempfile.mkdtemp(dir=home, prefix=f".{version}."))
        altered = made.with_name(f"{made.name}.altered")
        try:
            for file in files:
                target = made / file.name
                shutil.copyfile(file, target)
                is_program = target.read_bytes()[:2] == b"#!"
                target.chmod(0o755 if is_program else 0o644)
                with target.open("rb") as written:
                    os.fsync(written.fileno())
            made.chmod(0o755)
            if folder.is_dir():
                folder.rename(altered)
            made.rename(folder)
        finally:
            shutil.rmtree(made, ignore_errors=True)
            shutil.rmtree(altered, ignore_errors=True)
    return {"folder": str(folder)}


def _holds(folder: Path, files: Sequence[Path]) -> bool:
    there = ((file, folder / file.name) for file in files)
    return all(copy.is_file() and filecmp.cmp(file, copy, shallow=False) for file, copy in there)


def switch(home: Path, version: str) -> Dict[str, Any]:
    """Makes an installed version the current one; what was current becomes `previous`."""
    if not (home / version).is_dir():
        return {
            "error": f"version {version} of {home.name} is not there any more",
            "fix": "deploy it again: edgecnn deploy DIR --target T",
        }
    before = _linked(home / CURRENT)
    if before != version:
        if before is not None:
            _link(home / PREVIOUS, before)
        _link(home / CURRENT, version)
    return {"current": version, "previous": _linked(home / PREVIOUS)}


def rollback(home: Path) -> Dict[str, Any]:
    """Exchanges `current` and `previous`."""
    current, previous = _linked(home / CURRENT), _linked(home / PREVIOUS)
    if previous is None or not (home / previous).is_dir():
        return {
            "error": f"there is no version of {home.name} before the one that is deployed",
            "fix": "deploy one: edgecnn deploy DIR --target T",
        }
    _link(home / CURRENT, previous)
    if current is not None:
        _link(home / PREVIOUS, current)
    return {"current": previous, "previous": current}


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


def _remove_abandoned(home: Path) -> None:
    folders: List[Path] = [path for path in home.iterdir() if path.is_dir() and path.name.startswith(".")]
    for folder in folders:
        if time.time() - folder.stat().st_mtime > ABANDONED_S:
            shutil.rmtree(folder, ignore_errors=True)
