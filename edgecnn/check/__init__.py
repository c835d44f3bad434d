"""The gate for CI: model files against absolute budgets and against a committed baseline."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edgecnn.check import allowances, baseline, budget_file, figures, judge, models, why
from edgecnn.check.baseline import DEFAULT_PATH, Baseline
from edgecnn.check.judge import Finding
from edgecnn.check.models import Model
from edgecnn.errors import UsageError

__all__ = ["Check", "Finding", "Update", "check", "update"]

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Check:
    """What a check found. `commands` do it again, and accept it; `baseline` is None where there was none.

    `why` is a sentence for each model whose size changed, by name, where the baseline tells what was in it.
    """

    findings: tuple[Finding, ...]
    n_models: int
    baseline: str | None
    notes: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    allow_missing: bool = False
    why: Mapping[str, str] = field(default_factory=dict)

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
    """What was written to a baseline: names of models."""

    path: str
    written: tuple[str, ...]
    kept: tuple[str, ...]
    dropped: tuple[str, ...]


def check(
    paths: Sequence[Path],
    *,
    baseline_path: Path | None = None,
    budget_path: Path | None = None,
    allow: Sequence[str] = (),
    allow_missing: bool = False,
) -> Check:
    """Holds the models that `paths` name against the baseline and against their budgets. Nothing is written.

    Without `baseline_path` the file at the default place is taken, and where there is none, budgets alone are
    judged. Raises UsageError or RecipeError for what cannot be read, and where there is nothing to judge by.
    """
    path = baseline_path or DEFAULT_PATH
    options = allowances.parse_options(allow)
    limits = budget_file.read(budget_path) if budget_path else {}
    accepted = baseline.read(path) if baseline_path or path.exists() else None
    found = models.find(paths, path.parent)
    now = {model.name: figures.of_model(model) for model in found}
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
            fix=f"accept the models as they are: {_update_command(paths, path)}",
        )
    return Check(
        findings=tuple(sorted(findings, key=lambda one: one.model)),
        n_models=len(found),
        baseline=str(path) if accepted else None,
        notes=(*_notes(found, path if accepted is None else None), *unread),
        commands=(
            _check_command(paths, baseline_path, budget_path, allow, allow_missing),
            _update_command(paths, path),
        ),
        allow_missing=allow_missing,
        why=told,
    )


def update(paths: Sequence[Path], *, baseline_path: Path | None = None) -> Update:
    """Writes the figures of the models that `paths` name to the baseline, whole or not at all.

    What was allowed there stays; so do other models whose file is still there. Raises UsageError for what
    cannot be read.
    """
    path = baseline_path or DEFAULT_PATH
    if not path.parent.is_dir():
        raise UsageError("there is no such folder", where=str(path.parent), fix="make it, or name another")
    before = baseline.read(path) if path.exists() else Baseline()
    known = {model.name: figures.of_model(model) for model in models.find(paths, path.parent)}
    written = {
        name: one.model_copy(update={"ledger": why.ledger_of(path.parent / name)})
        for name, one in known.items()
        if one is not None
    }
    others = {name: one for name, one in before.models.items() if name not in written}
    kept = {name: one for name, one in others.items() if (path.parent / name).is_file()}
    baseline.write(path, before.model_copy(update={"models": {**kept, **written}}))
    return Update(str(path), tuple(written), tuple(kept), tuple(sorted(set(others) - set(kept))))


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
    allow: Sequence[str],
    allow_missing: bool,
) -> str:
    options = [
        *(["--baseline", str(baseline_path)] if baseline_path else []),
        *(["--budget", str(budget_path)] if budget_path else []),
        *(word for amount in allow for word in ("--allow", amount)),
        *(["--allow-missing"] if allow_missing else []),
    ]
    return shlex.join(["edgecnn", "check", *map(str, paths), *options])


def _update_command(paths: Sequence[Path], path: Path) -> str:
    options = [] if path == DEFAULT_PATH else ["--baseline", str(path)]
    return shlex.join(["edgecnn", "baseline", "update", *map(str, paths), *options])
