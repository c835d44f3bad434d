"""One small real build for all commands."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from cli.commands import QUICK_RECIPE

import edgecnn
from edgecnn.records import Report
from edgecnn.steps import measurements


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    """A real build with short training and short timing: its folder, and the report that Python gets."""
    folder = tmp_path_factory.mktemp("build")
    recipe = folder / "quick.yaml"
    recipe.write_text(QUICK_RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measurements, "ROUNDS", 1)
        patch.setattr(measurements, "MIN_TOTAL_S", 0.05)
        report = edgecnn.build(recipe, folder / "out")
    return folder / "out", report


@pytest.fixture
def short_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurements, "ROUNDS", 1)
    monkeypatch.setattr(measurements, "MIN_TOTAL_S", 0.05)


@pytest.fixture
def copied(built: tuple[Path, Report], tmp_path: Path) -> Path:
    """A copy of the build, to be damaged."""
    folder = tmp_path / "copied build"
    shutil.copytree(built[0], folder)
    return folder
