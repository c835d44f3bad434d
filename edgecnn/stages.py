"""Stages and where their results are kept: each under the hash of all that went into it.

A stage's key is known before anything runs, so a plan can be told without running it, and nothing is
done twice. A result is there when its `done.json` is; that file is written last.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from edgecnn import files
from edgecnn.errors import OutOfMemoryError, is_out_of_memory

DONE = "done.json"
# Seconds that interrupted runs of a stage have taken so far.
SPENT = "spent.json"
FOLDER = ".stages"
# What the stages are called that a search runs by itself, and those that train a network which only teaches.
TRIAL, TEACHER = "trial", "teacher"


@dataclass(frozen=True, eq=False)
class Stage:
    """One step of a build: what decides its result (`inputs`, plain JSON), which stages it needs, and `work`.

    `code` names the modules or packages of edgecnn whose source decides the result, too.
    `work(folder)` leaves files in its folder and returns facts as plain JSON.
    """

    name: str
    inputs: dict[str, Any]
    work: Callable[[Path], dict[str, Any]]
    needs: tuple[Stage, ...] = ()
    code: tuple[str, ...] = ()

    @cached_property
    def recorded_inputs(self) -> dict[str, Any]:
        needed = {f"needs {stage.name}": stage.key for stage in self.needs}
        sources = {f"code of {module}": source_sha256(module) for module in self.code}
        return {**_flat(self.inputs), **needed, **sources}

    @cached_property
    def key(self) -> str:
        return hashlib.sha256(json.dumps(self.recorded_inputs, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Planned:
    """What a build will do with a stage: `why` is empty where its result is there already."""

    stage: Stage
    why: str

    @property
    def will_run(self) -> bool:
        return bool(self.why)


@dataclass(frozen=True)
class StoredResult:
    """What a stage left, finished or not; `modified` is the time of its newest file, in seconds since 1970."""

    stage: str
    key: str
    path: Path
    size_bytes: int
    modified: float


class StageStore:
    """The results of stages below one build folder."""

    def __init__(self, build_folder: Path) -> None:
        self.root = build_folder / FOLDER

    def folder(self, stage: Stage) -> Path:
        return self.root / stage.name / stage.key

    def done(self, stage: Stage) -> dict[str, Any] | None:
        """The record of a finished stage: its `facts`, `inputs`, `files`, `seconds`.

        None where it is not finished, or one of the files that it left is gone or another.
        """
        record = _read_json(self.folder(stage) / DONE)
        if record is None or not record.keys() >= {"facts", "inputs", "files", "seconds", "finished"}:
            return None
        return record if record["files"] == _hashes(self.folder(stage)) else None

    def facts(self, stage: Stage) -> dict[str, Any]:
        record = self.done(stage)
        if record is None:
            raise KeyError(stage.name)
        facts: dict[str, Any] = record["facts"]
        return facts

    def run(self, stage: Stage) -> bool:
        """Does the work of `stage` unless its result is there; says whether it ran. Raises StorageError.

        What an interrupted run left in its folder is there for `work` to go on from. Sub-folders, which hold
        checkpoints, are no part of the result: they go once it is there, and not before.
        """
        ran = self.done(stage) is None
        if ran:
            self._do(stage, self.folder(stage))
        for checkpoints in self.folder(stage).glob("*/"):
            shutil.rmtree(checkpoints)
        return ran

    def _do(self, stage: Stage, folder: Path) -> None:
        with files.writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        files.remove_temporary(folder)
        (folder / DONE).unlink(missing_ok=True)
        started = time.monotonic() - (_read_json(folder / SPENT) or {}).get("seconds", 0.0)
        try:
            facts = stage.work(folder)
        except BaseException as fault:
            with suppress(OSError):  # a disk that is full: what is to be told is the first fault
                files.write_text(folder / SPENT, json.dumps({"seconds": time.monotonic() - started}))
            if is_out_of_memory(fault):
                raise OutOfMemoryError(fault, where=stage.name) from fault
            raise
        (folder / SPENT).unlink(missing_ok=True)
        record = {
            "facts": facts,
            "inputs": stage.recorded_inputs,
            "files": _hashes(folder),
            "seconds": round(time.monotonic() - started, 2),
            "finished": time.time(),
        }
        files.write_text(folder / DONE, json.dumps(record, indent=1) + "\n")

    def stored(self) -> Iterator[StoredResult]:
        """Every result that is there, of any stage and any inputs."""
        for path in sorted(self.root.glob("*/*/")):
            found = [one.stat() for one in path.rglob("*") if one.is_file()]
            newest = max((one.st_mtime for one in found), default=path.stat().st_mtime)
            yield StoredResult(path.parent.name, path.name, path, sum(one.st_size for one in found), newest)

    def forget(self, stages: tuple[Stage, ...]) -> None:
        """Removes the results of `stages`, so that they run again."""
        for stage in stages:
            shutil.rmtree(self.folder(stage), ignore_errors=True)

    def forget_trials(self) -> None:
        """Removes what searches tried, by any recipe."""
        for folder in self.root.glob(f"*-{TRIAL}"):
            shutil.rmtree(folder)

    def plan(self, stages: tuple[Stage, ...], *, force: bool = False) -> list[Planned]:
        """What would run, in order, and why."""
        planned: dict[str, Planned] = {}
        for stage in stages:
            why = ""
            if force:
                why = "--force"
            elif self.done(stage) is None:
                why = self._why(stage, planned)
            planned[stage.name] = Planned(stage, why)
        return list(planned.values())

    def _why(self, stage: Stage, planned: dict[str, Planned]) -> str:
        earlier = max(self._earlier(stage.name), key=lambda record: record["finished"], default=None)
        started = ""
        if self.folder(stage).is_dir():
            damaged = (self.folder(stage) / DONE).exists()
            started = "a file of its result is gone or changed" if damaged else "it was interrupted"
        if earlier is None:
            return started or "it has not run yet"
        old, new = earlier["inputs"], stage.recorded_inputs
        changed = [
            f"{key}: {old.get(key)} -> {new.get(key)}" if not key.startswith(("needs ", "code ")) else key
            for key in sorted({*old, *new})
            if old.get(key) != new.get(key)
        ]
        return "; ".join(_told(change) for change in changed) or started or "its result is gone"

    def _earlier(self, name: str) -> Iterator[dict[str, Any]]:
        for path in sorted((self.root / name).glob(f"*/{DONE}")):
            record = _read_json(path)
            if record is not None and "inputs" in record and "finished" in record:
                yield record


def _told(change: str) -> str:
    if change.startswith("needs "):
        return f"{change.removeprefix('needs ')} is another"
    return f"{change.removeprefix('code of ')} changed" if change.startswith("code of ") else change


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _hashes(folder: Path) -> dict[str, str]:
    """sha256 by name of the files that a stage left in its folder."""
    return {
        path.name: files.sha256_of(path)
        for path in sorted(folder.iterdir() if folder.is_dir() else ())
        if path.is_file() and path.name not in (DONE, SPENT) and not path.name.endswith(files.TEMPORARY_SUFFIX)
    }


def _flat(inputs: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as dotted keys, so that a change can be named."""
    flat: dict[str, Any] = {}
    for key, value in inputs.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return flat


@cache
def source_sha256(module: str) -> str:
    """One hash for the Python source of a module, or of a package with all below it."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(module)
    origin = Path(spec.origin)
    sources = sorted(origin.parent.rglob("*.py")) if spec.submodule_search_locations else [origin]
    digest = hashlib.sha256()
    for source in sources:
        digest.update(source.relative_to(origin.parent).as_posix().encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()[:16]
