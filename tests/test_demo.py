"""The recipes of the repository, built for real: what the README promises of them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from recipes_for_tests import ROOT

from edgecnn.records import Artifact, Measurement, ParityRecord, Report

pytestmark = pytest.mark.slow
MADE = ROOT / "artifacts" / "mnist_lenet5_int8" / ".stages"


# edgecnn in a process that times each file for a moment.
BRIEF = """
from edgecnn.cli import main
from edgecnn.steps import measurements
measurements.ROUNDS, measurements.MIN_TOTAL_S = 1, 0.05
main()
"""


def build(recipe: str, folder: Path, program: tuple[str, str] = ("-m", "edgecnn")) -> Report:
    command = [sys.executable, *program, "build", ROOT / "recipes" / recipe, "-o", folder, "--json"]
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    return Report.model_validate_json(done.stdout)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    folder = tmp_path_factory.mktemp("demo") / "out"
    # Of `make demo`: what it has built from the same code is taken over, all else is built.
    if MADE.is_dir():
        shutil.copytree(MADE, folder / ".stages", ignore=shutil.ignore_patterns("lock"))
    return folder, build("mnist_lenet5_int8.yaml", folder)


@pytest.fixture(scope="module")
def dense(demo: tuple[Path, Report], tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The unpruned recipe; its network is trained as the demo's is, so that stage is taken over.

    Its times are not looked at, the demo's are.
    """
    folder = tmp_path_factory.mktemp("dense") / "out"
    shutil.copytree(demo[0] / ".stages" / "train", folder / ".stages" / "train")
    report = build("mnist_lenet5_int8_dense.yaml", folder, ("-c", BRIEF))
    trained = [path.parent.name for path in folder.glob(".stages/train/*/done.json")]
    assert trained == [path.parent.name for path in demo[0].glob(".stages/train/*/done.json")], "trained anew"
    return report


def artifact(report: Report, key: str) -> Artifact:
    return next(one for one in report.artifacts if one.key == key)


def worst(report: Report, key: str) -> Measurement:
    return max(artifact(report, key).measurements, key=lambda m: m.accuracy_drop)


def litert_parity(report: Report) -> ParityRecord:
    return next(p for p in report.parity if p.runtime == "litert" and "optimizations off" in p.reference)


def test_the_dense_network_is_accurate(demo: tuple[Path, Report]) -> None:
    assert worst(demo[1], "dense.fp32.onnx").accuracy >= 0.992


def test_the_pruned_int8_file_is_small_and_loses_little(demo: tuple[Path, Report]) -> None:
    _, report = demo
    assert artifact(report, "int8.tflite").size_bytes <= 12_000
    assert worst(report, "int8.tflite").accuracy_drop <= 0.002 + 1e-9
    assert report.passed


def test_quantization_alone_costs_a_tenth_of_a_point_at_the_most(dense: Report) -> None:
    assert artifact(dense, "int8.tflite").size_bytes <= 66_000
    assert artifact(dense, "int8.onnx").size_bytes <= 66_000
    assert worst(dense, "int8.tflite").accuracy_drop <= 0.001 + 1e-9


def test_the_int8_pair_is_the_same_network(demo: tuple[Path, Report], dense: Report) -> None:
    for report in (demo[1], dense):
        found = litert_parity(report)
        assert found.n_images == 10_000
        assert found.top1_equal >= 0.999
        assert found.max_lsb <= 1


def test_the_benchmark_took_its_time(demo: tuple[Path, Report]) -> None:
    for one in demo[1].artifacts:
        for m in one.measurements:
            assert m.n_runs is not None
            assert m.latency_ms is not None
            assert len(m.samples_ms) >= 50
            # All inferences of the timed phases, at the mean of those that were timed: about a second.
            assert m.n_runs * m.latency_ms.mean > 500


SHORT_BUILD = f"""
import json, sys
sys.path += [{str(ROOT / "tests")!r}, {str(ROOT / "tools")!r}]
import pytest
import chaos
from digits_for_tests import use_fewer
from measurements_for_tests import measure_little
import edgecnn
use_fewer(pytest.MonkeyPatch())
measure_little(pytest.MonkeyPatch())
chaos.measure_briefly()
short = ("train.epochs=1", "compress.0.prune.steps=2", "compress.0.prune.finetune_epochs=2",
         "compress.1.finetune={{epochs: 1, teacher: dense}}", "budget={{}}")
report = edgecnn.build(sys.argv[1], sys.argv[2], overrides=short)
print(json.dumps({{a.file: a.sha256 for a in report.artifacts}}))
"""


def short_build(folder: Path) -> subprocess.Popen[str]:
    """The demo recipe on a tenth of the digits, with an epoch or two a stage: every stage, from nothing."""
    command = [sys.executable, "-c", SHORT_BUILD, ROOT / "recipes" / "mnist_lenet5_int8.yaml", folder]
    return subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def hashes_of(build: subprocess.Popen[str]) -> dict[str, str]:
    output, _ = build.communicate()
    assert build.returncode == 0
    return json.loads(output.splitlines()[-1])


def test_the_same_recipe_gives_the_same_files_killed_in_between_or_not(tmp_path: Path) -> None:
    whole = hashes_of(short_build(tmp_path / "whole"))
    assert len(whole) == 5
    with short_build(tmp_path / "killed") as build:
        # In the middle of the second round of pruning: its first epoch is kept, its last is to come.
        while not list((tmp_path / "killed").glob(".stages/1-prune/*/checkpoint-2/checkpoint.json")):
            assert build.poll() is None, "it ended before it could be killed"
            time.sleep(0.1)
        build.kill()
    assert not list((tmp_path / "killed").glob(".stages/1-prune/*/done.json"))
    assert hashes_of(short_build(tmp_path / "killed")) == whole
