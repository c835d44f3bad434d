"""What is printed of anyone's text steers no terminal, and begins no line of a log."""

from __future__ import annotations

import io
import json
from typing import Any

from report.html.builds import a_report
from rich.console import Console

from edgecnn.records import Report
from edgecnn.report import terminal

HOSTILE = "\x1b[2J[/b]\x9b31m\x07\n::error::x"
KEPT = {"file", "sha256", "format", "variant", "precision", "status", "metric"}


def poisoned(value: Any, key: str = "") -> Any:
    """`value` with HOSTILE at the end of every text that may hold anything."""
    if isinstance(value, dict):
        return {name: poisoned(one, name) for name, one in value.items()}
    if isinstance(value, list):
        return [poisoned(one, key) for one in value]
    return value + HOSTILE if isinstance(value, str) and key not in KEPT else value


def check(said: str) -> None:
    assert not set(said) & {"\x1b", "\x9b", "\x07"}
    assert not [line for line in said.splitlines() if line.lstrip().startswith("::error")]
    assert "\\x1b[2J" in said


def console() -> Console:
    return Console(file=io.StringIO(), width=400, highlight=False, color_system=None)


def test_a_report() -> None:
    raw = json.loads(a_report().model_dump_json())
    report = Report.model_validate({**poisoned(raw), "recipe": {**poisoned(raw["recipe"]), "name": "a"}})
    written = console()
    terminal.print_report(report, written)
    check(written.file.getvalue())


def test_predictions_findings_and_progress() -> None:
    written = console()
    guess = {"class_name": HOSTILE, "probability": 0.5}
    terminal.print_predictions([{"picture": HOSTILE, "rejected": False, "guesses": [guess]}], written)
    finding = {"status": "ok", "about": HOSTILE, "found": HOSTILE, "advice": HOSTILE}
    terminal.print_findings([finding], written)
    progress = terminal.TerminalProgress(written)
    progress.start(HOSTILE, 1)
    progress.say(HOSTILE)
    progress.finish(HOSTILE)
    check(written.file.getvalue())
