"""The gate for CI: model files against absolute budgets and against a committed baseline."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edgecnn import files
from edgecnn.check import allowances, baseline, budget_file, counts, figures, judge, models, why
from edgecnn.check.baseline import DEFAULT_PATH, Baseline
from edgecnn.check.figures import Figures
from edgecnn.check.judge import Finding
from edgecnn.check.models import Model
from edgecnn.errors import UsageError
from edgecnn.inspection import difference_tables
from edgecnn.report.letters import printable
from edgecnn.report.tables import Table

__all__ = ["Check", "Finding", "Update", "check", "update"]

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Check:
    """What a check found. `commands` do it again, and accept it; `baseline` is None where there was none.

    `why` is a sentence for each model whose size changed, by name, where the baseline tells what was in it, and
    `layers` the table of its layers that differ, where any do.
    """

    findings: tuple[Finding, ...]
    n_models: int
    baseline: str | None
    notes: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    allow_missing: bool = False
    why: Mapping[str, str] = field(default_factory=dict)
    layers: Mapping[str, Table] = field(default_factory=dict)

    @property
    def failures(self) -> tuple[Finding, ...]:
        return tuple(one for one in self.findings if self.fails(one))

    @property
    def passed(self) -> bool:
        return not self.failures

    def fails(self, finding: Finding) -> bool:
        return finding.fails(allow_missing=self.allow_missing)

    def to_json(self) -> dict[str, Any]:
        """The check as JSON values: sizes in bytes, times in ms, accuracies as fractions."""
        return {
            "schema_version": SCHEMA_VERSION,
            "passed": self.passed,
            "n_models": self.n_models,
            "baseline": self.baseline,
            "notes": list(self.notes),
            "why": dict(self.why),
            "findings": [{**asdict(one), "fails": self.fails(one)} for one in self.findings],
        }


@dataclass(frozen=True)
class Update:
    """What was written to a baseline: names of models. `left_out`: times that are not judged, and why."""

    path: str
    written: tuple[str, ...]
    kept: tuple[str, ...]
    dropped: tuple[str, ...]
    left_out: tuple[str, ...] = ()


def check(
    paths: Sequence[Path],
    *,
    baseline_path: Path | None = None,
    budget_path: Path | None = None,
    counts_path: Path | None = None,
    allow: Sequence[str] = (),
    allow_missing: bool = False,
) -> Check:
    """Holds the models that `paths` name against the baseline and against their budgets. Nothing is written.

    Without `baseline_path` the file at the default place is taken, and where there is none, budgets alone are
    judged. `counts_path` is a file that `edgecnn count --json` printed. Raises UsageError or RecipeError for
    what cannot be read, and where there is nothing to judge by.
    """
    path = baseline_path or DEFAULT_PATH
    options = allowances.parse_options(allow)
    limits = budget_file.read(budget_path) if budget_path else {}
    accepted = baseline.read(path) if baseline_path or path.exists() else None
    found = models.find(paths, path.parent)
    now, uncounted = _figures_of(found, path.parent, counts_path)
    findings = judge.against_budgets(found, limits)
    told, unread = why.explain(now, accepted.models if accepted else {}, path.parent)
    if accepted:
        allowed = baseline.allowances_of(accepted, path, options)
        findings += judge.against_baseline(now, accepted.models, allowed)
    else:
        findings += judge.gone(now)
    if not findings:
        raise UsageError(
            "there is nothing to check against: no baseline, and no budget",
            where=str(path),
            fix=f"accept the models as they are: {_update_command(paths, path, counts_path)}",
        )
    return Check(
        findings=tuple(sorted(findings, key=lambda one: one.model)),
        n_models=len(found),
        baseline=str(path) if accepted else None,
        notes=(*_notes(found, path if accepted is None else None), *unread, *uncounted),
        commands=(
            _check_command(paths, baseline_path, budget_path, counts_path, allow, allow_missing),
            _update_command(paths, path, counts_path),
        ),
        allow_missing=allow_missing,
        why={name: one.reason for name, one in told.items()},
        layers={name: table for name, one in told.items() for table in difference_tables.layers(one)},
    )


def update(
    paths: Sequence[Path], *, baseline_path: Path | None = None, counts_path: Path | None = None
) -> Update:
    """Writes the figures of the models that `paths` name to the baseline, whole or not at all.

    What was allowed there stays; so do other models whose file is still there. Raises UsageError for what
    cannot be read.
    """
    path = baseline_path or DEFAULT_PATH
    if not path.parent.is_dir():
        raise UsageError("there is no such folder", where=str(path.parent), fix="make it, or name another")
    before = baseline.read(path) if path.exists() else Baseline()
    known, _ = _figures_of(models.find(paths, path.parent), path.parent, counts_path)
    allowed = baseline.allowances_of(before, path, {})
    written = {
        name: one.model_copy(
            update={
                "ledger": why.ledger_of(path.parent / name),
                # What nobody judges would only be another number in every diff.
                "latency": {} if allowed.of(name, "latency").is_any else one.latency,
            }
        )
        for name, one in known.items()
        if one is not None
    }
    others = {name: one for name, one in before.models.items() if name not in written}
    kept = {name: one for name, one in others.items() if (path.parent / name).is_file()}
    baseline.write(path, before.model_copy(update={"models": {**kept, **written}}))
    dropped, left_out = tuple(sorted(set(others) - set(kept))), _refused(written)
    return Update(str(path), tuple(written), tuple(kept), dropped, left_out)


def _refused(written: Mapping[str, Figures]) -> tuple[str, ...]:
    return tuple(
        f"latency {run} of {name}: {one.refused}"
        for name, known in written.items()
        for run, one in known.latency.items()
        if one.refused
    )


def _figures_of(
    found: Sequence[Model], root: Path, counts_path: Path | None
) -> tuple[dict[str, Figures | None], tuple[str, ...]]:
    """The figures by model, and a note on counts of other files; a file is known by its hash."""
    if counts_path is None:
        return {model.name: figures.of_model(model) for model in found}, ()
    counted = counts.read(counts_path)
    hashes = {one.name: files.sha256_of(root / one.name) for one in found if one.artifact is not None}
    others = [records[0].file for sha256, records in counted.items() if sha256 not in hashes.values()]
    notes = [f"{counts_path} counts another file than those checked: {printable(file)}" for file in others]
    known = {
        model.name: figures.of_model(model, counted.get(hashes.get(model.name, ""), ())) for model in found
    }
    return known, tuple(notes)


def _notes(found: Sequence[Model], missing_baseline: Path | None) -> tuple[str, ...]:
    altered = [
        f"{model.name} is not the file that was built: its records do not count"
        for model in found
        if model.is_altered
    ]
    if missing_baseline:
        return (f"there is no {missing_baseline}: budgets alone were judged", *altered)
    return tuple(altered)


def _check_command(
    paths: Sequence[Path],
    baseline_path: Path | None,
    budget_path: Path | None,
    counts_path: Path | None,
    allow: Sequence[str],
    allow_missing: bool,
) -> str:
    options = [
        *(["--baseline", str(baseline_path)] if baseline_path else []),
        *(["--budget", str(budget_path)] if budget_path else []),
        *(["--counts", str(counts_path)] if counts_path else []),
        *(word for amount in allow for word in ("--allow", amount)),
        *(["--allow-missing"] if allow_missing else []),
    ]
    return shlex.join(["edgecnn", "check", *map(str, paths), *options])


def _update_command(paths: Sequence[Path], path: Path, counts_path: Path | None) -> str:
    options = [] if path == DEFAULT_PATH else ["--baseline", str(path)]
    options += ["--counts", str(counts_path)] if counts_path else []
    return shlex.join(["edgecnn", "baseline", "update", *map(str, paths), *options])
