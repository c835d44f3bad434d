"""Paths -> models: each file with what is known of it, from the report of its build where there is one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgecnn import build_folder
from edgecnn.check import paths as given_paths
from edgecnn.recipe import Budget
from edgecnn.records import Artifact, ParityRecord, Report


@dataclass(frozen=True)
class Model:
    """A model file. `name` is its path from the folder of the baseline; `key` that of its artifact, if built.

    `artifact` is the file as it lies there, without records where it is not the one that was measured; None
    where the file is gone. `reference_sha256` is that of the dense network that its accuracy drop is from.
    """

    name: str
    key: str | None
    artifact: Artifact | None
    budget: Budget | None = None
    parity: tuple[ParityRecord, ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    reference_sha256: str | None = None
    is_altered: bool = False


def find(paths: Iterable[Path], root: Path) -> list[Model]:
    """The models that `paths` name, by name; names are from `root`.

    Raises UsageError for a path that names none, and for a build that cannot be read.
    """
    builds: dict[Path, list[Model]] = {}
    found: dict[str, Model] = {}
    for path in given_paths.expand(paths):
        folder = path if path.is_dir() else path.parent
        if given_paths.is_build(folder):
            if folder not in builds:
                builds[folder] = _of_build(folder, root)
            name = name_of(path, root)
            models = [model for model in builds[folder] if path.is_dir() or model.name == name]
        else:
            models = [_alone(path, root)]
        found |= {model.name: model for model in models}
    return [found[name] for name in sorted(found)]


def name_of(path: Path, root: Path) -> str:
    """`path` as seen from `root`, with / on every system, so that a baseline is the same everywhere."""
    return Path(os.path.relpath(path, root)).as_posix()


def _of_build(folder: Path, root: Path) -> list[Model]:
    """The artifacts of a build, and model files beside them that it did not write."""
    report = build_folder.read_report(folder)
    recipe = build_folder.read_recipe(folder, report)
    now = {one.key: _as_it_is(folder, one) for one in report.artifacts}
    same = {one.key for one in report.artifacts if (is_now := now[one.key]) and is_now.sha256 == one.sha256}
    reference = report.dense.sha256 if report.dense else None
    built = [
        Model(
            name=name_of(folder / one.file, root),
            key=one.key,
            artifact=now[one.key],
            budget=recipe.budget.get(one.key),
            parity=_parity(one.key, report, same),
            environment=report.environment,
            reference_sha256=reference,
            is_altered=one.key not in same and now[one.key] is not None,
        )
        for one in report.artifacts
    ]
    names = {model.name for model in built}
    others = [_alone(path, root) for path in sorted(folder.iterdir()) if given_paths.is_model(path)]
    return built + [model for model in others if model.name not in names]


def _as_it_is(folder: Path, artifact: Artifact) -> Artifact | None:
    return build_folder.as_it_is(folder, artifact) if (folder / artifact.file).is_file() else None


def _parity(key: str, report: Report, same: set[str]) -> tuple[ParityRecord, ...]:
    """The records in which `key` is the candidate; both files must be those that were compared."""
    return tuple(
        record
        for record in report.parity
        if record.candidate == key and {key, record.reference.partition(" on ")[0]} <= same
    )


def _alone(path: Path, root: Path) -> Model:
    # Of a file without a report the size is known and nothing else: the other fields stay unset.
    known: dict[str, Any] = {
        "key": path.name,
        "file": path.name,
        "size_bytes": path.stat().st_size,
        "measurements": (),
    }
    return Model(name=name_of(path, root), key=None, artifact=Artifact.model_construct(**known))
