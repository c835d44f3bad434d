"""`edgecnn build`: what it writes, what it does again, what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import digits_for_tests
import numpy as np
import pytest
from cli.commands import QUICK_RECIPE, run, told
from recipes_for_tests import MINIMAL_RECIPE

from edgecnn import build_folder, recipe_file
from edgecnn.records import Report


def test_the_folder_holds_every_file_with_its_manifest(built: tuple[Path, Report]) -> None:
    folder, report = built
    keys = ("dense.fp32.onnx", "fp32.onnx", "fp32.tflite", "int8.onnx", "int8.tflite")
    expected = {f"quick.{key}" for key in keys} | {f"quick.{key}.json" for key in keys}
    beside = {"report.json", "analysis.json", "MODEL_CARD.md", "recipe.yaml", "build.lock.json", ".stages"}
    assert {path.name for path in folder.iterdir()} == expected | beside
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
            assert m.n_images == 1_000
            assert m.accuracy > 0.9
            assert np.trace(np.array(m.confusion)) == round(m.accuracy * 1_000)
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
        assert sum(record.lsb_histogram.values()) == 10_000
        assert record.top1_equal >= 0.999
        if record.runtime == "litert":
            assert record.max_lsb <= 1


def test_a_second_build_does_nothing_again(built: tuple[Path, Report], short_timing: None) -> None:
    folder, report = built
    before = {path: path.stat().st_mtime_ns for path in folder.glob("quick.*")}
    result = run("build", folder.parent / "quick.yaml", "-o", folder)
    assert result.exit_code == 0
    assert result.stderr.count("unchanged") == 7
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
        ["run", "evaluate-host"], ["run", "benchmark-host"], ["run", "analyse"],
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

    folder, _ = built
    with build_folder.claimed(folder, recipe_file.load(folder.parent / "quick.yaml").recipe):
        result = run("build", folder.parent / "quick.yaml", "-o", folder)
    assert result.exit_code == 2
    assert f"another build is writing to this folder: process {os.getpid()} on" in told(result)


def test_a_missing_extra_is_named_with_its_pip_line(
    recipe_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgecnn.steps.networks.TRAINING_PACKAGES", ("no_such_torch",))
    result = run("build", recipe_path, "-o", tmp_path / "out")
    assert result.exit_code == 3
    assert "training needs no_such_torch, which is not installed" in told(result)
    assert 'pip install "edgecnn[train]"' in told(result)


def test_ctrl_c_is_one_line_and_130_and_what_is_finished_stays(recipe_path: Path, tmp_path: Path) -> None:
    digits_for_tests.write_npz(tmp_path / "digits.npz", n_images=1_500)
    settings = ("data={npz: {path: digits.npz, size: 28, channels: 1}}", "train.epochs=500")
    sets = [word for setting in settings for word in ("--set", setting)]
    command = [sys.executable, "-m", "edgecnn", "build", str(recipe_path), "-o", "out", *sets]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as build:
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
