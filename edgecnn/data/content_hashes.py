"""The sha256 of many files, remembered: a file of the same size and time of change is not read again."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from edgecnn import files
from edgecnn.data import places

UNREADABLE = "unreadable"
_THREADS = 4


def content_hashes(root: Path, names: Sequence[str]) -> list[str]:
    """The sha256 of each file root/name; UNREADABLE for one that cannot be read."""
    memory = places.cache() / "hashes" / f"{hashlib.sha256(os.fsencode(root)).hexdigest()[:32]}.json"
    known = _remembered(memory)

    def entry(name: str) -> list[int | str]:
        """[size in bytes, time of the last change in ns, sha256]"""
        try:
            status = (root / name).stat()
            if not stat.S_ISREG(status.st_mode):  # a device may never end
                return [0, 0, UNREADABLE]
            now = [status.st_size, status.st_mtime_ns]
            if known.get(name, [])[:2] == now:
                return known[name]
            with (root / name).open("rb") as file:
                return [*now, hashlib.file_digest(file, "sha256").hexdigest()]
        except OSError:
            return [0, 0, UNREADABLE]

    with ThreadPoolExecutor(_THREADS) as pool:  # hashlib lets go of the interpreter
        found = dict(zip(names, pool.map(entry, names), strict=True))
    if found != known:
        # Without a cache the files are read again next time.
        with contextlib.suppress(OSError):
            memory.parent.mkdir(parents=True, exist_ok=True)
            files.write_text(memory, json.dumps(found))
    return [str(sha256) for _, _, sha256 in found.values()]


def _remembered(memory: Path) -> dict[str, list[int | str]]:
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    entries = known.items() if isinstance(known, dict) else ()
    return {name: entry for name, entry in entries if isinstance(entry, list) and len(entry) == 3}
