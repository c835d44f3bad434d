"""A report as Markdown."""

from __future__ import annotations

from edgecnn.records import Report
from edgecnn.report import tables
from edgecnn.report.tables import Table


def render(report: Report) -> str:
    """The whole report: the summary, what must be said beside it, and every table."""
    parts = [f"# {tables.title(report)}", "", *_rows(tables.summary(report)), ""]
    parts += [f"- {_escaped(line)}" for line in tables.remarks(report)]
    for table in tables.all_tables(report):
        parts += ["", f"## {table.title}", "", *_rows(table)]
    return "\n".join(parts) + "\n"


def _rows(table: Table) -> list[str]:
    rule = ["---:" if i in table.right else "---" for i in range(len(table.header))]
    return [
        f"| {' | '.join(map(_escaped, cells))} |" if cells is not rule else f"|{'|'.join(rule)}|"
        for cells in (table.header, rule, *table.rows)
    ]


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
