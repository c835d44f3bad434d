from pathlib import Path

import pytest

from edgecnn.search.candidates import Candidate, Trial
from edgecnn.search.study import Study

TRIALS = [
    Trial(Candidate((4, 8), 1234.0, "uniform"), "screen", 0.98),
    Trial(Candidate((2, 3), 99.5, "mutated"), "screen", 0.91),
    Trial(Candidate((4, 8), 1234.0, "uniform"), "final", 0.99),
]


def test_trials_come_back_as_they_were_from_a_file_that_is_opened_anew(tmp_path: Path) -> None:
    for trial in TRIALS:
        Study(tmp_path / "study.sqlite").add(trial)
    assert Study(tmp_path / "study.sqlite").trials() == tuple(TRIALS)


def test_a_search_that_goes_on_meets_its_own_trials_without_doubling_them(tmp_path: Path) -> None:
    study = Study(tmp_path / "study.sqlite")
    for trial in (*TRIALS, *TRIALS):
        study.add(trial)
    assert len(study.trials()) == 3


def test_anyone_can_read_it_with_sql(tmp_path: Path) -> None:
    import sqlite3

    study = Study(tmp_path / "study.sqlite")
    for trial in TRIALS:
        study.add(trial)
    rows = sqlite3.connect(study.path).execute(
        "select widths, cost, accuracy from trials where extent = 'final'"
    )
    assert rows.fetchall() == [("[4, 8]", 1234.0, 0.99)]


def test_a_row_is_whole_or_not_there(tmp_path: Path) -> None:
    study = Study(tmp_path / "study.sqlite")
    with pytest.raises(AttributeError):
        study.add(None)  # type: ignore[arg-type]
    assert study.trials() == ()
