"""The folder that a build writes: who may write there, and what it holds in the end.

`<recipe name>.<key>` model files, each with its manifest (`.json`); `report.json`, and `analysis.json` with
what the HTML report shows besides; `MODEL_CARD.md`; `recipe.yaml`, the recipe as it was built;
`build.lock.json`, what went in and the hash of all that came out; `.stages`, the results of the stages, which
may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock
import pydantic

from edgecnn import files, provenance, recipe_file, stages
from edgecnn.analysis.records import SCHEMA_VERSION as ANALYSIS_VERSION
from edgecnn.analysis.records import Analysis
from edgecnn.errors import UsageError
from edgecnn.ondevice.manifest import DeviceError, Manifest
from edgecnn.provenance import LOCK_FILE, BuildLock
from edgecnn.recipe import Recipe
from edgecnn.recipe_file import LoadedRecipe
from edgecnn.records import SCHEMA_VERSION, Artifact, Report
from edgecnn.report import model_card
from edgecnn.report.build import Build
from edgecnn.schema_versions import refuse_newer
from edgecnn.stages import StoredResult

REPORT = "report.json"
ANALYSIS = "analysis.json"
MODEL_CARD = "MODEL_CARD.md"
LOCK = Path(stages.FOLDER) / "lock"
HOLDER = LOCK.with_name("lock.holder")
"""Who holds the lock, for people to read."""
READY = Path(stages.FOLDER) / "ready"
"""What is about to be published: all of it is written before the first file gets its name."""
RECIPE = "recipe.yaml"
ABOUT = frozenset({REPORT, ANALYSIS, MODEL_CARD, RECIPE})
"""The files of a build that are neither models nor manifests."""


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
    built = _name_in_report(folder)
    if built is None and not (folder / stages.FOLDER).is_dir():
        raise UsageError(
            "the output folder holds something that is not a build",
            where=str(folder),
            fix="name an empty or a new folder with -o",
        )
    if built not in (None, recipe.name):
        raise UsageError(
            f"the output folder holds a build of the recipe {built!r}, not of {recipe.name!r}",
            where=str(folder),
            fix="name another folder with -o",
        )


def _name_in_report(folder: Path) -> str | None:
    """The recipe's name in a report of any version of edgecnn; None where there is no report of ours."""
    try:
        report = files.read_json(folder / REPORT)
        if report.keys() >= {"schema_version", "recipe", "artifacts"}:
            return str(report["recipe"]["name"])
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        pass
    return None


@contextmanager
def claimed(folder: Path, recipe: Recipe) -> Iterator[Path]:
    """`folder`, made and held for one build. Raises UsageError where it may not be used, StorageError where
    it cannot be written.
    """
    check(folder, recipe)
    with _locked(folder):
        yield folder


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Held by the open file: the system lets go of it when the process ends, however it ends."""
    lock, holder = filelock.FileLock(folder / LOCK, timeout=0), folder / HOLDER
    with files.writing(folder):
        (folder / LOCK).parent.mkdir(parents=True, exist_ok=True)
    with files.writing(folder / LOCK):
        try:
            lock.acquire()
        except filelock.Timeout as fault:  # an OSError, too
            raise UsageError(
                f"another build is writing to this folder{_told_of(holder)}",
                where=str(folder),
                fix="wait for it, or name another folder with -o",
            ) from fault
    try:
        with suppress(OSError):  # on a full disk, too, `clean` must do its work
            holder.unlink(missing_ok=True)  # of a process that was killed
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            files.write_text(holder, f"process {os.getpid()} on {platform.node()}, since {since}")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _told_of(holder: Path) -> str:
    """Who holds the lock, where it has said so already."""
    try:
        return f": {files.read_text(holder)}"
    except (OSError, ValueError):
        return ""


def check_source(folder: Path, loaded: LoadedRecipe, source: Path) -> None:
    """Raises UsageError where the build would write over `source`, the recipe that it was given."""
    kept = folder / RECIPE
    if kept.exists() and kept.samefile(source) and files.read_text(kept) != loaded.text:
        raise UsageError(
            "with --set the build would write over the recipe that it was given",
            where=str(source),
            fix="copy the recipe out of the output folder, and build the copy",
        )


def publish(
    folder: Path,
    exported: Path,
    report: Report,
    analysis: str,
    loaded: LoadedRecipe,
    lock_for: Callable[[dict[str, str]], BuildLock],
) -> None:
    """Puts files, recipe and report under their final names; files of the build before that are no more go.

    `analysis` is the text of an `Analysis`; `lock_for` gives the lock for the sha256 of every file. The report
    comes last but for the lock: what it tells of is there. Raises StorageError where the disk has no room for
    all of it: then the build before is as it was.
    """
    wanted = _files_of(report)
    gone = _published_before(folder) - wanted
    manifests = {one.key: Manifest.read_for(exported / one.file) for one in report.artifacts}
    about = {
        RECIPE: loaded.text,
        ANALYSIS: analysis,
        MODEL_CARD: model_card.render(report, manifests),
        REPORT: report.model_dump_json() + "\n",
    }
    ready = folder / READY
    shutil.rmtree(ready, ignore_errors=True)
    try:
        with files.writing(ready):
            ready.mkdir()
        hashes = {}
        for name in sorted(wanted):
            hashes[name] = _make_ready(folder / name, ready, (exported / name).read_bytes())
        for name, text in about.items():
            hashes[name] = _make_ready(folder / name, ready, text.encode("utf-8"))
        provenance.write(ready, lock_for(dict(sorted(hashes.items()))))
        # A lock that tells of other files would be a lie, should the rest not come to its end.
        (folder / LOCK_FILE).unlink(missing_ok=True)
        for name in gone:
            (folder / name).unlink(missing_ok=True)
        files.move_all(ready, folder, (*hashes, LOCK_FILE))
    finally:
        shutil.rmtree(ready, ignore_errors=True)


def _make_ready(published: Path, ready: Path, content: bytes) -> str:
    """Writes `content` into the folder `ready`, unless it is published already; its sha256."""
    sha256 = hashlib.sha256(content).hexdigest()
    if not published.is_file() or files.sha256_of(published) != sha256:
        files.write_bytes(ready / published.name, content)
    return sha256


def _published_before(folder: Path) -> set[str]:
    try:
        return _files_of(read_report(folder))
    except UsageError:
        return set()


def _files_of(report: Report) -> set[str]:
    models = [Path(Path(artifact.file).name) for artifact in report.artifacts]
    return {path.name for model in models for path in (model, Manifest.path_for(model))}


def clean(
    folder: Path, *, older_than_s: float = 0.0, everything: bool = False, dry_run: bool = False
) -> list[StoredResult]:
    """Removes the results of stages that the finished build in `folder` does not need, and gives them.

    What is newer than that build may be of one that was interrupted, and stays. `everything`: all goes; the
    next build starts from nothing. Raises UsageError where no finished build is there, or one is running.
    """
    needed = set(provenance.read(folder).stages.items())
    built = (folder / LOCK_FILE).stat().st_mtime

    def is_unused(one: StoredResult) -> bool:
        return everything or ((one.stage, one.key) not in needed and one.modified <= built)

    with _locked(folder):
        now = time.time()
        stored = stages.StageStore(folder).stored()
        unused = [one for one in stored if is_unused(one) and now - one.modified >= older_than_s]
        for one in () if dry_run else unused:
            if one.path.is_symlink():
                one.path.unlink()
            else:
                shutil.rmtree(one.path)
    return unused


def read_report(folder: Path) -> Report:
    """The report of the build in `folder`. Raises UsageError where there is none that this edgecnn can read."""
    path = folder / REPORT
    try:
        raw = files.read_json(path)
        refuse_newer(raw, SCHEMA_VERSION, what="report", where=str(path))
        if isinstance(raw, dict) and "schema_version" not in raw:
            raise ValueError("schema_version is missing")
        return Report.model_validate(raw)
    except OSError as fault:
        raise UsageError(
            f"no build is here: {fault.strerror}", where=str(path), fix="make one: edgecnn build RECIPE"
        ) from fault
    except pydantic.ValidationError as fault:
        first = fault.errors()[0]
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise UsageError(f"not a report of edgecnn: {reason}", where=str(path), fix="build again") from fault
    except ValueError as fault:
        raise UsageError(f"not a report of edgecnn: {fault}", where=str(path), fix="build again") from fault


def read_analysis(folder: Path, report: Report) -> Analysis | str:
    """The analysis beside the report in `folder`; a sentence that says why where there is none to be used."""
    try:
        raw = files.read_json(folder / ANALYSIS)
        version = raw.get("schema_version") if isinstance(raw, dict) else None
        if isinstance(version, int) and version > ANALYSIS_VERSION:
            return f"{ANALYSIS} was written by a newer edgecnn (pip install -U edgecnn)"
        analysis = Analysis.model_validate(raw)
    except FileNotFoundError:
        return f"there is no {ANALYSIS}: an older edgecnn built this (build again to have it)"
    except (OSError, ValueError):
        return f"{ANALYSIS} cannot be read (build again)"
    if analysis.sha256 != {artifact.key: artifact.sha256 for artifact in report.artifacts}:
        return f"{ANALYSIS} is of other files than the report (build again)"
    return analysis


def read_build(folder: Path) -> Build:
    """All that the page about the build in `folder` shows. Raises UsageError as `read_report` does."""
    report = read_report(folder)
    analysis = read_analysis(folder, report)
    is_there = isinstance(analysis, Analysis)
    return Build(
        folder=str(folder),
        report=report,
        analysis=analysis if isinstance(analysis, Analysis) else None,
        lacks="" if is_there else str(analysis),
        recipe_text=_text_of(folder / RECIPE),
        tool_versions=_tool_versions(folder, report),
    )


def _text_of(path: Path) -> str:
    try:
        return files.read_text(path)
    except (OSError, ValueError):
        return ""


def _tool_versions(folder: Path, report: Report) -> dict[str, str]:
    """What the files were made with, by the manifest of the first; empty where that is gone."""
    try:
        return Manifest.read_for(folder / report.artifacts[0].file).tool_versions
    except (DeviceError, IndexError):
        return {}


def read_recipe(folder: Path, report: Report) -> Recipe:
    """The recipe that `folder` was built from. Its budget may have been changed since, nothing else.

    Raises UsageError for a recipe that would give other files than those that are there.
    """
    recipe = recipe_file.load(folder / RECIPE, is_built=True).recipe
    if recipe.sha256 != report.recipe.get("sha256"):
        raise UsageError(
            "the recipe beside the report is not the one that was built",
            where=str(folder / RECIPE),
            fix="build it: edgecnn build RECIPE",
        )
    return recipe


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
