"""Paths as people give them -> model files and builds: files, build folders, other folders, globs in quotes."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from edgecnn import build_folder
from edgecnn.errors import UsageError

SUFFIXES = (".onnx", ".tflite")


def expand(paths: Iterable[Path]) -> list[Path]:
    """The model files and the build folders that `paths` name, each once, sorted within each path.

    Raises UsageError for a path that names none.
    """
    found = [one for path in paths for one in _expand(path)]
    return list({os.path.abspath(one): one for one in reversed(found)}.values())[::-1]  # noqa: PTH100


def is_model(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def is_build(folder: Path) -> bool:
    return (folder / build_folder.REPORT).is_file()


def _expand(path: Path) -> list[Path]:
    if path.is_dir():
        found = list(_below(path))
        if not found:
            raise UsageError("no .onnx or .tflite file is in this folder", where=str(path))
        return found
    if path.is_file():
        if not is_model(path):
            raise UsageError("not a .onnx or .tflite file, nor a folder", where=str(path))
        return [path]
    if not glob.has_magic(str(path)):
        raise UsageError("there is no such file or folder", where=str(path))
    # A glob may match other files, too: those are passed over.
    matches = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207
    found = [
        one
        for match in matches
        for one in (_below(match) if match.is_dir() else [match] if is_model(match) else [])
    ]
    if not found:
        raise UsageError("no .onnx or .tflite file matches", where=str(path))
    return found


def _below(folder: Path) -> Iterator[Path]:
    """A build is taken whole. Hidden folders are passed over: they hold caches, not what is shipped."""
    if is_build(folder):
        yield folder
        return
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not entry.name.startswith(".") and not entry.is_symlink():
            yield from _below(entry)
        elif entry.is_file() and is_model(entry):
            yield entry
