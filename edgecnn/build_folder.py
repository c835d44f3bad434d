"""The folder that a build writes: who may write there, and what it holds in the end.

`<recipe name>.<key>` model files, each with its manifest (`.json`); `report.json`; `recipe.yaml`, the recipe
as it was built; `.stages`, the results of the stages, which may be deleted at any time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock
import pydantic

from edgecnn import files, recipe_file, stages
from edgecnn.errors import EdgeCNNError, UsageError
from edgecnn.ondevice.manifest import Manifest
from edgecnn.recipe import Recipe
from edgecnn.recipe_file import LoadedRecipe
from edgecnn.records import SCHEMA_VERSION, Artifact, Report

REPORT = "report.json"
RECIPE = "recipe.yaml"


def path_for(recipe: Recipe, output: str | os.PathLike[str] | None) -> Path:
    return Path(output) if output else Path("artifacts") / recipe.name


def check(folder: Path, recipe: Recipe) -> None:
    """Raises UsageError where `folder` holds something that is not an earlier build of this recipe's name."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UsageError(
            "the output folder is a file", where=str(folder), fix="name another with -o, or move it away"
        )
    if not any(folder.iterdir()):
        return
    if not (folder / stages.FOLDER).is_dir() and not (folder / REPORT).is_file():
        raise UsageError(
            "the output folder holds something that is not a build",
            where=str(folder),
            fix="name an empty or a new folder with -o",
        )
    if (folder / RECIPE).is_file():
        name = recipe_file.load(folder / RECIPE).recipe.name
        if name != recipe.name:
            raise UsageError(
                f"the output folder holds a build of the recipe {name!r}, not of {recipe.name!r}",
                where=str(folder),
                fix="name another folder with -o",
            )


@contextmanager
def claimed(folder: Path, loaded: LoadedRecipe, source: Path) -> Iterator[Path]:
    """`folder`, made and held for one build, with the recipe in it; `source` is the file that it was read from.

    Raises UsageError where the folder may not be used.
    """
    check(folder, loaded.recipe)
    kept = folder / RECIPE
    if kept.exists() and kept.samefile(source) and kept.read_text(encoding="utf-8") != loaded.text:
        raise UsageError(
            "with --set the build would write over the recipe that it was given",
            where=str(source),
            fix="copy the recipe out of the output folder, and build the copy",
        )
    try:
        (folder / stages.FOLDER).mkdir(parents=True, exist_ok=True)
        # Held by the open file: the system lets go of it when the process ends, however it ends.
        with filelock.FileLock(folder / stages.FOLDER / "lock", timeout=0):
            files.write_text(kept, loaded.text)
            yield folder
    except filelock.Timeout as fault:
        raise UsageError(
            "another build is writing to this folder",
            where=str(folder),
            fix="wait for it, or name another folder with -o",
        ) from fault
    except OSError as fault:
        raise EdgeCNNError(
            f"the output folder cannot be written: {fault.strerror}", where=str(fault.filename or folder)
        ) from fault


def publish(folder: Path, exported: Path) -> None:
    """Puts the exported files under their final names; those of the build before that are no more go."""
    wanted = {path.name for path in exported.iterdir() if path.name != stages.DONE}
    for name in sorted(wanted):
        content = (exported / name).read_bytes()
        if not (folder / name).is_file() or (folder / name).read_bytes() != content:
            files.write_bytes(folder / name, content)
    for name in _published_before(folder) - wanted:
        (folder / name).unlink(missing_ok=True)


def _published_before(folder: Path) -> set[str]:
    try:
        artifacts = read_report(folder).artifacts
    except UsageError:
        return set()
    models = [Path(artifact.file) for artifact in artifacts]
    return {path.name for model in models for path in (model, Manifest.path_for(model))}


def write_report(folder: Path, report: Report) -> None:
    files.write_text(folder / REPORT, report.model_dump_json(indent=None) + "\n")


def read_report(folder: Path) -> Report:
    """The report of the build in `folder`. Raises UsageError where there is none that this edgecnn can read."""
    path = folder / REPORT
    try:
        text = path.read_text(encoding="utf-8")
        report = Report.model_validate_json(text)
    except OSError as fault:
        raise UsageError(
            f"no build is here: {fault.strerror}", where=str(path), fix="make one: edgecnn build RECIPE"
        ) from fault
    except pydantic.ValidationError as fault:
        if f'"schema_version":{SCHEMA_VERSION}' not in text[:200]:
            reason = "it was written by another version of edgecnn"
        else:
            reason = f"{fault.error_count()} fields are wrong, the first: {fault.errors()[0]['msg']}"
        raise UsageError(
            f"not a report that this edgecnn reads: {reason}", where=str(path), fix="build again"
        ) from fault
    return report


def read_recipe(folder: Path) -> Recipe:
    """The recipe that `folder` was built from."""
    return recipe_file.load(folder / RECIPE).recipe


def as_it_is(folder: Path, artifact: Artifact) -> Artifact:
    """`artifact` with the size and hash of its file as it lies there now. A changed file has lost its records.

    Raises UsageError where the file is gone.
    """
    path = folder / artifact.file
    if not path.is_file():
        raise UsageError("the artifact is gone", where=str(path), fix="build again")
    sha256 = files.sha256_of(path)
    if sha256 == artifact.sha256:
        return artifact
    return artifact.model_copy(update={"size_bytes": path.stat().st_size, "sha256": sha256, "measurements": ()})
