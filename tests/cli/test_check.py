"""`edgecnn check` and `edgecnn baseline update`, on builds and bare files made for each test."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from check.builds import ENVIRONMENT, build
from check.test_why import lenet5
from cli.commands import run, told
from recipes_for_tests import MINIMAL_RECIPE

from edgecnn.records import Doubt

BASELINE = Path("edgecnn-baseline.json")
INT8 = "b/tiny.int8.tflite"


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)


def statuses(*arguments: str, exit_code: int) -> dict[tuple[str, str], str]:
    """The status of each figure, by model and metric."""
    result = run("check", *arguments, "--json")
    assert result.exit_code == exit_code, result.output
    return {(one["model"], one["metric"]): one["status"] for one in json.loads(result.stdout)["findings"]}


def accepted(**changes: Any) -> None:
    """A build in the folder b whose figures are the baseline."""
    build(Path("b"), **changes)
    result = run("baseline", "update", "b")
    assert result.exit_code == 0, told(result)


def bare(name: str, size_bytes: int = 1000) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size_bytes)
    return path


def test_nothing_changed() -> None:
    accepted()
    found = statuses("b", exit_code=0)
    assert set(found.values()) == {"pass"}
    assert {metric for model, metric in found if model == INT8} == {
        "max_size_bytes", "size", "accuracy", "accuracy_drop", "top1_equal", "max_lsb", "latency host litert",
    }  # fmt: skip
    assert "pass: 15 figures hold (3 models" in run("check", "b").stdout


@pytest.mark.parametrize(
    ("changes", "metric", "status", "exit_code"),
    [
        ({"size_bytes": 10_100}, "size", "pass", 0),
        ({"size_bytes": 10_101}, "size", "fail", 1),
        ({"size_bytes": 9_000}, "size", "pass", 0),
        ({"accuracy": 0.9891, "accuracy_drop": 0.0029}, "accuracy", "pass", 0),
        ({"accuracy": 0.9880, "accuracy_drop": 0.0040}, "accuracy", "inconclusive", 1),
        ({"accuracy": 0.9600, "accuracy_drop": 0.0320}, "accuracy", "fail", 1),
        ({"median": 1.1}, "latency host litert", "pass", 0),
        ({"median": 1.2}, "latency host litert", "fail", 1),
        ({"median": 9.0, "runtime_version": "9"}, "latency host litert", "not compared", 0),
        ({"median": 9.0, "emulated": True}, "latency host litert", "not compared", 0),
        ({"latency_ms": None}, "latency host litert", "missing", 1),
    ],
)
def test_what_changed(changes: dict[str, Any], metric: str, status: str, exit_code: int) -> None:
    accepted()
    build(Path("b"), **changes)
    assert statuses("b", exit_code=exit_code)[INT8, metric] == status


def test_another_machine_is_said_and_does_not_fail() -> None:
    accepted()
    build(Path("b"), environment={**ENVIRONMENT, "cpu_model": "Cortex-A53"}, median=50.0)
    result = run("check", "b")
    assert result.exit_code == 0
    assert "measured on Cortex-A53, aarch64, litert 2.1, 1 thread; the baseline on Cortex-A72" in result.stdout


def test_emulated_times_fail_an_absolute_budget_and_are_not_kept() -> None:
    recipe = MINIMAL_RECIPE.replace("max_size: 20 kB", "max_median: 5 ms")
    accepted(recipe=recipe, emulated=True)
    assert statuses("b", exit_code=1)[INT8, "max_median_ms"] == "refused"
    assert "latency" not in json.loads(BASELINE.read_text())["models"][INT8]


SPOILED = {"warnings": (Doubt(kind="throttled", text="it was hot", advice="cool it"),)}


def test_times_that_something_spoiled_are_refused_and_not_kept() -> None:
    accepted()
    build(Path("b"), median=1.0, **SPOILED)
    assert statuses("b", exit_code=1)[INT8, "latency host litert"] == "refused"
    assert statuses("b", "--allow-missing", exit_code=1)[INT8, "latency host litert"] == "refused"
    build(Path("b"), median=1.0, environment={**ENVIRONMENT, "cpu_model": "Cortex-A53"}, **SPOILED)
    assert statuses("b", exit_code=0)[INT8, "latency host litert"] == "not compared"
    build(Path("b"), **SPOILED)
    said = run("baseline", "update", "b").stdout
    assert f"left out: latency host litert of {INT8}: these milliseconds are not judged: it was hot" in said
    assert "latency" not in json.loads(BASELINE.read_text())["models"][INT8]
    assert statuses("b", exit_code=0)[INT8, "latency host litert"] == "not compared"


def test_times_that_nobody_judges_neither_fail_nor_are_kept() -> None:
    accepted()
    build(Path("b"), median=9.0, **SPOILED)
    assert statuses("b", "--allow", "latency=any", exit_code=0)[INT8, "latency host litert"] == "not compared"
    build(Path("b"), latency_ms=None)
    assert statuses("b", "--allow", "latency=any", exit_code=0)[INT8, "latency host litert"] == "not compared"
    BASELINE.write_text(
        json.dumps({**json.loads(BASELINE.read_text()), "allow": {"default": {"latency": "any"}}})
    )
    build(Path("b"))
    assert run("baseline", "update", "b").exit_code == 0
    assert "latency" not in json.loads(BASELINE.read_text())["models"][INT8]
    build(Path("b"), median=9.0)
    assert statuses("b", exit_code=0)[INT8, "latency host litert"] == "not compared"
    assert "any latency is allowed" in run("check", "b").stdout


def test_times_of_a_board_are_of_that_board() -> None:
    """The report's environment is that of its first target."""
    board = {**ENVIRONMENT, "target": "pi3", "cpu_model": "Cortex-A53"}
    accepted(target="pi3", environment_of_times=board)
    machine = json.loads(BASELINE.read_text())["models"][INT8]["latency"]["pi3 litert"]["machine"]
    assert machine == "Cortex-A53, aarch64, litert 2.1, 1 thread"


def test_a_failure_says_by_how_much_and_what_to_do() -> None:
    accepted()
    build(Path("b"), size_bytes=11_000)
    said = run("check", "b").stdout
    assert f"{INT8}: size fail: 10.0 kB -> 11.0 kB, ▲ 1.0 kB (+10.0 %), at most 10.1 kB by the baseline" in said
    assert "accept it: edgecnn baseline update b" in said


def test_a_file_that_is_not_the_one_that_was_built_has_no_records() -> None:
    accepted()
    Path(INT8).write_bytes(b"u" * 10_000)
    found = statuses("b", exit_code=1)
    assert found[INT8, "size"] == "pass"
    gone = ("accuracy", "accuracy_drop", "top1_equal", "max_lsb", "latency host litert")
    assert {found[INT8, metric] for metric in gone} == {"missing"}
    result = run("check", "b", "--allow-missing")
    assert result.exit_code == 0
    assert f"{INT8} is not the file that was built: its records do not count" in result.stdout


def test_parity_does_not_outlive_the_file_that_it_was_against() -> None:
    accepted()
    Path("b/tiny.int8.onnx").write_bytes(b"ONNX")
    found = statuses("b", exit_code=1)
    assert found[INT8, "max_lsb"] == "missing"
    assert found[INT8, "accuracy"] == "pass"


def test_a_model_that_is_gone_fails_closed() -> None:
    accepted()
    Path(INT8).unlink()
    found = statuses("b", exit_code=1)
    assert found[INT8, "size"] == found[INT8, "max_size_bytes"] == "missing"
    assert run("check", "b", "--allow-missing").exit_code == 0
    BASELINE.unlink()
    assert statuses("b", exit_code=1)[INT8, "size"] == "missing"


def test_a_new_model_fails_closed() -> None:
    accepted()
    bare("b/new.tflite")
    assert statuses("b", exit_code=1)["b/new.tflite", "size"] == "new"
    assert statuses("b", "--allow-missing", exit_code=0)["b/new.tflite", "size"] == "new"


def test_a_file_inside_a_build_has_its_records() -> None:
    accepted()
    found = statuses(INT8, "--allow-missing", exit_code=0)
    assert found[INT8, "accuracy"] == "pass"
    assert found["b/tiny.int8.onnx", "size"] == "missing", "in the baseline and not checked"


def test_folders_and_globs_find_models() -> None:
    for name in ("m/a.tflite", "m/deep/b.onnx", "m/.cache/c.tflite", "m/readme.md"):
        bare(name)
    build(Path("m/built"))
    run("baseline", "update", "m")
    names = set(json.loads(BASELINE.read_text())["models"])
    assert {"m/a.tflite", "m/deep/b.onnx", "m/built/tiny.int8.tflite"} < names
    assert "m/.cache/c.tflite" not in names
    (found,) = statuses("m/**/a.*", "--baseline", str(BASELINE), "--allow-missing", exit_code=0).keys() & {
        ("m/a.tflite", "size")
    }
    assert found
    assert statuses("m/*", exit_code=0).keys() == statuses("m", "./m", "m/a.tflite", exit_code=0).keys()


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("none.tflite", "none.tflite: there is no such file or folder"),
        ("none/**/*.tflite", "none/**/*.tflite: no .onnx or .tflite file matches"),
        ("x.h5", "x.h5: not a .onnx or .tflite file, nor a folder"),
        ("empty", "empty: no .onnx or .tflite file is in this folder"),
    ],
)
def test_paths_that_name_no_model(path: str, said: str) -> None:
    bare("x.h5")
    Path("empty").mkdir()
    for command in (("check",), ("baseline", "update")):
        result = run(*command, path)
        assert result.exit_code == 2
        assert said in told(result)


def test_a_build_that_cannot_be_read_is_told() -> None:
    accepted()
    Path("b/recipe.yaml").write_text(MINIMAL_RECIPE.replace("epochs: 1", "epochs: 2"))
    result = run("check", "b")
    assert (result.exit_code, "the recipe beside the report is not the one" in told(result)) == (2, True)
    Path("b/report.json").write_text("{")
    result = run("check", INT8)
    assert (result.exit_code, "not a report of edgecnn" in told(result)) == (2, True)


def test_without_a_baseline_budgets_alone_are_judged() -> None:
    build(Path("b"))
    result = run("check", "b")
    assert result.exit_code == 0
    assert "there is no edgecnn-baseline.json: budgets alone were judged" in result.stdout
    build(Path("b"), size_bytes=20_001)
    assert statuses("b", exit_code=1) == {(INT8, "max_size_bytes"): "fail"}


def test_with_nothing_to_check_against_it_is_no_pass() -> None:
    bare("a.tflite")
    result = run("check", "a.tflite")
    assert result.exit_code == 2
    assert "there is nothing to check against: no baseline, and no budget" in told(result)
    assert "edgecnn baseline update a.tflite" in told(result)


def test_a_named_baseline_must_be_there() -> None:
    build(Path("b"))
    result = run("check", "b", "--baseline", "none.json")
    assert result.exit_code == 2
    assert "none.json: no baseline can be read here" in told(result)
    assert "edgecnn baseline update PATH... --baseline none.json" in told(result)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not a baseline of edgecnn"),
        (
            '{"schema_version": 2}',
            "schema version 2; this edgecnn reads up to 1\n  fix: pip install -U edgecnn",
        ),
    ],
)
def test_a_bad_baseline_is_told_and_never_written_over(content: str, said: str) -> None:
    build(Path("b"))
    BASELINE.write_text(content)
    for command in (("check",), ("baseline", "update")):
        result = run(*command, "b")
        assert result.exit_code == 2
        assert said in told(result)
    assert BASELINE.read_text() == content


BUDGET = 'budget:\n  "m/*.tflite": {max_size: 1 kB}\n  int8.tflite: {min_accuracy: 98 %}\n'


def test_a_budget_file_is_for_names_globs_and_keys() -> None:
    build(Path("b"))
    bare("m/a.tflite", 1001)
    Path("budget.yaml").write_text(BUDGET)
    found = statuses("b", "m", "--budget", "budget.yaml", exit_code=1)
    assert found == {
        ("m/a.tflite", "max_size_bytes"): "fail",
        (INT8, "max_size_bytes"): "pass",
        (INT8, "min_accuracy"): "pass",
    }


def test_a_limit_without_its_model_or_figure_is_missing() -> None:
    bare("m/a.tflite")
    Path("budget.yaml").write_text("budget:\n  a.tflite: {min_accuracy: 9 %}\n  c*: {max_size: 1 B}\n")
    found = statuses("m", "--budget", "budget.yaml", exit_code=1)
    assert found == {("m/a.tflite", "min_accuracy"): "missing", ("c*", "max_size_bytes"): "missing"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "budget: {a: {max_siz: 1 kB}}",
            "budget.yaml:1: budget.a.max_siz: unknown key (did you mean 'max_size'?)",
        ),
        (
            "budget:\n  a:\n    max_size: 20",
            "budget.yaml:3: budget.a.max_size: expected a number with its unit",
        ),
        ("budget: [1]", "budget.yaml:1: budget: input should be"),
        ("limits: {}", "budget.yaml: expected the key budget, and no other"),
        ("", "budget.yaml: expected the key budget, and no other"),
        ("budget: {", "budget.yaml:1: not valid YAML"),
    ],
)
def test_a_bad_budget_file_is_told_by_line_and_key(text: str, said: str) -> None:
    build(Path("b"))
    Path("budget.yaml").write_text(text)
    result = run("check", "b", "--budget", "budget.yaml")
    assert result.exit_code == 2
    assert said in told(result)


def test_a_missing_budget_file_is_told() -> None:
    build(Path("b"))
    result = run("check", "b", "--budget", "none.yaml")
    assert (result.exit_code, "none.yaml: the budget cannot be read" in told(result)) == (2, True)


def test_what_is_allowed_by_option_and_by_the_baseline() -> None:
    accepted()
    build(Path("b"), size_bytes=10_500)
    assert run("check", "b").exit_code == 1
    assert run("check", "b", "--allow", "size=+5 %").exit_code == 0
    result = run("check", "b", "--allow", "siz=+5 %")
    assert (result.exit_code, "there is no metric 'siz' (did you mean 'size'?)" in told(result)) == (2, True)
    kept = json.loads(BASELINE.read_text())
    allow = {"default": {"size": "+0 %"}, "models": {"b/*.tflite": {"size": "+500 B"}}}
    BASELINE.write_text(json.dumps({**kept, "allow": allow}))
    assert run("check", "b").exit_code == 0
    assert run("baseline", "update", "b").exit_code == 0
    written = json.loads(BASELINE.read_text())
    assert written["allow"] == allow, "what was allowed stays"
    assert written["models"][INT8]["size_bytes"] == 10_500


def test_update_keeps_models_that_are_there_and_drops_those_that_are_gone() -> None:
    for name in ("a.tflite", "b.tflite", "c.tflite"):
        bare(name)
    run("baseline", "update", "a.tflite", "b.tflite", "c.tflite")
    Path("b.tflite").unlink()
    result = run("baseline", "update", "a.tflite")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "wrote edgecnn-baseline.json: 1 model of these paths",
        "  kept, not among these paths: c.tflite",
        "  dropped, their files are gone: b.tflite",
    ]
    assert sorted(json.loads(BASELINE.read_text())["models"]) == ["a.tflite", "c.tflite"]
    said = json.loads(run("baseline", "update", "a.tflite", "--json").stdout)
    assert said == {
        "path": str(BASELINE),
        "written": ["a.tflite"],
        "kept": ["c.tflite"],
        "dropped": [],
        "left_out": [],
    }


def test_update_twice_gives_the_same_bytes() -> None:
    accepted()
    first = BASELINE.read_bytes()
    accepted()
    assert BASELINE.read_bytes() == first
    assert first.endswith(b"}\n")


def test_update_needs_the_folder_of_the_baseline() -> None:
    build(Path("b"))
    result = run("baseline", "update", "b", "--baseline", "none/b.json")
    assert (result.exit_code, "none: there is no such folder" in told(result)) == (2, True)


def test_names_are_from_the_folder_of_the_baseline() -> None:
    build(Path("b"))
    Path("ci").mkdir()
    assert run("baseline", "update", "b", "--baseline", "ci/base.json").exit_code == 0
    assert f"../{INT8}" in json.loads(Path("ci/base.json").read_text())["models"]
    assert run("check", str(Path("b").resolve()), "--baseline", "ci/base.json").exit_code == 0


def test_the_forms_and_the_summary_of_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    accepted()
    build(Path("b"), size_bytes=11_000)
    Path("summary.md").write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary.md")
    result = run("check", "b", "--format", "github")
    assert result.exit_code == 1
    verdict, first, *_ = result.stdout.splitlines()
    assert verdict.startswith("::error title=edgecnn check::fail: 1 of 15 figures")
    assert first.startswith(f"::error file={INT8},title=edgecnn%3A size fail::")
    shown = run("check", "b", "--format", "markdown").stdout
    assert Path("summary.md").read_text() == "before\n" + 2 * run("check", "b", "--format", "markdown").stdout
    assert shown.startswith("**❌ edgecnn check: fail: 1 of 15 figures does not hold")
    xml = run("check", "b", "--format", "junit").stdout
    assert len(list(ElementTree.fromstring(xml).iter("failure"))) == 1
    assert json.loads(run("check", "b", "--format", "json").stdout)["passed"] is False


def counted(path: Path, instructions: int, **changes: Any) -> dict[str, Any]:
    """A record as `edgecnn count --json` prints it."""
    return {
        "file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "cpu": "cortex-a72",
        "runtime": "litert", "runtime_version": "2.1", "instructions": instructions, "spread": 0.0,
        "counts": [instructions], **changes,
    }  # fmt: skip


def counts(*records: dict[str, Any]) -> str:
    Path("counts.json").write_text(json.dumps(records))
    return "counts.json"


INSTRUCTIONS = "instructions cortex-a72 litert"


@pytest.mark.parametrize(
    ("instructions", "changes", "status", "exit_code"),
    [
        (1_005_000, {}, "pass", 0),
        (1_005_001, {}, "fail", 1),
        (900_000, {}, "pass", 0),
        (2_000_000, {"runtime_version": "2.2"}, "not compared", 0),
        (1_000_000, {"cpu": "cortex-a53"}, "missing", 1),
        (1_000_000, {"sha256": "0" * 64}, "missing", 1),
    ],
)
def test_instructions_are_held_to_half_a_percent(
    instructions: int, changes: dict[str, Any], status: str, exit_code: int
) -> None:
    model = bare("a.tflite")
    assert run("baseline", "update", "a.tflite", "--counts", counts(counted(model, 1_000_000))).exit_code == 0
    file = counts(counted(model, instructions, **changes))
    assert statuses("a.tflite", "--counts", file, exit_code=exit_code)["a.tflite", INSTRUCTIONS] == status


def test_a_count_is_of_the_very_file_and_is_told_by_how_much() -> None:
    model, other = bare("a.tflite"), bare("b.tflite", 999)
    records = counts(counted(model, 1_000_000), counted(other, 500))
    assert run("baseline", "update", "a.tflite", "b.tflite", "--counts", records).exit_code == 0
    kept = json.loads(BASELINE.read_text())["models"]["a.tflite"]["instructions"]
    assert kept == {"cortex-a72 litert": {"instructions": 1_000_000, "runtime_version": "2.1"}}
    model.write_bytes(b"y" * 1000)
    result = run("check", "a.tflite", "b.tflite", "--counts", records)
    assert result.exit_code == 1, "what was counted is another file"
    assert "counts.json counts another file than those checked: a.tflite" in result.stdout
    assert run("check", "a.tflite", "b.tflite").exit_code == 1, "the count is missing"
    records = counts(counted(model, 1_010_000), counted(other, 500))
    result = run("check", "a.tflite", "b.tflite", "--counts", records)
    assert f"{INSTRUCTIONS} fail: 1,000,000 -> 1,010,000, ▲ 10,000 (+1.0 %), at most 1,005,000" in result.stdout
    assert "edgecnn baseline update a.tflite b.tflite --counts counts.json" in result.stdout
    for allowed in ("instructions=+1 %", "instructions=+10000"):
        assert run("check", "a.tflite", "b.tflite", "--counts", records, "--allow", allowed).exit_code == 0
    assert (
        run("check", "a.tflite", "b.tflite", "--counts", records, "--allow", "instructions=+9999").exit_code
        == 1
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "counts.json: the counts cannot be read: No such file"),
        ("{", "counts.json: not what edgecnn count prints: "),
        ("{}", "not what edgecnn count prints: the file: Input should be a valid list"),
        ('[{"file": "a"}]', "not what edgecnn count prints: 0.sha256: Field required"),
        ("[" * 100_000, "not what edgecnn count prints: "),
    ],
)
def test_counts_that_cannot_be_read_are_told(text: str | None, said: str) -> None:
    bare("a.tflite")
    if text is not None:
        Path("counts.json").write_text(text)
    for command in (("check",), ("baseline", "update")):
        result = run(*command, "a.tflite", "--counts", "counts.json")
        assert result.exit_code == 2
        assert said in told(result)
        assert "edgecnn count MODEL... --json > counts.json" in told(result)


def test_what_count_prints_is_read() -> None:
    from edgecnn.check import counts as gate_counts
    from edgecnn.counting import Count

    printed = asdict(Count("a.tflite", "0" * 64, "cortex-a72", "litert", "2.1", 7, 0.0, (7, 7)))
    Path("counts.json").write_text(json.dumps([printed]))
    ((record,),) = gate_counts.read(Path("counts.json")).values()
    assert (record.file, record.instructions) == ("a.tflite", 7)


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[bytes, bytes]]:
    """By suffix: a small LeNet-5, and one whose first dense layer is fatter."""
    folder = tmp_path_factory.mktemp("networks")
    tflite = lenet5(folder, 85), lenet5(folder, 120)
    return {".tflite": tflite, ".onnx": ((folder / "85.onnx").read_bytes(), (folder / "120.onnx").read_bytes())}


def test_forty_models_that_all_grew_take_less_than_two_seconds(
    networks: dict[str, tuple[bytes, bytes]],
) -> None:
    for index in range(8):
        build(Path(f"m/{index}"))
        bare(f"m/bare{index}a.tflite")
        bare(f"m/bare{index}b.tflite")
    models = [path for path in sorted(Path("m").rglob("*")) if path.suffix in networks]
    for path in models:
        path.write_bytes(networks[path.suffix][0])
    assert run("baseline", "update", "m").exit_code == 0
    for path in models:
        path.write_bytes(networks[path.suffix][1])
    start = time.perf_counter()
    result = run("check", "m", "--json")
    took = time.perf_counter() - start
    why = json.loads(result.stdout)["why"]
    assert len(why) == len(models) == 40
    assert all("holds 56.1 kB more: 120x400 instead of 85x400" in reason for reason in why.values())
    assert took < 2


def test_it_loads_neither_torch_nor_onnx() -> None:
    accepted()
    code = (
        "import sys; from edgecnn.cli import cli\n"
        "try: cli(['check', 'b'])\n"
        "except SystemExit as end: assert not end.code\n"
        "print([name for name in ('torch', 'onnx', 'onnxruntime', 'ai_edge_litert') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
