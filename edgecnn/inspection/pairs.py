"""Two model files, or the model files of two folders, put side by side."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgecnn import files
from edgecnn.errors import UsageError
from edgecnn.inspection import inspect
from edgecnn.inspection.difference import Difference, difference
from edgecnn.inspection.ledger import SCHEMA_VERSION

_SUFFIXES = (".onnx", ".tflite")
_REPORT = "report.json"


@dataclass(frozen=True)
class Alone:
    """A model that is in one of the folders only."""

    name: str
    size_bytes: int


@dataclass(frozen=True)
class Comparison:
    """What two files or folders hold: the models of both, those that are gone, those that are new."""

    old: str
    new: str
    models: tuple[Difference, ...]
    gone: tuple[Alone, ...] = ()
    added: tuple[Alone, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The comparison as JSON values: sizes in bytes."""
        return {
            "schema_version": SCHEMA_VERSION,
            "old": self.old,
            "new": self.new,
            "models": [model.to_json() for model in self.models],
            "gone": [vars(alone) for alone in self.gone],
            "added": [vars(alone) for alone in self.added],
        }


def compare(old: Path | str, new: Path | str) -> Comparison:
    """Compares two model files, or two folders: builds by artifact key, others by the names of the files.

    Raises UsageError for what cannot be read or is no model, for a file against a folder, and for a folder
    without models.
    """
    try:
        return _compare(Path(old), Path(new))
    except OSError as fault:
        raise UsageError(f"cannot read it: {fault.strerror or fault}", where=fault.filename) from fault


def _compare(old: Path, new: Path) -> Comparison:
    for path in (old, new):
        if not path.exists():
            raise UsageError("there is no such file or folder", where=str(path))
    if old.is_dir() != new.is_dir():
        folder, file = (old, new) if old.is_dir() else (new, old)
        raise UsageError(
            f"a folder cannot be compared with the file {file}",
            where=str(folder),
            fix="name two files or two folders",
        )
    if not old.is_dir():
        return Comparison(str(old), str(new), (difference(inspect(old), inspect(new)),))
    return _compare_folders(old, new)


def _compare_folders(old: Path, new: Path) -> Comparison:
    before, after = _built_models(old), _built_models(new)
    if before is None or after is None:
        before, after = _found_models(old), _found_models(new)
    for folder, models in ((old, before), (new, after)):
        if not models:
            raise UsageError(f"no model file ({', '.join(_SUFFIXES)}) is in this folder", where=str(folder))
    both = [name for name in before if name in after]
    return Comparison(
        old=str(old),
        new=str(new),
        models=tuple(difference(inspect(before[name]), inspect(after[name]), name=name) for name in both),
        gone=tuple(_alone(name, path) for name, path in before.items() if name not in after),
        added=tuple(_alone(name, path) for name, path in after.items() if name not in before),
    )


def _alone(name: str, path: Path) -> Alone:
    return Alone(name, path.stat().st_size)


def _built_models(folder: Path) -> dict[str, Path] | None:
    """The files of a build by artifact key, None where `folder` is not a build.

    Of the report only keys and names are read, so that builds of any version of edgecnn can be compared.
    """
    try:
        report = files.read_json(folder / _REPORT)
        # The last part of the name only: a report cannot point out of its folder.
        return {str(one["key"]): folder / Path(str(one["file"])).name for one in report["artifacts"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _found_models(folder: Path) -> dict[str, Path]:
    """The model files in `folder` and below by relative name; hidden folders hold no results."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        is_hidden = any(part.startswith(".") for part in name.parts)
        if path.suffix.lower() in _SUFFIXES and not is_hidden and path.is_file():
            found[name.as_posix()] = path
    return found
