"""The forms of output, held against files in `golden/`, and names that try to break out of them."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from edgecnn.check import Check, Finding, github, junit, markdown, outputs, texts
from edgecnn.report.tables import Table

GOLDEN = Path(__file__).parent / "golden"
SUFFIXES = {"markdown": "md", "junit": "xml", "github": "txt", "json": "json"}
MODEL = "models/a.int8.tflite"
MACHINES = (
    "measured on Cortex-A53, aarch64, litert 2.1, 1 thread; the baseline on Cortex-A72, aarch64, litert 2.1"
)
CANNOT = "cannot tell: 160,000 images could tell"

LAYERS = Table(
    "1 of 5 layers differ",
    ("old", "new", "layer", "status", "bytes", "change", "what"),
    (("4", "4", "FULLY_CONNECTED <fc1|@team>", "changed", "34,000 -> 34,800", "+800", "weight shape"),),
    frozenset({0, 1, 4, 5}),
)

CHECK = Check(
    findings=(
        Finding(MODEL, "size", "baseline", "fail", 10_000, 10_800, 10_100),
        Finding(MODEL, "accuracy", "baseline", "inconclusive", 0.99, 0.9888, 0.989, CANNOT),
        Finding(MODEL, "accuracy_drop", "baseline", "pass", 0.002, 0.001, 0.003),
        Finding(MODEL, "max_lsb", "baseline", "fail", 1, 2, 1),
        Finding(MODEL, "latency host litert", "baseline", "not compared", 1.0, 1.5, said=MACHINES),
        Finding(MODEL, "max_size_bytes", "budget", "pass", now=10_800, limit=20_000),
        Finding(
            MODEL, "max_median_ms", "budget", "refused", limit=2.0, said="emulated milliseconds are not judged"
        ),
        Finding("models/b.tflite", "size", "baseline", "pass", 5_000, 4_000, 5_050),
        Finding("models/c.tflite", "size", "baseline", "pass", 5_000, 5_000, 5_050),
        Finding("models/gone.tflite", "size", "baseline", "missing", 7_000, said="the file is gone"),
        Finding("models/new|<b>.tflite", "size", "baseline", "new", now=7_000, said="not in the baseline"),
    ),
    n_models=4,
    baseline="edgecnn-baseline.json",
    notes=("models/d.tflite is not the file that was built: its records do not count",),
    commands=("edgecnn check models", "edgecnn baseline update models"),
    layers={MODEL: LAYERS},
    why={MODEL: f"{MODEL} grew by 800 B (+8 %): layer 4 (FULLY_CONNECTED) holds 800 B more"},
)


@pytest.mark.parametrize("form", SUFFIXES)
def test_golden(form: str) -> None:
    path = GOLDEN / f"check.{SUFFIXES[form]}"
    assert outputs.render(CHECK, form) == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("form", SUFFIXES)
def test_a_pass_is_golden(form: str) -> None:
    path = GOLDEN / f"pass.{SUFFIXES[form]}"
    passed = Check(CHECK.findings[5:6], n_models=1, baseline=None, commands=CHECK.commands)
    assert outputs.render(passed, form) == path.read_text(encoding="utf-8")


def named(name: str, status: str = "new") -> Check:
    return Check((Finding(name, "size", "baseline", status, now=1, said="x"),), 1, "b.json", (name,), (name,))  # type: ignore[arg-type]


HOSTILE = "a|b<script>&`*[x](y)@team\n::error::\r100%,\\|\x00\x1b.tflite"


def test_a_hostile_name_stays_in_its_cell() -> None:
    text = markdown.render(named(HOSTILE))
    (row,) = [line for line in text.splitlines() if line.startswith("| a")]
    assert row.count("|") == 8, "seven cells"
    shown = text.split("<details>")[0]
    assert "<script" not in shown
    assert "@" not in shown
    assert "[x]" not in shown
    commands = text.split("again, or accept it</summary>")[1]
    assert "\n::error" not in commands


def test_the_layers_of_a_large_model_are_cut_with_their_number() -> None:
    many = Table(LAYERS.title, LAYERS.header, LAYERS.rows * (markdown.MOST_ROWS + 3), LAYERS.right)
    text = markdown.render(Check(CHECK.findings, 4, None, layers={HOSTILE: many}))
    assert text.count("| changed |") == markdown.MOST_ROWS
    assert "3 further rows: `edgecnn diff OLD NEW` shows them." in text
    (summary,) = [line for line in text.splitlines() if line.endswith(": 1 of 5 layers differ</summary>")]
    assert "<script" not in summary and "@" not in summary


def test_a_hostile_name_gives_valid_xml() -> None:
    (case,) = ElementTree.fromstring(junit.render(named(HOSTILE))).iter("testcase")
    assert case.get("classname", "").startswith("a|b<script>&`*[x](y)@team")
    assert "\x00" not in case.get("classname", "")


def test_a_hostile_name_gives_no_further_command() -> None:
    lines = github.render(named(HOSTILE)).splitlines()
    assert len(lines) == 3
    assert "file=a|b<script>&`*[x](y)@team%0A%3A%3Aerror%3A%3A%0D100%25%2C" in lines[1]


def test_the_verdict_and_the_errors_are_among_the_ten_that_github_shows() -> None:
    told = [Finding(f"a{i}", "accuracy", "baseline", "not compared", now=0.9, said="x") for i in range(12)]
    failed = [Finding(f"b{i}", "size", "baseline", "fail", 1, 3, 2) for i in range(12)]
    mixed = tuple(one for pair in zip(told, failed, strict=True) for one in pair)
    lines = github.render(Check(mixed, 24, None)).splitlines()
    assert lines[0].startswith("::error title=edgecnn check::fail: 12 of 24 figures")
    assert [line.split(" ")[0] for line in lines] == ["::error"] * 13 + ["::warning"] * 12


@pytest.mark.parametrize(
    ("baseline", "file"),
    [
        ("ci/b.json", "file=models/a.tflite,"),
        ("b.json", "file=../models/a.tflite,"),
        (None, "file=../models/a.tflite,"),
    ],
)
def test_an_annotation_names_the_file_from_where_the_check_ran(baseline: str | None, file: str) -> None:
    assert file in github.render(Check(named("../models/a.tflite").findings, 1, baseline))


@pytest.mark.parametrize("allow_missing", [True, False])
def test_junit_counts_what_it_holds(allow_missing: bool) -> None:
    check = Check(CHECK.findings, 4, None, allow_missing=allow_missing)
    (suite,) = ElementTree.fromstring(junit.render(check))
    assert int(suite.attrib["tests"]) == len(list(suite.iter("testcase"))) == len(CHECK.findings)
    assert int(suite.attrib["failures"]) == len(list(suite.iter("failure"))) == (4 if allow_missing else 6)
    assert int(suite.attrib["skipped"]) == len(list(suite.iter("skipped"))) == (3 if allow_missing else 1)


def test_json_is_whole() -> None:
    found = json.loads(outputs.render(CHECK, "json"))
    assert found["passed"] is False
    assert len(found["findings"]) == len(CHECK.findings)
    assert found["findings"][0] == {
        "model": MODEL, "metric": "size", "against": "baseline", "status": "fail", "before": 10_000,
        "now": 10_800, "limit": 10_100, "said": "", "fails": True,
    }  # fmt: skip


def test_figures_beside_their_limit_are_told_apart() -> None:
    finding = Finding("m", "size", "baseline", "fail", 10_000_000, 10_000_400, 10_000_300)
    assert texts.pair(finding) == ("10,000,000 B", "10,000,400 B")
    assert texts.limit(finding) == "at most 10,000,300 B"


@pytest.mark.parametrize(
    ("finding", "shown"),
    [
        (Finding("m", "size", "baseline", "pass", 1000, 900), "▼ 100 B (-10.0 %)"),
        (Finding("m", "size", "baseline", "pass", 0, 900), "▲ 900 B"),
        (Finding("m", "accuracy", "baseline", "pass", 0.9, 0.91), "▲ 1.00 pt"),
        (Finding("m", "max_lsb", "baseline", "pass", 1, 2), "▲ 1 LSB"),
        (Finding("m", "latency host litert", "baseline", "pass", 1.0, 1.1), "▲ 100 us (+10.0 %)"),
        (Finding("m", "size", "baseline", "pass", 5, 5), "="),
        (Finding("m", "size", "baseline", "new", None, 5), "-"),
    ],
)
def test_change(finding: Finding, shown: str) -> None:
    assert texts.change(finding) == shown


def test_the_verdict_counts() -> None:
    assert texts.verdict(CHECK) == "fail: 6 of 11 figures do not hold (4 models, against edgecnn-baseline.json)"
    one = Check(CHECK.findings[4:6], 1, None)
    assert texts.verdict(one) == (
        "pass: 1 figure holds, 1 told and not judged (1 model, against budgets alone)"
    )
