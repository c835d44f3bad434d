"""build.lock.json: what went into a build and what came out, so that anyone can check it and build it again."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pydantic

from edgecnn import files
from edgecnn.errors import UsageError
from edgecnn.ondevice.names import FILE_PATTERN
from edgecnn.records import Record
from edgecnn.schema_versions import refuse_newer

LOCK_FILE = "build.lock.json"
SCHEMA_VERSION: Literal[1] = 1
GIT_TIMEOUT_S = 10
FileName = Annotated[str, pydantic.Field(pattern=FILE_PATTERN)]


class GitState(Record):
    """The repository that the recipe lies in, as it was built from."""

    commit: str
    changed: bool = pydantic.Field(description="whether files that git knows differed from the commit")


class BuildLock(Record):
    """Everything that decides the files of a build, and their hashes."""

    schema_version: Literal[1] = SCHEMA_VERSION
    recipe: str
    recipe_sha256: str
    seed: int
    data: str
    data_sha256: str
    weights_sha256: str | None
    threads: int
    torch_device: str | None = pydantic.Field(description="None where nothing was trained")
    machine: dict[str, str]
    tools: dict[str, str]
    git: GitState | None
    stages: dict[str, str] = pydantic.Field(description="the key of each stage's result")
    outputs: dict[FileName, str] = pydantic.Field(description="sha256 by file name")


@dataclass(frozen=True)
class Checked:
    """One file of a build against its lock: ok, changed, missing; or unknown: it lies there unlisted."""

    file: str
    status: Literal["ok", "changed", "missing", "unknown"]


def git_state(folder: Path) -> GitState | None:
    """Of the repository around `folder`; None where there is none, or no git."""
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return GitState(commit=commit, changed=bool(changed))


def _git(folder: Path, *arguments: str) -> str:
    ran = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=GIT_TIMEOUT_S,
    )
    return ran.stdout.strip()


def write(folder: Path, lock: BuildLock) -> None:
    files.write_text(folder / LOCK_FILE, lock.model_dump_json(indent=1) + "\n")


def read(folder: Path) -> BuildLock:
    """The lock of the build in `folder`. Raises UsageError where there is none that this edgecnn can read."""
    path = folder / LOCK_FILE
    try:
        raw = files.read_json(path)
        refuse_newer(raw, SCHEMA_VERSION, what="lock", where=str(path))
        return BuildLock.model_validate(raw)
    except OSError as fault:
        raise UsageError(
            f"there is no {LOCK_FILE}: {fault.strerror}",
            where=str(folder),
            fix="make one: edgecnn build RECIPE",
        ) from fault
    except ValueError as fault:
        reason = fault.errors()[0]["msg"] if isinstance(fault, pydantic.ValidationError) else str(fault)
        raise UsageError(f"not a lock of a build: {reason}", where=str(path), fix="build again") from fault


def check(folder: Path, lock: BuildLock, suffixes: tuple[str, ...] = (".tflite", ".onnx")) -> list[Checked]:
    """Every file that the lock lists, and model files that it does not list."""
    found = [Checked(name, _status(folder / name, sha256)) for name, sha256 in lock.outputs.items()]
    there = {path.name for path in folder.iterdir() if path.suffix in suffixes}
    return [*found, *(Checked(name, "unknown") for name in sorted(there - lock.outputs.keys()))]


def _status(path: Path, sha256: str) -> Literal["ok", "changed", "missing"]:
    if not path.is_file():
        return "missing"
    return "ok" if files.sha256_of(path) == sha256 else "changed"


def differences(before: BuildLock, after: BuildLock) -> list[str]:
    """What went into two builds of one recipe that was not the same: why their files may differ."""
    said = []
    for name in ("recipe_sha256", "data_sha256", "weights_sha256", "threads", "torch_device"):
        said += _difference(name, getattr(before, name), getattr(after, name))
    for group in ("tools", "machine"):
        old: Mapping[str, str] = getattr(before, group)
        new: Mapping[str, str] = getattr(after, group)
        for name in sorted({*old, *new}):
            said += _difference(name, old.get(name), new.get(name))
    changed = [name for name, key in before.stages.items() if after.stages.get(name, key) != key]
    # What the version does not tell: edgecnn's own code, in a checkout.
    return said if said or not changed else [f"the inputs or the code of: {', '.join(changed)}"]


def _difference(name: str, before: object, after: object) -> list[str]:
    return [] if before == after else [f"{name}: {before} -> {after}"]
