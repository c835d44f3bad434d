"""Tables for the page: every cell with the number that it is sorted by."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgecnn.report.tables import Table

_SHOWN = re.compile(r"([+-]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?)")
_UNIT = {"B": 1.0, "kB": 1e3, "MB": 1e6, "us": 1e-3, "ms": 1.0, "s": 1e3}


@dataclass(frozen=True)
class Cell:
    """`key` is what the cell is sorted by; None where it shows no number."""

    text: str
    key: float | None = None


@dataclass(frozen=True)
class Grid:
    """A table of the page; the columns in `right` hold numbers."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    right: frozenset[int]


def grid(table: Table) -> Grid:
    """`table` with what its numbers are worth."""
    rows = tuple(
        tuple(Cell(text, number(text) if i in table.right else None) for i, text in enumerate(row))
        for row in table.rows
    )
    return Grid(table.title, table.header, rows, table.right)


def number(text: str) -> float | None:
    """The first number that a cell shows, in the unit that all of its kind are shown in: "11.7 kB" -> 11700."""
    found = _SHOWN.search(text)
    if found is None:
        return None
    unit = text.rsplit(" ", 1)[-1]
    return float(found[0].replace(",", "")) * _UNIT.get(unit, 1.0)
