"""Every schema version that there ever was is read: a real file of each lies in tests/fixtures/versions.

`_first` is of the first days of a version: fields that came later are missing there.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from recipes_for_tests import ROOT

from edgecnn import build_folder, provenance, records
from edgecnn.analysis import records as analysis_records
from edgecnn.check import baseline
from edgecnn.errors import UsageError
from edgecnn.ondevice import manifest
from edgecnn.steps.manifests import read_manifest

VERSIONS = sorted((ROOT / "tests" / "fixtures" / "versions").glob("*.json"))


def read_analysis(path: Path) -> object:
    found = analysis_records.Analysis.model_validate_json(path.read_text())
    report = json.loads((ROOT / "tests" / "fixtures" / "versions" / "report_1.json").read_text())
    files = [{**report["artifacts"][0], "key": key, "sha256": one} for key, one in found.sha256.items()]
    read = build_folder.read_analysis(
        path.parent, records.Report.model_validate({**report, "artifacts": files})
    )
    if isinstance(read, str):
        raise UsageError(read)
    return read


# By kind: the name that such a file has, what reads it, and its newest version.
KINDS: dict[str, tuple[str, Callable[[Path], object], int]] = {
    "report": ("report.json", lambda path: build_folder.read_report(path.parent), records.SCHEMA_VERSION),
    "lock": ("build.lock.json", lambda path: provenance.read(path.parent), provenance.SCHEMA_VERSION),
    "baseline": ("baseline.json", baseline.read, baseline.SCHEMA_VERSION),
    "manifest": ("x.tflite.json", lambda path: read_manifest(path.with_suffix("")), manifest.SCHEMA_VERSION),
    "analysis": ("analysis.json", read_analysis, analysis_records.SCHEMA_VERSION),
}


def kind_of(path: Path) -> str:
    return path.stem.split("_")[0]


@pytest.mark.parametrize("path", VERSIONS, ids=lambda path: path.stem)
def test_a_file_of_every_version_is_read(path: Path, tmp_path: Path) -> None:
    name, read, _ = KINDS[kind_of(path)]
    shutil.copyfile(path, tmp_path / name)
    assert read(tmp_path / name)
    assert json.loads(path.read_text())["schema_version"] == int(path.stem.split("_")[1])


@pytest.mark.parametrize("kind", KINDS)
def test_there_is_a_file_of_every_version(kind: str) -> None:
    kept = {int(path.stem.split("_")[1]) for path in VERSIONS if kind_of(path) == kind}
    assert kept == set(range(1, KINDS[kind][2] + 1))


@pytest.mark.parametrize(
    ("kind", "changes", "fix"),
    [
        ("lock", {"tools": {"edgecnn": "9.1.0"}}, 'pip install -U "edgecnn>=9.1.0"'),
        ("manifest", {"tool_versions": {"edgecnn": "9.1.0"}}, 'pip install -U "edgecnn>=9.1.0"'),
        ("report", {"environment": {"edgecnn": "9.1.0"}}, 'pip install -U "edgecnn>=9.1.0"'),
        ("report", {"environment": {"edgecnn": "9.1; rm -rf /"}}, "pip install -U edgecnn"),
        ("baseline", {}, "pip install -U edgecnn"),
    ],
)
def test_a_newer_file_names_the_edgecnn_that_reads_it(
    kind: str, changes: dict[str, Any], fix: str, tmp_path: Path
) -> None:
    name, read, newest = KINDS[kind]
    (tmp_path / name).write_text(json.dumps({"schema_version": newest + 1, **changes}))
    with pytest.raises(UsageError, match=f"schema version {newest + 1}") as raised:
        read(tmp_path / name)
    assert raised.value.fix is not None and raised.value.fix.endswith(fix)
