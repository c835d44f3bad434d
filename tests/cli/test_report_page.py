"""`edgecnn report --html` of real builds: what it writes and refuses, what older and damaged builds give."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from cli.commands import run, told
from report.html.browser import CHROMIUM, DRIVER, browser, hidden_plots

from edgecnn import build_folder
from edgecnn.analysis.records import Analysis
from edgecnn.records import Report


def test_the_build_leaves_an_analysis_of_its_files(built: tuple[Path, Report]) -> None:
    folder, report = built
    analysis = build_folder.read_analysis(folder, report)
    assert isinstance(analysis, Analysis)
    assert [(epoch.stage, epoch.epoch) for epoch in analysis.training] == [("train", 1), ("1-prune", 1)]
    for artifact in report.artifacts:
        found = analysis.files[artifact.key]
        assert sum(found.bytes_by_kind.values()) == artifact.size_bytes
        assert [layer.layer for layer in found.layers] == ["conv1", "conv2", "fc1", "fc2", "fc3"]
        assert sum(layer.n_params for layer in found.layers) == artifact.n_params
    error = analysis.quantization
    assert error is not None
    assert (error.split, error.n_images, error.n_unmatched) == ("validation", 256, 0)
    assert [row.layer for row in error.weights] == ["conv1", "conv2", "fc1", "fc2", "fc3"]
    assert min(row.sqnr_db or 0 for row in error.activations) > 15


def test_the_disagreements_are_those_of_the_report(built: tuple[Path, Report]) -> None:
    folder, report = built
    analysis = build_folder.read_analysis(folder, report)
    assert isinstance(analysis, Analysis)
    found = analysis.disagreements
    assert found is not None
    (int8,) = (one for one in report.artifacts if one.key == "int8.tflite")
    first = int8.measurements[0]
    assert found.int8_run == f"int8.tflite on {first.runtime}"
    assert found.n_different == round((1 - (first.agreement or 0)) * first.n_images)
    (dense,) = (one for one in report.artifacts if one.key == "fp32.onnx")
    lost = round((dense.measurements[0].accuracy - first.accuracy) * first.n_images)
    assert found.n_only_float_right - found.n_only_int8_right == lost
    for one in found.shown:
        assert one.float_outputs.index(max(one.float_outputs)) == one.float_class
        assert one.int8_outputs.index(max(one.int8_outputs)) == one.int8_class


def test_the_model_card_lies_in_the_folder(built: tuple[Path, Report]) -> None:
    card = (built[0] / "MODEL_CARD.md").read_text()
    assert card.startswith("# Model card: quick\n")
    for artifact in built[1].artifacts:
        assert artifact.sha256 in card
    assert "28 x 28 pixels" in card


def test_a_page_is_written_into_the_folder(copied: Path) -> None:
    result = run("report", copied, "--html")
    assert result.exit_code == 0, told(result)
    written = copied / "report.html"
    assert f"wrote {written} (" in result.stdout
    assert 50_000 < written.stat().st_size < 2_000_000
    assert build_folder.read_report(copied), "the folder is a build as before"


@pytest.mark.skipif(not CHROMIUM or not DRIVER, reason="needs Chromium and its driver")
def test_the_page_of_a_real_build_is_seen(built: tuple[Path, Report], tmp_path: Path) -> None:
    pytest.importorskip("selenium")
    page = tmp_path / "page.html"
    assert run("report", built[0], "--html", "-o", page).exit_code == 0
    with browser(tmp_path / "profile") as opened:
        opened.open(page, width=400)
        assert hidden_plots(opened) == []
        assert opened.run("return document.documentElement.scrollWidth") == 400
        assert opened.errors() == []


def test_several_builds_are_compared_where_it_is_asked_for(copied: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(copied, other)
    page = tmp_path / "comparison.html"
    assert run("report", copied, other, "--html", "-o", page).exit_code == 0
    text = page.read_text()
    assert "2 builds side by side" in text
    assert f"quick ({other})" in text
    assert "The recipes are the same." in text


def test_what_cannot_be_asked_for(copied: Path) -> None:
    for arguments, expected in (
        ((copied, copied), "several folders and -o go with --html"),
        ((copied, "-o", "x.html"), "several folders and -o go with --html"),
        ((copied, "--html", "--format", "json"), "--html writes a page: it does not go with --format"),
        ((copied, copied, "--html"), "say where the comparison goes: -o FILE"),
        ((), "Missing argument 'DIR...'"),
    ):
        result = run("report", *arguments)
        assert result.exit_code == 2
        assert expected in told(result)
    result = run("report", copied.parent, "--html")
    assert result.exit_code == 2
    assert "no build is here" in told(result)
    assert not (copied.parent / "report.html").exists()
    result = run("report", copied, "--html", "-o", copied / "nowhere" / "x.html")
    assert result.exit_code == 3
    assert "there is no such folder" in told(result)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "an older edgecnn built this"),
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"schema_version": 1}', "cannot be read"),
        ('{"schema_version": 99}', "was written by a newer edgecnn"),
    ],
)
def test_a_build_without_a_good_analysis_has_a_page_that_says_so(
    copied: Path, content: str | None, expected: str
) -> None:
    path = copied / "analysis.json"
    path.unlink()
    if content is not None:
        path.write_text(content)
    assert run("report", copied, "--html").exit_code == 0
    page = (copied / "report.html").read_text()
    assert "This page lacks" in page
    assert expected in page
    assert "Accuracy against size" in page


def test_an_analysis_of_other_files_is_not_used(copied: Path) -> None:
    path = copied / "analysis.json"
    analysis = json.loads(path.read_text())
    analysis["sha256"]["int8.tflite"] = "0" * 64
    path.write_text(json.dumps(analysis))
    assert run("report", copied, "--html").exit_code == 0
    assert "is of other files than the report" in (copied / "report.html").read_text()


def test_a_report_of_the_first_version_is_still_read(copied: Path) -> None:
    """A report without what was added since: only what the first version of edgecnn wrote."""
    (copied / "analysis.json").unlink()
    (copied / "recipe.yaml").unlink()
    for manifest in copied.glob("*.tflite.json"):
        manifest.unlink()
    report = json.loads((copied / "report.json").read_text())
    for added in ("float_parity", "board_parity", "notes"):
        report.pop(added, None)
    (copied / "report.json").write_text(json.dumps(report))
    result = run("report", copied, "--html")
    assert result.exit_code == 0, told(result)


def test_without_matplotlib_the_pip_line_is_told(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgecnn.report.html.plots import canvas

    monkeypatch.setattr(canvas.importlib.util, "find_spec", lambda _: None)
    result = run("report", copied, "--html")
    assert result.exit_code == 3
    assert "the HTML report needs matplotlib, which is not installed" in told(result)
    assert 'pip install "edgecnn[report]"' in told(result)
    assert not (copied / "report.html").exists()
