"""The commands against an emulated Raspberry Pi 4 over real ssh: an arm64 Debian that qemu-user runs.

It must be made first, as root: bash edgecnn/counting/arm_root.sh FOLDER; then EDGECNN_ARM64_ROOT=FOLDER.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli.commands import run
from emulated_pi.checks import DEMO, by_hand, digits_class, json_of, with_threads
from emulated_pi.emulated_board import EmulatedPi

from edgecnn.build_folder import read_report
from edgecnn.gate import judge
from edgecnn.recipe import Budget
from edgecnn.records import Report
from edgecnn.steps.measurements import with_times

pytestmark = pytest.mark.emulated_pi


def test_doctor_says_what_a_fresh_board_lacks_and_installs_it(pi4: EmulatedPi, demo: Path) -> None:
    before = run("doctor", "--target", "pi4", "--json")
    assert before.exit_code == 1
    found = {one["about"]: one for one in json.loads(before.stdout)}
    assert found["machine"]["found"].startswith("Raspberry Pi 4 Model B Rev 1.4, aarch64, 64-bit")
    assert found["runtimes"]["status"] == "lacks" and found["emulation"]["status"] == "note"
    models = [demo / f"{DEMO}.int8.{suffix}" for suffix in ("tflite", "onnx")]
    found = {one["about"]: one for one in json_of("doctor", *models, "--target", "pi4", "--fix")}
    assert "ai-edge-litert" in found["runtimes"]["found"]
    assert {found[model.name]["status"] for model in models} == {"ok"}
    assert pi4.said("ls -A").split() == [".cache", ".ssh", "edgecnn"], "nothing else was changed"


ALL_KEYS = {"dense.fp32.onnx", "fp32.onnx", "int8.onnx", "fp32.tflite", "int8.tflite"}


@pytest.mark.parametrize(
    ("target", "runtimes", "keys", "threads"),
    [
        ("litert", {"litert", "onnxruntime"}, ALL_KEYS, (1,)),
        ("tflite-runtime", {"tflite-runtime"}, {"fp32.tflite", "int8.tflite"}, (1, 2)),
    ],
)
@pytest.mark.usefixtures("pi4")
def test_a_thousand_test_images_there_and_here(
    demo: Path,
    target: str,
    runtimes: set[str],
    keys: set[str],
    threads: tuple[int, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_threads(monkeypatch, *threads)
    result = run("validate", demo, "--target", target, "--samples", "1000", "--json")
    assert result.exit_code == 0, result.output
    report = Report.model_validate_json(result.stdout)
    assert report.environment["cpu_model"] == "Cortex-A72" and report.environment["emulated"]
    measured = [m for artifact in report.artifacts for m in artifact.measurements]
    assert {(m.n_images, m.emulated, m.target) for m in measured} == {(1000, True, target)}
    assert {m.num_threads for m in measured} == set(threads)
    assert min(m.accuracy for m in measured) > 0.95
    assert {m.runtime for m in measured} == set(report.environment["runtimes"]) == runtimes
    # tflite-runtime is built for numpy 1, and brings one along.
    assert report.environment["numpy"].startswith("1.") or target != "tflite-runtime"
    assert sorted(record.artifact for record in report.board_parity) == sorted(keys)
    for record in report.board_parity:
        assert record.top1_equal >= 0.998
        assert record.max_lsb is None or record.max_lsb <= 2
        assert record.largest_difference is None or record.largest_difference < 1e-4


@pytest.mark.usefixtures("pi4")
def test_milliseconds_of_an_emulated_board_are_marked_and_refused(demo: Path) -> None:
    model = demo / f"{DEMO}.int8.tflite"
    options = ("--threads", "1", "--rounds", "2", "--min-time", "0.1")
    (record,) = json_of("benchmark", model, "--target", "litert", *options)
    assert record["emulated"] and "emulated" in [warning["kind"] for warning in record["warnings"]]
    assert len(record["samples_ms"]) >= 50 and record["peak_rss_bytes"] > 2**20
    assert record["delegate"] == "XNNPACK" and record["affinity"] and len(record["launches"]) == 2
    assert {launch["governor_after"] for launch in record["launches"]} == {"ondemand"}
    environment = record["environment"]
    assert environment["board_model"] == "Raspberry Pi 4 Model B Rev 1.4" and environment["bits"] == 64
    assert environment["target"] == "litert" and environment["temperature_c"] == 47.236
    artifact = next(one for one in read_report(demo).artifacts if one.file == model.name)
    judged = with_times(artifact.measurements[0].model_copy(update={"emulated": True}), record)
    (verdict,) = judge(
        {artifact.key: Budget(max_median="1 s")}, [artifact.model_copy(update={"measurements": (judged,)})]
    )
    assert (verdict.status, verdict.said) == ("refused", "emulated milliseconds are not judged")


def test_what_is_sent_lies_there_whole_and_once(pi4: EmulatedPi, demo: Path, digit: Path) -> None:
    for _ in range(2):
        (prediction,) = json_of("predict", demo / f"{DEMO}.int8.tflite", digit, "--target", "litert")
        assert prediction["guesses"][0]["class_name"] == digits_class()
    lines = [line.split() for line in pi4.said("cd .cache/edgecnn; sha256sum */*; ls -d *").splitlines()]
    sent = {words[1]: words[0] for words in lines if len(words) == 2}
    assert sent and all(path.partition("/")[0] == sha256 for path, sha256 in sent.items())
    names = [path.partition("/")[2] for path in sent]
    assert names.count("digit.png") == names.count(f"{DEMO}.int8.tflite") == 1
    assert {words[0] for words in lines if len(words) == 1} == {path.partition("/")[0] for path in sent}


def test_deploy_and_back_and_predict_on_the_board(pi4: EmulatedPi, demo: Path, digit: Path) -> None:
    def deploy(*options: str) -> dict:
        return json_of("deploy", demo, "--target", "litert", *options)

    first, second = deploy(), deploy("--artifact", "fp32.tflite")
    assert first["top1_equal"] == second["top1_equal"] == 1.0
    assert second["previous"] == first["current"]
    pi4.ssh("cat > digit.png", digit.read_bytes())

    def predicted() -> tuple[str, str]:
        """The version that is current, and what its `predict` says of the digit."""
        version = pi4.said(f"readlink edgecnn/{DEMO}/current").strip()
        return version, pi4.said(f"edgecnn/{DEMO}/current/predict digit.png")

    for version in (second["current"], first["current"]):
        now, said = predicted()
        assert now == version
        assert said.startswith(f"digit.png: {digits_class()} ") and "resize" in said and "invoke" in said
        rolled_back = deploy("--rollback")
        assert rolled_back["previous"] == version
    pi4.ssh("rm digit.png")


PYTHONS = [
    ("litert", "int8.tflite", "litert"),
    ("litert", "int8.onnx", "onnxruntime"),
    ("tflite-runtime", "int8.tflite", "tflite-runtime"),
]


@pytest.mark.parametrize(("python", "key", "runtime"), PYTHONS)
def test_the_program_runs_by_hand(
    pi4: EmulatedPi, demo: Path, digit: Path, python: str, key: str, runtime: str
) -> None:
    by_hand(pi4, f"/opt/{python}/python", demo / f"{DEMO}.{key}", runtime, digit)
