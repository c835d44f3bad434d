"""A report as Markdown."""

from __future__ import annotations

import re

from edgecnn.records import Report
from edgecnn.report import tables
from edgecnn.report.letters import printable
from edgecnn.report.tables import Table

# What may mean something to Markdown, HTML or the forge that shows it: links, mentions, issue numbers. An
# underscore inside a word does not.
_MARKUP = re.compile(r"[\\`*\[\]<>#|~&@$!]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|://|www\.")


def render(report: Report) -> str:
    """The whole report: the summary, what must be said beside it, and every table."""
    parts = [f"# {tables.title(report)}", "", *table_rows(tables.summary(report)), ""]
    parts += [f"- {escaped(line)}" for line in tables.remarks(report)]
    for table in tables.all_tables(report):
        parts += ["", f"## {table.title}", "", *table_rows(table)]
    return "\n".join(parts) + "\n"


def table_rows(table: Table) -> list[str]:
    """The lines of a table, every cell harmless."""
    rule = ["---:" if i in table.right else "---" for i in range(len(table.header))]
    return [
        f"| {' | '.join(map(escaped, cells))} |" if cells is not rule else f"|{'|'.join(rule)}|"
        for cells in (table.header, rule, *table.rows)
    ]


def escaped(text: str) -> str:
    """`text`, which may be anyone's, as Markdown that shows it as it is, on one line.

    Entities, as they hold in tables and in HTML as well.
    """
    line = printable(" ".join(text.split()))
    return _MARKUP.sub(lambda found: "".join(f"&#{ord(c)};" for c in found[0]), line)
