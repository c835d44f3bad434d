"""A check as the comment on a pull request: the verdict, what changed, the rest folded."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from edgecnn.check import Check, Finding, texts
from edgecnn.report.markdown import escaped, table_rows
from edgecnn.report.tables import Table

SUMMARY = "GITHUB_STEP_SUMMARY"
# A comment holds 65,536 letters; of more rows `edgecnn diff` tells.
MOST_ROWS = 40


def render(check: Check) -> str:
    loud = tuple(one for one in check.findings if not texts.is_quiet(one))
    quiet = tuple(one for one in check.findings if texts.is_quiet(one))
    icon = "✅" if check.passed else "❌"
    parts = [f"**{icon} edgecnn check: {escaped(texts.verdict(check))}**", ""]
    if loud:
        parts += [*_rows(check, loud), ""]
        said = [one for one in loud if one.said]
        parts += [*(f"- {escaped(texts.sentence(one))}" for one in said), *([""] if said else [])]
    if check.why:
        parts += [*(f"- {escaped(reason)}" for reason in check.why.values()), ""]
    if check.notes:
        parts += [*(f"- {escaped(note)}" for note in check.notes), ""]
    if quiet:
        count = f"{len(quiet):,} {'figure' if len(quiet) == 1 else 'figures'} unchanged and within limits"
        parts += _folded(count, _rows(check, quiet))
    for name, table in check.layers.items():
        parts += _folded(f"{escaped(name)}: {table.title}", _layers(table))
    parts += _folded("Do it again, or accept it", _code(check.commands))
    return "\n".join(parts).rstrip() + "\n"


def append_summary(check: Check) -> None:
    """Appends the comment to the summary of the job, where GitHub Actions names a file for it."""
    path = os.environ.get(SUMMARY)
    if path:
        with Path(path).open("a", encoding="utf-8") as summary:
            summary.write(render(check))


def _rows(check: Check, findings: tuple[Finding, ...]) -> list[str]:
    table = texts.table(check, findings)
    marked = tuple(
        (*row[:-1], f"{_mark(check, one)} {row[-1]}") for row, one in zip(table.rows, findings, strict=True)
    )
    return table_rows(replace(table, rows=marked))


def _layers(table: Table) -> list[str]:
    lines = table_rows(replace(table, rows=table.rows[:MOST_ROWS]))
    n_left = len(table.rows) - MOST_ROWS
    return [*lines, "", f"{n_left:,} further rows: `edgecnn diff OLD NEW` shows them."] if n_left > 0 else lines


def _mark(check: Check, finding: Finding) -> str:
    if check.fails(finding):
        return "❌"
    return "✅" if finding.status == "pass" else "➖"


def _folded(title: str, lines: Iterable[str]) -> list[str]:
    return ["<details>", f"<summary>{title}</summary>", "", *lines, "", "</details>", ""]


def _code(commands: Iterable[str]) -> list[str]:
    """Indented, not fenced: no name can end the block."""
    return [f"    {' '.join(command.splitlines())}" for command in commands]
