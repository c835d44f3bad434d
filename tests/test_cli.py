"""The commands, on one small real build; and what users see when something is wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from recipes_for_tests import MINIMAL_RECIPE, ROOT

import edgecnn
from edgecnn import build_folder, data
from edgecnn.cli import ALIASES, cli
from edgecnn.records import Report
from edgecnn.steps import measurements

QUICK_RECIPE = """\
version: 1
name: quick
data: mnist
model: lenet5
train: {epochs: 1, threads: 2}
compress:
  - prune: {ratio: 0.5, finetune_epochs: 1}
  - quantize: {calibration_images: 50, engine: onnxruntime}
budget:
  int8.tflite:
    {max_size: 22 kB, max_accuracy_drop: 5 pt, min_accuracy: 90 %, max_median: 1 s, max_peak_rss: 1000 MB}
"""


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def told(result: Result) -> str:
    """What a failed command says: on stderr, without a traceback."""
    assert "Traceback" not in result.output
    return result.stderr


@pytest.fixture(scope="module")
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


def test_the_folder_holds_every_file_with_its_manifest(built: tuple[Path, Report]) -> None:
    folder, report = built
    keys = ("dense.fp32.onnx", "fp32.onnx", "fp32.tflite", "int8.onnx", "int8.tflite")
    expected = {f"quick.{key}" for key in keys} | {f"quick.{key}.json" for key in keys}
    assert {path.name for path in folder.iterdir()} == expected | {"report.json", "recipe.yaml", ".stages"}
    assert report == build_folder.read_report(folder)
    for artifact in report.artifacts:
        manifest = json.loads((folder / f"{artifact.file}.json").read_text())
        assert manifest["file_sha256"] == artifact.sha256
        assert manifest["size_bytes"] == artifact.size_bytes == (folder / artifact.file).stat().st_size
        assert manifest["class_names"] == list("0123456789")
        assert manifest["output"] == "logits"
        assert 0 < artifact.weight_bytes < artifact.size_bytes


def test_every_artifact_was_run_on_every_runtime_with_one_thread_and_all_cores(
    built: tuple[Path, Report],
) -> None:
    from edgecnn.ondevice.runtimes import available_runtimes

    _, report = built
    threads = sorted({1, len(os.sched_getaffinity(0))})
    for artifact in report.artifacts:
        runs = [(m.runtime, m.num_threads) for m in artifact.measurements]
        assert runs == [(name, n) for name in available_runtimes(artifact.format) for n in threads]
        for m in artifact.measurements:
            assert m.n_images == 10_000
            assert m.accuracy > 0.9
            assert np.trace(np.array(m.confusion)) == round(m.accuracy * 10_000)
            assert m.accuracy_drop_interval[0] <= m.accuracy_drop <= m.accuracy_drop_interval[1]
            assert m.latency_ms is not None
            assert m.latency_ms.min <= m.latency_ms.median <= m.latency_ms.p90 <= m.latency_ms.p99
            assert m.latency_ms.median == pytest.approx(np.median(m.samples_ms))
            assert len(m.samples_ms) >= 50
            assert m.peak_rss_bytes is not None
            assert m.peak_rss_bytes > 5_000_000


def test_the_ledger_shows_what_each_stage_saves(built: tuple[Path, Report]) -> None:
    _, report = built
    train, prune, quantize = report.stages
    assert (train.stage, train.n_params, train.n_macs) == ("train", 61_706, 416_520)
    # Half of 6-16-120-84: 3-8-60-42.
    assert (prune.stage, prune.n_params) == ("1-prune", 78 + 608 + 12_060 + 2_562 + 430)
    assert quantize.n_params == prune.n_params
    assert train.file_bytes > prune.file_bytes > 3 * quantize.file_bytes
    assert all(row.weight_bytes < row.file_bytes for row in report.stages)
    assert all(row.validation_accuracy > 0.9 for row in report.stages)
    by_key = {artifact.key: artifact for artifact in report.artifacts}
    assert quantize.file_bytes == by_key["int8.tflite"].size_bytes


def test_the_int8_pair_is_one_network(built: tuple[Path, Report]) -> None:
    _, report = built
    exact = [record for record in report.parity if "optimizations off" in record.reference]
    assert {record.runtime for record in exact} >= {"litert"}
    for record in exact:
        assert sum(record.lsb_histogram.values()) == 100_000
        assert record.top1_equal >= 0.999
        if record.runtime == "litert":
            assert record.max_lsb <= 1


def test_a_second_build_does_nothing_again(built: tuple[Path, Report], short_timing: None) -> None:
    folder, report = built
    before = {path: path.stat().st_mtime_ns for path in folder.glob("quick.*")}
    result = run("build", folder.parent / "quick.yaml", "-o", folder)
    assert result.exit_code == 0
    assert result.stderr.count("unchanged") == 6
    assert "int8.tflite" in result.stdout
    assert build_folder.read_report(folder) == report
    assert {path: path.stat().st_mtime_ns for path in folder.glob("quick.*")} == before


def test_dry_run_says_what_would_run_and_why(built: tuple[Path, Report], short_timing: None) -> None:
    folder, _ = built
    recipe = folder.parent / "quick.yaml"
    result = run(
        "build", recipe, "-o", folder, "--dry-run", "--set", "compress.1.quantize.calibration_images=60"
    )
    assert result.exit_code == 0
    lines = [line.split(maxsplit=2) for line in result.stdout.splitlines()]
    assert [line[:2] for line in lines] == [
        ["keep", "train"], ["keep", "1-prune"], ["run", "2-quantize"], ["run", "export"],
        ["run", "evaluate-host"], ["run", "benchmark-host"],
    ]  # fmt: skip
    assert lines[2][2] == "quantize.calibration_images: 50 -> 60"
    plan = json.loads(run("build", recipe, "-o", folder, "--dry-run", "--json", "--force").stdout)
    assert all(row["will_run"] and row["why"] == "--force" for row in plan)
    elsewhere = folder.parent / "elsewhere"
    assert run("build", recipe, "-o", elsewhere, "--dry-run").exit_code == 0
    assert not elsewhere.exists()


def test_a_missed_budget_ends_with_1_after_everything_is_written(
    built: tuple[Path, Report], short_timing: None, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(built[0], folder)
    recipe = built[0].parent / "quick.yaml"
    override = "budget={int8.tflite: {max_size: 10 kB}, fp32.tflite: {min_accuracy: 100 %}}"
    result = run("build", recipe, "-o", folder, "--set", override)
    assert result.exit_code == 1
    said = " ".join(result.stdout.split())
    assert "fail: int8.tflite max_size_bytes is" in said
    assert "allowed 10.0 kB (off by" in said
    report = build_folder.read_report(folder)
    assert [verdict.status for verdict in report.verdicts] == ["fail", "fail"]
    assert run("validate", folder).exit_code == 1, "the budget is that of the folder's recipe"


def test_validate_measures_again(built: tuple[Path, Report]) -> None:
    folder, report = built
    result = run("val", folder, "--json")
    assert result.exit_code == 0
    found = Report.model_validate_json(result.stdout)
    assert found.verdicts == report.verdicts
    for artifact, before in zip(found.artifacts, report.artifacts, strict=True):
        assert [m.accuracy for m in artifact.measurements] == [m.accuracy for m in before.measurements]


@pytest.fixture
def copied(built: tuple[Path, Report], tmp_path: Path) -> Path:
    """A copy of the build, to be damaged."""
    folder = tmp_path / "copied build"
    shutil.copytree(built[0], folder)
    return folder


def test_validate_says_that_a_file_is_another(copied: Path) -> None:
    model = copied / "quick.fp32.tflite"  # no limit is on it, so only the note can tell
    content = bytearray(model.read_bytes())
    at = len(content) // 2
    content[at : at + 2] = bytes(byte ^ 1 for byte in content[at : at + 2])
    model.write_bytes(content)
    result = run("validate", copied)
    assert result.exit_code == 0
    assert "quick.fp32.tflite is not the file that was built" in " ".join(result.stdout.split())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("quick.int8.tflite", "the artifact is gone"),
        ("quick.int8.tflite.json", "no manifest beside quick.int8.tflite"),
        ("recipe.yaml", "there is no such recipe"),
        ("report.json", "no build is here"),
    ],
)
def test_validate_names_what_is_missing(copied: Path, name: str, expected: str) -> None:
    (copied / name).unlink()
    result = run("validate", copied)
    assert result.exit_code == 2
    assert expected in told(result)
    assert str(copied) in told(result)


def test_validate_refuses_a_recipe_that_was_changed_but_for_its_budget(copied: Path) -> None:
    recipe = copied / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("22 kB", "1 kB"))
    assert run("validate", copied).exit_code == 1
    recipe.write_text(recipe.read_text().replace("epochs: 1", "epochs: 2", 1))
    result = run("validate", copied)
    assert result.exit_code == 2
    assert "is not the one that was built" in told(result)


def test_validate_does_not_take_times_of_another_machine(copied: Path) -> None:
    path = copied / "report.json"
    report = json.loads(path.read_text())
    report["environment"]["cpu_model"] = "Cray-1"
    path.write_text(json.dumps(report))
    found = Report.model_validate_json(run("validate", copied, "--json").stdout)
    assert all(m.latency_ms is None for artifact in found.artifacts for m in artifact.measurements)
    assert {v.status for v in found.verdicts if v.metric in ("max_median_ms", "max_peak_rss_bytes")} == {
        "missing"
    }
    assert found.environment["cpu_model"] != "Cray-1"


def test_a_lost_or_changed_stage_result_is_made_again(copied: Path, short_timing: None) -> None:
    (copied / "quick.int8.tflite").write_bytes(b"changed by hand")
    (exported,) = copied.glob(".stages/export/*/quick.int8.tflite")
    good = exported.read_bytes()
    exported.write_bytes(good[:100])
    (exported.parent / ".quick.int8.tflite.x.tmp").write_bytes(b"left by a kill")
    result = run("build", copied.parent / "q.yaml", "-o", copied)
    assert result.exit_code == 2, "no such recipe"
    (copied.parent / "q.yaml").write_text(QUICK_RECIPE)
    result = run("build", copied.parent / "q.yaml", "-o", copied)
    assert result.exit_code == 0, result.output
    assert "train: unchanged" in result.stderr
    assert "export: unchanged" not in result.stderr
    assert (copied / "quick.int8.tflite").read_bytes() == good
    assert not list(copied.glob(".*.tmp"))


def test_a_build_that_fails_leaves_the_one_before_as_it_was(
    copied: Path, short_timing: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in copied.iterdir() if path.is_file()}
    (copied.parent / "q.yaml").write_text(QUICK_RECIPE)
    monkeypatch.setattr("edgecnn.steps.artifacts.WRITERS", {})  # the export stage breaks
    override = ("--set", "compress.1.quantize.calibration_images=51")
    result = run("build", copied.parent / "q.yaml", "-o", copied, *override)
    assert result.exit_code == 3
    assert "a fault of edgecnn itself: KeyError" in told(result)
    assert {path.name: path.read_bytes() for path in copied.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("form", ["table", "markdown", "json"])
def test_report(built: tuple[Path, Report], form: str) -> None:
    result = run("report", built[0], "--format", form)
    assert result.exit_code == 0
    for expected in ("int8.tflite", "dense", "litert", "1-prune"):
        assert expected in result.stdout
    if form == "json":
        assert Report.model_validate_json(result.stdout) == built[1]
    if form == "markdown":
        rows = [line for line in result.stdout.splitlines() if line.startswith("| int8.tflite |")]
        assert len({line.count("|") for line in rows[:1]}) == 1
        assert "|---|---:|" in result.stdout


def test_report_of_what_is_no_build(tmp_path: Path) -> None:
    result = run("report", tmp_path)
    assert result.exit_code == 2
    assert "no build is here" in told(result)
    for content, expected in (
        (b'{"schema_version": 99}', "schema version 99; this edgecnn reads up to 1"),
        (b'{"schema_version": 1}', "not a report of edgecnn: recipe: Field required"),
        (b"[]", "not a report of edgecnn"),
        (b"{", "not a report of edgecnn"),
        (b"\xff\xfe", "not a report of edgecnn"),
    ):
        (tmp_path / "report.json").write_bytes(content)
        for command in ("report", "validate"):
            result = run(command, tmp_path)
            assert result.exit_code == 2
            assert expected in told(result)
            assert str(tmp_path / "report.json") in told(result)


def test_a_report_without_artifacts_is_shown(tmp_path: Path) -> None:
    empty = Report(recipe={}, environment={}, artifacts=(), stages=(), parity=(), verdicts=())
    (tmp_path / "report.json").write_text(empty.model_dump_json())
    for form in ("table", "markdown", "json"):
        assert run("report", tmp_path, "--format", form).exit_code == 0


@pytest.mark.parametrize("columns", [80, 100])
def test_no_figure_is_cut_in_a_narrow_terminal(built: tuple[Path, Report], columns: int) -> None:
    from rich.console import Console

    from edgecnn.report import terminal

    console = Console(width=columns, force_terminal=True, color_system=None, record=True)
    with console.capture() as captured:
        terminal.print_report(built[1], console)
    assert "\u2026" not in captured.get()
    with console.capture() as captured:
        terminal.print_summary(built[1], console)
    table = captured.get().split("int8 ONNX = TFLite")[0]
    assert max(len(line.rstrip()) for line in table.splitlines()) <= 80, "the summary fits in 80 columns"


def test_benchmark(built: tuple[Path, Report]) -> None:
    folder, _ = built
    files = (folder / "quick.int8.tflite", folder / "quick.int8.onnx")
    quick = ("--rounds", "2", "--min-time", "0.05", "--threads", "1")
    result = run("bench", *files, "--runtime", "litert", "--runtime", "onnxruntime", *quick, "--json")
    assert result.exit_code == 0
    records = json.loads(result.stdout)
    assert [(r["file"], r["runtime"]) for r in records] == [
        ("quick.int8.tflite", "litert"),
        ("quick.int8.onnx", "onnxruntime"),
    ]
    assert all(len(r["samples_ms"]) >= 50 and r["peak_rss_bytes"] > 0 for r in records)
    table = run("benchmark", files[0], *quick)
    assert "median" in table.stdout
    assert "quick.int8.tflite" in table.stdout


def test_benchmark_of_what_it_cannot_run(tmp_path: Path, built: tuple[Path, Report]) -> None:
    result = run("benchmark", tmp_path / "x.tflite")
    assert (result.exit_code, "there is no such file" in told(result)) == (2, True)
    result = run("benchmark", tmp_path / "x.h5")
    assert (result.exit_code, "not a .onnx or .tflite file" in told(result)) == (2, True)
    result = run("benchmark", built[0] / "quick.int8.tflite", "--runtime", "onnxruntime")
    assert result.exit_code == 2
    assert "use one of: litert" in told(result)
    result = run("benchmark", built[0] / "quick.int8.tflite", "--runtime", "litert", "--runtime", "onnxrt")
    assert result.exit_code == 2
    assert "there is no runtime 'onnxrt'" in told(result)
    (tmp_path / "bad.tflite").write_bytes(b"not a model at all, but long enough to be read")
    result = run("benchmark", tmp_path / "bad.tflite")
    assert result.exit_code == 3
    assert "bad.tflite" in told(result)


def test_predict(built: tuple[Path, Report], tmp_path: Path) -> None:
    folder, _ = built
    test = data.load("mnist").test
    for index in range(3):
        Image.fromarray(test.images_nhwc[index, :, :, 0]).save(tmp_path / f"{index}.png")
    for model in ("quick.int8.tflite", "quick.int8.onnx"):
        result = run("predict", folder / model, tmp_path, "--json")
        assert result.exit_code == 0
        predictions = json.loads(result.stdout)
        assert [p["guesses"][0]["class_name"] for p in predictions] == ["7", "2", "1"]
        assert all(len(p["guesses"]) == 5 for p in predictions)
        assert sum(g["probability"] for g in predictions[0]["guesses"]) <= 1.0001
    shown = run("predict", folder / "quick.int8.tflite", tmp_path / "0.png", "--top", "2").stdout
    assert "0.png" in shown
    assert shown.count("%") == 2


def test_predict_needs_pictures_and_a_manifest(built: tuple[Path, Report], tmp_path: Path) -> None:
    folder, _ = built
    result = run("predict", folder / "quick.int8.tflite", tmp_path / "none.png")
    assert result.exit_code == 2
    assert "there is no such picture" in told(result)
    result = run("predict", folder / "quick.int8.tflite", folder, "--runtime", "litret")
    assert result.exit_code == 2
    assert "use one of: onnxruntime, litert" in told(result)
    alone = tmp_path / "alone.tflite"
    shutil.copy(folder / "quick.int8.tflite", alone)
    Image.new("L", (28, 28)).save(tmp_path / "a.png")
    result = run("predict", alone, tmp_path / "a.png")
    assert "no manifest beside alone.tflite" in told(result)


def test_init_writes_a_recipe_that_builds_and_never_overwrites(tmp_path: Path) -> None:
    path = tmp_path / "my_model.yaml"
    assert run("init", path).exit_code == 0
    plan = run("build", path, "--dry-run", "-o", tmp_path / "out")
    assert plan.exit_code == 0
    assert "train" in plan.stdout
    for name in ("2024", "yes", "1e3", "_x", "mod\u00e8le"):
        assert run("init", tmp_path / f"{name}.yaml").exit_code == 0
        assert run("build", tmp_path / f"{name}.yaml", "--dry-run", "-o", tmp_path / "o").exit_code == 0, name
    path.write_text("mine")
    result = run("init", path)
    assert (result.exit_code, path.read_text()) == (2, "mine")
    assert "the file exists" in told(result)


def test_schema_prints_what_it_writes(tmp_path: Path) -> None:
    assert run("schema", "-o", tmp_path / "s.json").exit_code == 0
    result = run("schema", "-o", tmp_path / "nowhere" / "s.json")
    assert result.exit_code == 3
    assert f"{tmp_path / 'nowhere' / 's.json'}: No such file or directory" in told(result)
    assert json.loads(run("schema").stdout) == json.loads((tmp_path / "s.json").read_text())


def test_a_bad_recipe_ends_with_2_and_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(MINIMAL_RECIPE.replace("epochs", "epoch"))
    result = run("build", path, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert f"{path}:5: train.epoch: unknown key (did you mean 'epochs'?)" in told(result)
    assert not (tmp_path / "out").exists()


def test_an_output_folder_that_holds_something_else_is_refused(tmp_path: Path, recipe_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "holiday.jpg").write_bytes(b"x")
    result = run("build", recipe_path, "-o", folder)
    assert result.exit_code == 2
    assert "holds something that is not a build" in told(result)
    assert [path.name for path in folder.iterdir()] == ["holiday.jpg"]
    (folder / "report.json").write_text('{"my": "jest report"}')
    assert run("build", recipe_path, "-o", folder).exit_code == 2, "a report of something else"
    assert (folder / "report.json").read_text() == '{"my": "jest report"}'
    result = run("build", recipe_path, "-o", folder / "holiday.jpg")
    assert "the output folder is a file" in told(result)


def test_a_build_of_another_recipe_is_not_overwritten(built: tuple[Path, Report], recipe_path: Path) -> None:
    result = run("build", recipe_path, "-o", built[0])
    assert result.exit_code == 2
    assert "holds a build of the recipe 'quick', not of 'tiny'" in told(result)


def test_two_builds_into_one_folder_do_not_mix(built: tuple[Path, Report]) -> None:
    import filelock

    folder, _ = built
    with filelock.FileLock(folder / ".stages" / "lock"):
        result = run("build", folder.parent / "quick.yaml", "-o", folder)
    assert result.exit_code == 2
    assert "another build is writing to this folder" in told(result)


def test_a_missing_extra_is_named_with_its_pip_line(
    recipe_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgecnn.steps.networks.TRAINING_PACKAGES", ("no_such_torch",))
    result = run("build", recipe_path, "-o", tmp_path / "out")
    assert result.exit_code == 3
    assert "training needs no_such_torch, which is not installed" in told(result)
    assert 'pip install "edgecnn[train]"' in told(result)


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    result = run("build", tmp_path / "none.yaml", "--debug")
    assert type(result.exception).__name__ == "RecipeError"


def test_ctrl_c_is_one_line_and_130_and_what_is_finished_stays(recipe_path: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "edgecnn", "build", recipe_path, "-o", tmp_path / "out"]
    with subprocess.Popen(
        [*map(str, command), "--set", "train.epochs=50"], stderr=subprocess.PIPE, text=True
    ) as build:
        deadline = time.monotonic() + 120
        while not list((tmp_path / "out").glob(".stages/train/*/checkpoint/checkpoint.json")):
            assert build.poll() is None, build.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        build.send_signal(signal.SIGINT)
        _, stderr = build.communicate(timeout=60)
    assert build.returncode == 130
    assert stderr.strip().splitlines()[-1].startswith("interrupted: what was finished stays")
    assert "Traceback" not in stderr
    assert list((tmp_path / "out").glob(".stages/train/*/checkpoint/epoch-*.safetensors"))
    assert not list((tmp_path / "out").rglob("*.tmp"))


def test_help_teaches_every_command() -> None:
    overview = run("--help").stdout
    for name, command in cli.commands.items():
        text = run(name, "--help").stdout
        assert name in overview
        assert "Example" in text, name
        assert command.help, name
        assert "--debug" in text
    for alias, name in ALIASES.items():
        assert run(alias, "--help").stdout.splitlines()[2:] == run(name, "--help").stdout.splitlines()[2:]


def test_an_unknown_command_and_a_bad_target_end_with_2(built: tuple[Path, Report]) -> None:
    assert run("biuld").exit_code == 2
    result = run("validate", built[0], "--target", "pie")
    assert result.exit_code == 2
    assert "'pie' is not one of: host" in result.stderr


def test_python_m_edgecnn_is_the_same_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edgecnn", "--version"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.stdout.strip() == f"edgecnn, version {edgecnn.__version__}"


def test_a_build_does_not_write_over_the_recipe_that_it_was_given(built: tuple[Path, Report]) -> None:
    recipe = built[0] / "recipe.yaml"
    before = recipe.read_text()
    result = run("build", recipe, "-o", built[0], "--set", "seed=3")
    assert result.exit_code == 2
    assert "would write over the recipe" in told(result)
    assert recipe.read_text() == before


def test_the_float_pair_is_one_network(built: tuple[Path, Report]) -> None:
    _, report = built
    assert {record.runtime for record in report.float_parity} >= {"litert"}
    assert all(record.largest_difference <= 1e-5 for record in report.float_parity)
