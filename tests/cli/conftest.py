"""One small real build for all commands."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import digits_for_tests
import filelock
import pytest
from cli.commands import QUICK_RECIPE
from measurements_for_tests import measure_briefly, measure_little

import edgecnn
from edgecnn.records import Report


@pytest.fixture(autouse=True)
def few_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands are given the digits that the build was made from."""
    digits_for_tests.use_fewer(monkeypatch)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    """A real build with short training and short timing: its folder, and the report that Python gets.

    The first process of the tests that needs it makes it, for all; each looks at a copy of its own.
    """
    own = tmp_path_factory.mktemp("build")
    of_all = own.parents["PYTEST_XDIST_WORKER" in os.environ]
    shared = of_all / "build of the commands"
    with filelock.FileLock(f"{shared}.lock"):
        if not shared.is_dir():
            shutil.move(build_in(tmp_path_factory.mktemp("build")), shared)
    shutil.copytree(shared, own, dirs_exist_ok=True)
    return own / "out", pickle.loads((own / "report.pickle").read_bytes())


def build_in(folder: Path) -> Path:
    recipe = folder / "quick.yaml"
    recipe.write_text(QUICK_RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        digits_for_tests.use_fewer(patch)
        measure_briefly(patch)
        report = edgecnn.build(recipe, folder / "out")
    (folder / "report.pickle").write_bytes(pickle.dumps(report))
    return folder


@pytest.fixture
def short_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    measure_briefly(monkeypatch)


@pytest.fixture
def measured_little(monkeypatch: pytest.MonkeyPatch) -> None:
    measure_little(monkeypatch)


@pytest.fixture
def copied(built: tuple[Path, Report], tmp_path: Path) -> Path:
    """A copy of the build, to be damaged."""
    folder = tmp_path / "copied build"
    shutil.copytree(built[0], folder)
    return folder
