"""Where data sets and weights lie: the user's folders first, then the cache that downloads go to."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

VARIABLE = "EDGECNN_DATA"
"""Folders to look in, separated as in PATH."""


def search_folders(given: Sequence[Path] = ()) -> tuple[Path, ...]:
    """Those `given`, those of the variable EDGECNN_DATA, and the cache, in this order."""
    of_variable = [Path(part) for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part]
    return (*given, *of_variable, cache())


def cache() -> Path:
    """Where downloads go: `edgecnn` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgecnn"


def first_with(names: Iterable[str], folders: Sequence[Path]) -> Path | None:
    """The first of `folders` that holds all files `names` (relative paths), or None."""
    wanted = tuple(names)
    return next((folder for folder in folders if all((folder / name).is_file() for name in wanted)), None)
