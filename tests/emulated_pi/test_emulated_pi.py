"""The commands against an emulated Raspberry Pi 4 over real ssh: an arm64 Debian that qemu-user runs.

It must be made first, as root: bash edgecnn/counting/arm64_root.sh FOLDER; then EDGECNN_ARM64_ROOT=FOLDER.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli.commands import run
from PIL import Image
from recipes_for_tests import ROOT

from edgecnn import data
from edgecnn.build_folder import read_report
from edgecnn.gate import judge
from edgecnn.recipe import Budget
from edgecnn.records import Report
from edgecnn.steps.measurements import with_times

pytestmark = pytest.mark.emulated_pi

BUILD = ROOT / "artifacts" / "mnist_lenet5_int8"
NAME = "mnist_lenet5_int8"


@pytest.fixture(scope="session")
def pi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder with the ssh_config of a Pi that runs; its host is `pi4`."""
    root = os.environ.get("EDGECNN_ARM64_ROOT", "")
    if not (Path(root) / "usr" / "bin" / "python3").exists():
        pytest.skip("EDGECNN_ARM64_ROOT names no arm64 system: make one with edgecnn/counting/arm64_root.sh")
    if os.getuid() != 0:
        pytest.skip("only root can start the emulated Pi")
    if not (BUILD / "report.json").exists():
        pytest.skip("the demo is not built: make demo")
    shutil.rmtree(Path(root, "home", "pi"), ignore_errors=True)
    Path(root, "home", "pi").mkdir()
    os.chown(Path(root, "home", "pi"), 1000, 1000)
    state = tmp_path_factory.mktemp("pi")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["bash", str(Path(__file__).with_name("start.sh")), root, str(state), str(port)]
    with (state / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait_until_it_listens(port, process, state / "log")
        yield state
    finally:
        # It is the first process of its PID namespace: with it all others end.
        process.send_signal(signal.SIGKILL)
        process.wait()


def _wait_until_it_listens(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    pytest.fail(f"the emulated Pi did not start:\n{log.read_text()}")


@pytest.fixture
def targets(pi: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Names for the Pi: `pi4` with the Python that edgecnn finds there, and one for each set of runtimes."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "edgecnn").mkdir()
    there = f"host: pi4, ssh_config: {pi}/ssh_config"
    (tmp_path / "edgecnn" / "targets.yaml").write_text(
        f"pi4: {{{there}}}\n"
        f"litert: {{{there}, python: /opt/litert/python}}\n"
        f"tflite-runtime: {{{there}, python: /opt/tflite-runtime/python}}\n"
    )
    return pi


def ssh(pi: Path, command: str) -> str:
    done = subprocess.run(
        ["ssh", "-F", str(pi / "ssh_config"), "pi4", command], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_doctor_says_what_a_fresh_board_lacks_and_installs_it(targets: Path) -> None:
    before = run("doctor", "--target", "pi4", "--json")
    assert before.exit_code == 1
    found = {one["about"]: one for one in json.loads(before.stdout)}
    assert found["machine"]["found"].startswith("Raspberry Pi 4 Model B Rev 1.4, aarch64, 64-bit")
    assert found["runtimes"]["status"] == "lacks" and found["emulation"]["status"] == "note"
    model = BUILD / f"{NAME}.int8.tflite"
    after = run("doctor", model, "--target", "pi4", "--fix", "--json")
    assert after.exit_code == 0, after.output
    found = {one["about"]: one for one in json.loads(after.stdout)}
    assert "ai-edge-litert" in found["runtimes"]["found"] and found[model.name]["status"] == "ok"
    assert ssh(targets, "ls -A").split() == [".cache", ".ssh", "edgecnn"], "nothing else was changed"


FLOAT_AND_INT8 = {"fp32.onnx", "int8.onnx", "fp32.tflite", "int8.tflite"}


@pytest.mark.parametrize(
    ("target", "runtimes", "keys"),
    [
        ("litert", {"litert", "onnxruntime"}, {"dense.fp32.onnx", *FLOAT_AND_INT8}),
        ("tflite-runtime", {"tflite-runtime"}, {"fp32.tflite", "int8.tflite"}),
    ],
)
def test_a_thousand_test_images_there_and_here(
    targets: Path, target: str, runtimes: set[str], keys: set[str]
) -> None:
    result = run("validate", BUILD, "--target", target, "--samples", "1000", "--json")
    assert result.exit_code == 0, result.output
    report = Report.model_validate_json(result.stdout)
    assert report.environment["cpu_model"] == "Cortex-A72" and report.environment["emulated"]
    measured = [m for artifact in report.artifacts for m in artifact.measurements]
    assert {(m.n_images, m.emulated, m.target) for m in measured} == {(1000, True, target)}
    assert min(m.accuracy for m in measured) > 0.985
    assert {m.runtime for m in measured} == set(report.environment["runtimes"]) == runtimes
    # tflite-runtime is built for numpy 1, and brings one along.
    assert report.environment["numpy"].startswith("1.") or target != "tflite-runtime"
    assert sorted(record.artifact for record in report.board_parity) == sorted(keys)
    for record in report.board_parity:
        assert record.top1_equal >= 0.998
        assert record.max_lsb is None or record.max_lsb <= 2
        assert record.largest_difference is None or record.largest_difference < 1e-4


def test_milliseconds_of_an_emulated_board_are_marked_and_refused(targets: Path) -> None:
    model = BUILD / f"{NAME}.int8.tflite"
    result = run(
        "benchmark",
        model,
        "--target",
        "litert",
        "--threads",
        "1",
        "--rounds",
        "2",
        "--min-time",
        "0.1",
        "--json",
    )
    assert result.exit_code == 0, result.output
    (record,) = json.loads(result.stdout)
    assert record["emulated"] and "emulated" in [warning["kind"] for warning in record["warnings"]]
    assert len(record["samples_ms"]) >= 50 and record["peak_rss_bytes"] > 2**20
    assert record["delegate"] == "XNNPACK" and record["affinity"] and len(record["launches"]) == 2
    assert {launch["governor_after"] for launch in record["launches"]} == {"ondemand"}
    environment = record["environment"]
    assert environment["board_model"] == "Raspberry Pi 4 Model B Rev 1.4" and environment["bits"] == 64
    assert environment["target"] == "litert" and environment["temperature_c"] == 47.236
    artifact = next(one for one in read_report(BUILD).artifacts if one.file == model.name)
    judged = with_times(artifact.measurements[0].model_copy(update={"emulated": True}), record)
    (verdict,) = judge(
        {artifact.key: Budget(max_median="1 s")}, [artifact.model_copy(update={"measurements": (judged,)})]
    )
    assert (verdict.status, verdict.said) == ("refused", "emulated milliseconds are not judged")


def test_what_is_sent_lies_there_whole_and_once(targets: Path, tmp_path: Path) -> None:
    test = data.load("mnist").test
    Image.fromarray(test.images_nhwc[0, :, :, 0]).save(tmp_path / "digit.png")
    for _ in range(2):
        result = run(
            "predict", BUILD / f"{NAME}.int8.tflite", tmp_path / "digit.png", "--target", "litert", "--json"
        )
        assert result.exit_code == 0, result.output
        (prediction,) = json.loads(result.stdout)
        assert prediction["guesses"][0]["class_name"] == test.class_names[test.labels[0]]
    lines = [line.split() for line in ssh(targets, "cd .cache/edgecnn; sha256sum */*; ls -d *").splitlines()]
    sent = {words[1]: words[0] for words in lines if len(words) == 2}
    assert sent and all(path.partition("/")[0] == sha256 for path, sha256 in sent.items())
    names = [path.partition("/")[2] for path in sent]
    assert names.count("digit.png") == names.count(f"{NAME}.int8.tflite") == 1
    assert {words[0] for words in lines if len(words) == 1} == {path.partition("/")[0] for path in sent}


def test_deploy_and_back_and_predict_on_the_board(targets: Path, tmp_path: Path) -> None:
    def deploy(*options: str) -> dict:
        result = run("deploy", BUILD, "--target", "litert", "--json", *options)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    first, second = deploy(), deploy("--artifact", "fp32.tflite")
    assert first["top1_equal"] == second["top1_equal"] == 1.0
    assert second["previous"] == first["current"]
    assert deploy("--rollback") == {"current": first["current"], "previous": second["current"]}
    test = data.load("mnist").test
    Image.fromarray(test.images_nhwc[0, :, :, 0]).save(tmp_path / "digit.png")
    with (tmp_path / "digit.png").open("rb") as picture:
        subprocess.run(
            ["ssh", "-F", str(targets / "ssh_config"), "pi4", "cat > digit.png"], stdin=picture, check=True
        )
    said = ssh(targets, f"edgecnn/{NAME}/current/predict digit.png; rm digit.png")
    assert said.startswith(f"digit.png: {test.class_names[test.labels[0]]} ")
    assert "resize" in said and "invoke" in said
    by_hand = f"cd edgecnn/{NAME}/current && /opt/litert/python edgecnn-device.pyz benchmark {NAME}.int8.tflite"
    answer = json.loads(ssh(targets, f"{by_hand} --min-s 0.05").splitlines()[-1])
    assert answer["emulated"] and len(answer["samples_ms"]) >= 50 and answer["warmup_runs"] >= 12
