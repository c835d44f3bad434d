"""The commands against an emulated Raspberry Pi 2 with a 32-bit system, an armhf Debian that qemu-user runs.

It must be made first, as root: bash edgecnn/counting/arm_root.sh FOLDER armhf; then EDGECNN_ARMHF_ROOT=FOLDER.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli.commands import run
from emulated_pi.checks import DEMO, by_hand, digits_class, json_of, with_threads
from emulated_pi.emulated_board import EmulatedPi

from edgecnn.records import Report

pytestmark = pytest.mark.emulated_pi


@pytest.mark.usefixtures("pi2")
def test_doctor_installs_the_one_runtime_that_there_is(demo: Path) -> None:
    before = run("doctor", "--target", "pi2", "--json")
    assert before.exit_code == 1
    found = {one["about"]: one for one in json.loads(before.stdout)}
    assert found["machine"]["found"].startswith("Raspberry Pi 2 Model B Rev 1.1, armv7l, 32-bit")
    assert found["machine"]["status"] == "note" and "64-bit image" in found["machine"]["advice"]
    assert found["runtimes"]["status"] == "lacks"
    model = demo / f"{DEMO}.int8.tflite"
    found = {one["about"]: one for one in json_of("doctor", model, "--target", "pi2", "--fix")}
    assert "tflite-runtime 2.14" in found["runtimes"]["found"] and found[model.name]["status"] == "ok"
    (facts,) = json_of("benchmark", model, "--target", "pi2", "--threads", "1", "--rounds", "1")
    assert facts["runtime"] == "tflite-runtime" and facts["emulated"] and facts["environment"]["bits"] == 32


@pytest.mark.usefixtures("pi2")
def test_a_thousand_test_images_there_and_here(demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_threads(monkeypatch, 1)
    result = run("validate", demo, "--target", "tflite-runtime", "--samples", "1000", "--json")
    assert result.exit_code == 0, result.output
    report = Report.model_validate_json(result.stdout)
    assert report.environment["bits"] == 32 and report.environment["emulated"]
    measured = [m for artifact in report.artifacts for m in artifact.measurements]
    assert {(m.n_images, m.emulated, m.runtime) for m in measured} == {(1000, True, "tflite-runtime")}
    assert min(m.accuracy for m in measured) > 0.95
    assert sorted(record.artifact for record in report.board_parity) == ["fp32.tflite", "int8.tflite"]
    for record in report.board_parity:
        assert record.top1_equal >= 0.998
        assert record.max_lsb is None or record.max_lsb <= 2
        assert record.largest_difference is None or record.largest_difference < 1e-4


def test_deploy_and_predict_on_the_board(pi2: EmulatedPi, demo: Path, digit: Path) -> None:
    deployed = json_of("deploy", demo, "--target", "tflite-runtime")
    assert deployed["runtime"] == "tflite-runtime" and deployed["top1_equal"] == 1.0
    pi2.ssh("cat > digit.png", digit.read_bytes())
    assert pi2.said(f"edgecnn/{DEMO}/current/predict digit.png").startswith(f"digit.png: {digits_class()} ")


def test_the_program_runs_by_hand(pi2: EmulatedPi, demo: Path, digit: Path) -> None:
    model = demo / f"{DEMO}.int8.tflite"
    by_hand(pi2, "/opt/tflite-runtime/python", model, "tflite-runtime", digit)
