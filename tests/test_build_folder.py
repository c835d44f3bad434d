"""What lies in a build folder is anyone's: names in it lead nowhere else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from check.builds import build

from edgecnn import build_folder, deployment
from edgecnn.errors import UsageError

Change = Callable[[dict[str, Any]], Any]


def changed(folder: Path, change: Change) -> Path:
    """A build whose report was altered by `change`."""
    path = build(folder) / "report.json"
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))
    return folder


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw["recipe"].update(name="../../outside"),
        lambda raw: raw["recipe"].update(name=["x"]),
        lambda raw: raw["recipe"].update(name="tiny\n"),
        lambda raw: raw["recipe"].pop("name"),
        lambda raw: raw["artifacts"][0].update(file="../../../../etc/passwd"),
        lambda raw: raw["artifacts"][0].update(file="/etc/passwd"),
        lambda raw: raw["artifacts"][0].update(file=".."),
        lambda raw: raw["artifacts"][0].update(file=""),
    ],
)
def test_a_name_that_leads_elsewhere_is_refused_wherever_the_report_is_read(
    change: Change, tmp_path: Path
) -> None:
    folder = changed(tmp_path / "build", change)
    with pytest.raises(UsageError, match="not a report of edgecnn"):
        build_folder.read_report(folder)
    with pytest.raises(UsageError, match="not a report of edgecnn"):
        deployment.bundle(folder)
