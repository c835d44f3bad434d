"""A report as Markdown."""

from __future__ import annotations

from collections.abc import Callable

from edgecnn.records import Report
from edgecnn.report import tables
from edgecnn.report.tables import Table


def render(report: Report) -> str:
    """The whole report: the summary, what must be said beside it, and every table."""
    parts = [f"# {tables.title(report)}", "", *table_rows(tables.summary(report)), ""]
    parts += [f"- {_escaped(line)}" for line in tables.remarks(report)]
    for table in tables.all_tables(report):
        parts += ["", f"## {table.title}", "", *table_rows(table)]
    return "\n".join(parts) + "\n"


def table_rows(table: Table, escaped: Callable[[str], str] | None = None) -> list[str]:
    """The lines of a table; `escaped` makes the text of a cell harmless, where it may be anyone's."""
    escaped = escaped or _escaped
    rule = ["---:" if i in table.right else "---" for i in range(len(table.header))]
    return [
        f"| {' | '.join(map(escaped, cells))} |" if cells is not rule else f"|{'|'.join(rule)}|"
        for cells in (table.header, rule, *table.rows)
    ]


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
