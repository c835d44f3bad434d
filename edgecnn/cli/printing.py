"""How commands end: progress on stderr, results on stdout, the exit code."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from edgecnn.records import Report


def terminal_progress() -> Any:
    from edgecnn.report import terminal

    return terminal.progress(terminal.make_console(stderr=True))


def finish_report(report: Report, as_json: bool) -> None:
    if as_json:
        click.echo(report.model_dump_json(indent=2))
    else:
        from edgecnn.report import terminal

        terminal.print_summary(report, terminal.make_console())
    sys.exit(0 if report.passed else 1)


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2))
