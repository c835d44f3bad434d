"""The commands against a board over ssh; the board is this machine, behind an sshd of our own."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cli.commands import run, told
from targets import local_sshd

from edgecnn import data
from edgecnn.records import Report

NAME = "quick"


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[local_sshd.LocalSSHD]:
    """A board called pi4 in targets.yaml."""
    local_sshd.require()
    sshd = local_sshd.LocalSSHD(tmp_path / "board")
    for tool in ("dirname", "readlink"):
        (sshd.bin / tool).symlink_to(shutil.which(tool) or f"/usr/bin/{tool}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "edgecnn").mkdir()
    (tmp_path / "edgecnn" / "targets.yaml").write_text(f"pi4: {{host: board, ssh_config: {sshd.config}}}\n")
    yield sshd
    sshd.stop()


def write_wheel(folder: Path, name: str) -> None:
    """An empty package of that name, for a pip without network."""
    info = f"{name.replace('-', '_')}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name.replace('-', '_')}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def files_below(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*") if "__pycache__" not in path.parts}


def test_fix_makes_an_environment_of_its_own_and_leaves_the_one_that_the_target_names(
    board: local_sshd.LocalSSHD, tmp_path: Path
) -> None:
    own, wheels, home = tmp_path / "own env", tmp_path / "wheels", board.home
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(own)], check=True)
    wheels.mkdir()
    for name in ("ai-edge-litert", "onnxruntime", "pillow", "numpy"):
        write_wheel(wheels, name)
    (home / ".config" / "pip").mkdir(parents=True)
    # With what would send all of it to the user's own packages.
    (home / ".config" / "pip" / "pip.conf").write_text(
        f"[global]\nno-index = true\nfind-links = {wheels}\nuser = true\n"
    )
    targets = tmp_path / "edgecnn" / "targets.yaml"
    by_default = targets.read_text()
    targets.write_text(by_default.replace("}", f", python: '{own}/bin/python'}}"))
    before = files_below(own)
    of_old = home / "edgecnn" / "venv" / "pyvenv.cfg"
    of_old.parent.mkdir(parents=True)
    of_old.write_text("version = 3.4.1\n")
    result = run("doctor", "--target", "pi4", "--fix")
    assert "made anew: ~/edgecnn/venv was one of Python 3.4" in told(result), result.output
    assert "3.4.1" not in of_old.read_text()
    assert f"installed in {home}/edgecnn/venv/bin/python: ai-edge-litert" in told(result), result.output
    assert result.exit_code == 1, "the Python that the target names lacks it all the same"
    assert "after it, write python: ~/edgecnn/venv/bin/python" in " ".join(result.stdout.split())
    assert files_below(own) == before
    assert {path.name for path in home.iterdir()} == {".cache", ".config", "edgecnn"}, "nothing in ~/.local"
    shutil.rmtree(own)  # what was made does not need it
    ours = ", python: ~/edgecnn/venv/bin/python}"
    for text in (by_default, by_default.replace("}", ours)):
        targets.write_text(text)
        result = run("doctor", "--target", "pi4", "--json")
        found = {one["about"]: one["found"] for one in json.loads(result.stdout)}
        assert found["runtimes"] == "ai-edge-litert 1.0, onnxruntime 1.0", found
        assert f"({home}/edgecnn/venv/bin/python)" in found["Python"]


def test_our_environment_may_be_named_before_it_is_made(board: local_sshd.LocalSSHD, tmp_path: Path) -> None:
    targets = tmp_path / "edgecnn" / "targets.yaml"
    targets.write_text(targets.read_text().replace("}", ", python: ~/edgecnn/venv/bin/python}"))
    assert run("doctor", "--target", "pi4").exit_code == 0
    (board.bin / "python3").unlink()
    assert "there is no python3" in told(run("doctor", "--target", "pi4"))


def test_benchmark(board: local_sshd.LocalSSHD, built: tuple[Path, Report]) -> None:
    result = run(
        "benchmark", built[0] / "quick.int8.tflite", "--target", "pi4", "--runtime", "litert", "--threads", "1",
        "--rounds", "1", "--min-time", "0.05", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    (record,) = json.loads(result.stdout)
    assert record["target"] == "pi4" and len(record["samples_ms"]) >= 50 and not record["emulated"]


def test_predict_on_the_board(board: local_sshd.LocalSSHD, built: tuple[Path, Report], tmp_path: Path) -> None:
    test = data.load("mnist").test
    (tmp_path / "digits").mkdir()
    for index in range(3):
        np.save(tmp_path / "digits" / f"{index}.npy", test.images_nhwc[index])
    model = built[0] / "quick.int8.tflite"
    result = run("predict", model, tmp_path / "digits", "--target", "pi4", "--json")
    assert result.exit_code == 0, result.output
    there, here = (
        json.loads(result.stdout),
        json.loads(run("predict", model, tmp_path / "digits", "--json").stdout),
    )
    assert [one["picture"] for one in there] == [str(tmp_path / "digits" / f"{i}.npy") for i in range(3)]
    assert [one["guesses"] for one in there] == [one["guesses"] for one in here]
    assert len(list(board.cache.rglob("*.npy"))) == 3, "they were classified over there"
    shown = run("predict", model, tmp_path / "digits" / "0.npy", "--target", "pi4", "--top", "1").stdout
    assert "0.npy" in shown and shown.count("%") == 1


def test_predict_on_a_board_that_cannot(
    board: local_sshd.LocalSSHD, built: tuple[Path, Report], tmp_path: Path
) -> None:
    np.save(tmp_path / "0.npy", data.load("mnist").test.images_nhwc[0])
    model = built[0] / "quick.int8.tflite"
    result = run("predict", model, tmp_path / "0.npy", "--target", "pi4", "--explain", tmp_path / "x.png")
    assert result.exit_code == 2 and "--target has no meaning beside --explain" in told(result)
    result = run("predict", model, tmp_path / "0.npy", "--target", "pi4", "--runtime", "onnxruntime")
    assert result.exit_code == 3 and "onnxruntime does not run .tflite files" in told(result)
    board.stop()
    result = run("predict", model, tmp_path / "0.npy", "--target", "pi4")
    assert result.exit_code == 3 and "refused the connection" in told(result)


def test_a_record_holds_all_that_a_latency_is_worth_with(
    board: local_sshd.LocalSSHD, built: tuple[Path, Report]
) -> None:
    """Whoever reads a record years later has no other source."""
    result = run(
        "benchmark", built[0] / "quick.int8.tflite", "--target", "pi4", "--runtime", "litert", "--threads", "1",
        "--rounds", "2", "--min-time", "0.05", "--json",
    )  # fmt: skip
    (record,) = json.loads(result.stdout)
    model = (built[0] / "quick.int8.tflite").read_bytes()
    assert record["file_sha256"] == hashlib.sha256(model).hexdigest() and record["size_bytes"] == len(model)
    assert record["delegate"] == "XNNPACK"
    assert record["delegate_version"] == f"as in ai-edge-litert {record['runtime_version']}"
    assert record["num_threads"] == 1 and record["affinity"] == sorted(os.sched_getaffinity(0))
    assert {"load_ms", "first_run_ms", "latency_ms", "median_interval_ms"} < record.keys()
    assert set(record["latency_ms"]) == {"min", "median", "mean", "p90", "p99", "max"}
    assert record["warmup_rule"].startswith("steady: medians of 3 successive windows within 5%")
    assert record["warmup_runs"] >= 24 and record["warmup_steady"] in (True, False)
    assert record["rss_method"].startswith("VmHWM")
    first, second = record["launches"]
    assert first["n_samples"] + second["n_samples"] == len(record["samples_ms"])
    before_and_after = {"load_1min", "governor", "clock_mhz", "temperature_c", "throttle_flags"}
    for launch in (first, second):
        assert {f"{name}_{when}" for name in before_and_after for when in ("before", "after")} < launch.keys()
        assert {"involuntary_switches", "major_faults", "cpu_wall_ratio", "other_cpu_share"} < launch.keys()
    environment = record["environment"]
    assert environment["target"] == "pi4" and environment["boot_id"] and environment["bits"] == 64
    assert {"kernel", "os", "board_model", "cpu_model", "memory_bytes", "python"} < environment.keys()


def test_validate_compares_the_board_with_this_machine(
    board: local_sshd.LocalSSHD, built: tuple[Path, Report]
) -> None:
    result = run("validate", built[0], "--target", "pi4", "--samples", "50", "--json")
    report = Report.model_validate_json(result.stdout)
    assert report.environment["target"] == "pi4"
    assert {m.n_images for artifact in report.artifacts for m in artifact.measurements} == {50}
    assert {record.artifact for record in report.board_parity} == {one.key for one in report.artifacts}
    assert {record.top1_equal for record in report.board_parity} == {1.0}
    assert {record.max_lsb for record in report.board_parity if record.max_lsb is not None} == {0}
    # Times and memory of this machine are not those of the board.
    assert {v.status for v in report.verdicts if v.metric == "max_peak_rss_bytes"} == {"missing"}
    shown = " ".join(run("validate", built[0], "--target", "pi4", "--samples", "50").stdout.split())
    assert "pi4 = this machine: top-1 of each file equal on at least 50 of 50" in shown
    assert "50 of the 1,000 test images" in shown


@pytest.mark.usefixtures("short_timing")
def test_a_recipe_that_names_a_board_is_measured_there_too(
    board: local_sshd.LocalSSHD, copied: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "two_targets.yaml"
    recipe.write_text((copied / "recipe.yaml").read_text() + "targets: [host, pi4]\n")
    result = run("build", recipe, "-o", copied, "--json")
    report = Report.model_validate_json(result.stdout)
    by_key = {artifact.key: artifact.measurements for artifact in report.artifacts}
    assert {m.target for m in by_key["int8.tflite"]} == {"host", "pi4"}
    assert all(m.latency_ms and m.peak_rss_bytes for ms in by_key.values() for m in ms)
    assert {record.target for record in report.board_parity} == {"pi4"}
    assert "median/p90 on pi4: " in " ".join(run("report", copied).stdout.split())


def test_a_board_without_onnxruntime_takes_the_reference_from_here(
    board: local_sshd.LocalSSHD, built: tuple[Path, Report], tmp_path: Path
) -> None:
    packages = tmp_path / "packages"
    packages.mkdir()
    for name in ("numpy", "ai_edge_litert"):
        for path in Path(np.__file__).parents[1].glob(f"{name}*"):
            (packages / path.name).symlink_to(path)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    board.set_python(f'PYTHONPATH="{packages}" exec "{tmp_path}/bare/bin/python" "$@"')
    report = Report.model_validate_json(
        run("validate", built[0], "--target", "pi4", "--samples", "50", "--json").stdout
    )
    measured = {one.key: one.measurements for one in report.artifacts}
    assert measured["dense.fp32.onnx"] == () and measured["int8.onnx"] == ()
    assert {m.runtime for m in measured["int8.tflite"]} == {"litert"}
    assert measured["int8.tflite"][0].agreement is not None, "with the float network, which ran here"


def test_deploy_and_rollback(board: local_sshd.LocalSSHD, built: tuple[Path, Report], tmp_path: Path) -> None:
    def deploy(*options: str) -> dict:
        result = run("deploy", built[0], "--target", "pi4", "--json", *options)
        assert result.exit_code == 0, result.output
        facts: dict = json.loads(result.stdout)
        return facts

    first, second = deploy(), deploy("--artifact", "fp32.tflite")
    home = board.home / "edgecnn" / NAME
    assert first["model"] == "quick.int8.tflite" and first["top1_equal"] == 1.0
    assert (home / "current").readlink() == Path(second["current"])
    assert {path.name for path in (home / "current").iterdir()} == {
        "quick.fp32.tflite", "quick.fp32.tflite.json", "labels.txt", "README.md", "predict",
        "edgecnn-device.pyz",
    }  # fmt: skip
    assert deploy("--rollback")["current"] == first["current"]
    test = data.load("mnist").test
    np.save(tmp_path / "digit.npy", test.images_nhwc[0])
    done = subprocess.run(
        [home / "current" / "predict", tmp_path / "digit.npy"],
        env={"HOME": str(board.home), "PATH": str(board.bin)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("digit.npy: ") and "invoke" in done.stdout


def test_predict_there_says_what_is_wrong(board: local_sshd.LocalSSHD, built: tuple[Path, Report]) -> None:
    assert run("deploy", built[0], "--target", "pi4").exit_code == 0
    program = board.home / "edgecnn" / NAME / "current" / "predict"
    environment = {"HOME": str(board.home), "PATH": str(board.bin)}
    done = subprocess.run([program, "gone.png"], env=environment, capture_output=True, text=True)
    assert done.returncode == 3 and "error: no such picture: gone.png" in done.stderr
    done = subprocess.run([program, "--camera"], env=environment, capture_output=True, text=True)
    assert done.returncode == 3 and "apt install python3-picamera2" in done.stderr


def test_the_camera(board: local_sshd.LocalSSHD, built: tuple[Path, Report], tmp_path: Path) -> None:
    """With a picamera2 that draws: no board is here."""
    (tmp_path / "picamera2.py").write_text(
        "from PIL import Image\n"
        "class Picamera2:\n"
        "    def create_still_configuration(self): return {}\n"
        "    def configure(self, configuration): pass\n"
        "    def start(self): pass\n"
        "    def stop(self): print('stopped')\n"
        "    def capture_file(self, path): Image.new('RGB', (64, 48)).save(path)\n"
    )
    assert run("deploy", built[0], "--target", "pi4").exit_code == 0
    board.set_python(f'PYTHONPATH="{tmp_path}" exec "{sys.executable}" "$@"')
    done = subprocess.run(
        [board.home / "edgecnn" / NAME / "current" / "predict", "--camera", "--frames", "2"],
        env={"HOME": str(board.home), "PATH": str(board.bin)},
        capture_output=True,
        text=True,
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and len(lines) == 3 and lines[-1] == "stopped"
    assert all("capture" in line and "resize" in line and "invoke" in line for line in lines[:2])


def test_a_model_that_gives_other_outputs_there_does_not_become_current(
    board: local_sshd.LocalSSHD, built: tuple[Path, Report], tmp_path: Path
) -> None:
    assert run("deploy", built[0], "--target", "pi4", "--artifact", "fp32.tflite").exit_code == 0
    current = (board.home / "edgecnn" / NAME / "current").readlink()
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "if 'evaluate' in sys.argv:\n"
        "    import numpy\n"
        "    numpy.save = lambda file, a, save=numpy.save: save(file, a[:, ::-1])\n"
    )
    board.set_python(f'PYTHONPATH="{tmp_path}" exec "{sys.executable}" "$@"')
    result = run("deploy", built[0], "--target", "pi4")
    assert result.exit_code == 3 and "it was not made the current one" in told(result)
    assert (board.home / "edgecnn" / NAME / "current").readlink() == current


def test_two_hosts_deploy_at_once(board: local_sshd.LocalSSHD, built: tuple[Path, Report]) -> None:
    commands = [
        [sys.executable, "-m", "edgecnn", "deploy", str(built[0]), "--target", "pi4", "--artifact", key]
        for key in ("int8.tflite", "fp32.tflite")
    ]
    hosts = [subprocess.Popen(command, env=os.environ) for command in commands]
    assert [host.wait(300) for host in hosts] == [0, 0]
    home = board.home / "edgecnn" / NAME
    versions = {path.name for path in home.iterdir() if path.is_dir() and not path.is_symlink()}
    assert len(versions) == 2 and not [path for path in home.iterdir() if path.name.endswith(".tmp")]
    assert {str((home / link).readlink()) for link in ("current", "previous")} == versions
    assert board.partial_files() == []


def test_rollback_needs_a_version_before(board: local_sshd.LocalSSHD, built: tuple[Path, Report]) -> None:
    assert run("deploy", built[0], "--target", "pi4").exit_code == 0
    result = run("deploy", built[0], "--target", "pi4", "--rollback")
    assert result.exit_code == 3 and "there is no version of quick before" in told(result)


def test_an_archive_holds_the_same(built: tuple[Path, Report], tmp_path: Path) -> None:
    archive = tmp_path / "model.tar.gz"
    assert run("deploy", built[0], "--to", archive).exit_code == 0
    content = archive.read_bytes()
    assert run("deploy", built[0], "--to", archive).exit_code == 0
    assert archive.read_bytes() == content, "the same bytes every time"
    with tarfile.open(archive) as unpacked:
        unpacked.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.glob("quick-*")
    np.save(tmp_path / "digit.npy", data.load("mnist").test.images_nhwc[0])
    python = tmp_path / "edgecnn" / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    done = subprocess.run(
        [folder / "predict", tmp_path / "digit.npy"],
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and done.stdout.startswith("digit.npy: "), done.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "this machine is not a board"),
        (["--to", "model.zip"], "an archive is a .tar.gz"),
        (["--to", "m.tar.gz", "--artifact", "int4.tflite"], "the build has no artifact 'int4.tflite'"),
        (["--target", "-oProxyCommand=id@x"], "is not a host"),
        (["--to", "m.tar.gz", "--rollback"], "--to has no meaning beside --rollback"),
        (["--artifact", "int8.tflite", "--rollback"], "--artifact has no meaning beside --rollback"),
        (["--to", "m.tar.gz", "--target", "pi@board"], "--target has no meaning beside --to"),
    ],
)
def test_what_cannot_be_deployed(built: tuple[Path, Report], options: list[str], words: str) -> None:
    result = run("deploy", built[0], *options)
    assert result.exit_code == 2 and words in told(result)


def test_a_file_that_was_changed_is_not_deployed(copied: Path, tmp_path: Path) -> None:
    model = copied / "quick.int8.tflite"
    model.write_bytes(model.read_bytes() + b"\0")
    result = run("deploy", copied, "--to", tmp_path / "m.tar.gz")
    assert result.exit_code == 2 and "the file is not the one that was built" in told(result)


def test_a_board_that_does_not_answer_ends_with_3(
    board: local_sshd.LocalSSHD, built: tuple[Path, Report]
) -> None:
    board.stop()
    result = run("benchmark", built[0] / "quick.int8.tflite", "--target", "pi4")
    assert result.exit_code == 3 and "refused the connection" in told(result)


def test_a_link_that_is_cut_in_an_upload_ends_with_3(board: local_sshd.LocalSSHD) -> None:
    board.make_flaky(20_000)
    result = run("doctor", "--target", "pi4")
    assert result.exit_code == 3 and "the connection was lost during the upload" in told(result)


def test_an_unknown_host_key_is_taken_with_the_option(
    board: local_sshd.LocalSSHD, built: tuple[Path, Report]
) -> None:
    board.known_hosts.unlink()
    assert run("doctor", "--target", "pi4").exit_code == 3
    result = run("doctor", "--target", "pi4", "--accept-new-host-key")
    assert result.exit_code == 0 and "its host key is now known" in result.stderr and "SHA256:" in result.stderr
