"""The study: every trial of a search as a row of a small SQLite file, written as it ends."""

from __future__ import annotations

import errno
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from edgecnn.errors import StorageError
from edgecnn.search.candidates import Candidate, Trial

_TABLE = """
create table if not exists trials (
  number integer primary key,
  extent text not null,          -- screen: a short training; final: the whole one
  origin text not null,          -- uniform, greedy, mutated
  widths text not null,          -- JSON: channels by layer
  cost real not null,            -- in the unit of what is minimized
  accuracy real not null,        -- of the quantized network on the validation split, 0..1
  unique (extent, widths)
)
"""


class Study:
    """The trials of one search at `path`. Every row is there, whole, once `add` has returned."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._open() as database:
            database.execute(_TABLE)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.path)) as database, database:
                yield database
        except sqlite3.OperationalError as fault:
            is_full = fault.sqlite_errorcode == sqlite3.SQLITE_FULL
            raise StorageError(OSError(errno.ENOSPC if is_full else None, str(fault)), self.path) from fault

    def add(self, trial: Trial) -> None:
        """A trial that is there already (a search that goes on meets its own) stays as it is."""
        one = trial.candidate
        row = (trial.extent, one.origin, json.dumps(one.widths), one.cost, trial.accuracy)
        with self._open() as database:
            database.execute(
                "insert or ignore into trials (extent, origin, widths, cost, accuracy) values (?, ?, ?, ?, ?)",
                row,
            )

    def trials(self) -> tuple[Trial, ...]:
        """All trials, in the order in which they ended."""
        with self._open() as database:
            rows = database.execute(
                "select extent, origin, widths, cost, accuracy from trials order by number"
            ).fetchall()
        return tuple(
            Trial(Candidate(tuple(json.loads(widths)), cost, origin), extent, accuracy)
            for extent, origin, widths, cost, accuracy in rows
        )
