"""A report as Markdown."""

from __future__ import annotations

from edgecnn.records import Report
from edgecnn.report import tables
from edgecnn.report.tables import Table


def render(report: Report) -> str:
    """The whole report: summary, budget, every runtime, the ledger, sizes and parity."""
    parts = [f"# {tables.title(report)}", "", *_rows(tables.summary(report)), ""]
    parts += [f"- {_escaped(line)}" for line in tables.remarks(report)]
    for table in (
        tables.verdicts(report),
        tables.runtimes(report),
        tables.ledger(report),
        tables.sizes(report),
    ):
        if table.rows:
            parts += ["", f"## {table.title}", "", *_rows(table)]
    if report.parity:
        parts += ["", "## Parity of the int8 pair", ""]
        parts += [f"- {_escaped(tables.parity_line(record))}" for record in report.parity]
    return "\n".join(parts) + "\n"


def _rows(table: Table) -> list[str]:
    rule = ["---:" if i in table.right else "---" for i in range(len(table.header))]
    return [
        f"| {' | '.join(map(_escaped, cells))} |" if cells is not rule else f"|{'|'.join(rule)}|"
        for cells in (table.header, rule, *table.rows)
    ]


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
