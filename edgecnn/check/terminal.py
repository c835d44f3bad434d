"""A check in the terminal: the table, then a line for each figure that does not hold or was not compared."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from edgecnn.check import Check, texts
from edgecnn.report import terminal


def show(check: Check, console: Console) -> None:
    terminal.print_table(texts.table(check, check.findings), console)
    for reason in check.why.values():
        console.print(f"  {escape(reason)}", soft_wrap=True)
    for note in check.notes:
        console.print(f"  {escape(note)}")
    for finding in check.findings:
        if finding.status == "pass":
            continue
        style = terminal.STYLES.get(finding.status, "bold red") if check.fails(finding) else "yellow"
        console.print(f"[{style}]{escape(texts.sentence(finding))}[/]", soft_wrap=True)
    if not check.passed:
        console.print(f"  fix: {escape(_fix(check))}", soft_wrap=True)


def _fix(check: Check) -> str:
    if all(one.status == "refused" for one in check.failures):
        return "measure again, where and when nothing disturbs it"
    return f"make it smaller or better, or accept it: {check.commands[-1]}"
