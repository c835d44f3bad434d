"""Measuring on a board over ssh; the board is this machine, so its figures must be those of the host."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tiny_models
from targets.local_sshd import FLAKY, LocalSSHD

from edgecnn.errors import TargetError
from edgecnn.ondevice import receive
from edgecnn.ondevice.predict import Prediction, Unreadable
from edgecnn.target_file import Address
from edgecnn.targets import SSHOptions, open_target
from edgecnn.targets import target as target_module
from edgecnn.targets.host import HostTarget
from edgecnn.targets.record import BenchmarkJob
from edgecnn.targets.remote import RemoteTarget
from edgecnn.targets.ssh import Connection

IMAGES = tiny_models.random_images(25)
HOST = HostTarget()


def evaluate(target: RemoteTarget | HostTarget, models) -> np.ndarray:
    manifest = tiny_models.manifest_for(models.int8_tflite, "int8")
    return target.evaluate(models.int8_tflite, manifest, IMAGES, "litert")


def fault_of(target: RemoteTarget, models) -> TargetError:
    with pytest.raises(TargetError) as caught:
        evaluate(target, models)
    assert caught.value.exit_code == 3
    return caught.value


def processes_with(words: str) -> list[int]:
    """Of this machine's processes, those whose command line holds `words`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if words in path.read_bytes().replace(b"\0", b" ").decode(errors="replace"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def wait_until(true, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


# What it returns


def test_probe_tells_of_the_board(sshd: LocalSSHD):
    environment = sshd.target().probe()
    assert environment.target == "pi4" and environment.python.startswith(sys.version.split()[0])
    assert "litert" in environment.runtimes


def test_outputs_are_those_of_the_host(sshd: LocalSSHD, models):
    np.testing.assert_array_equal(evaluate(sshd.target(), models), evaluate(HOST, models))


def test_images_go_in_parts_where_they_are_many(sshd: LocalSSHD, models, monkeypatch: pytest.MonkeyPatch):
    whole = evaluate(HOST, models)
    monkeypatch.setattr(target_module, "LARGEST_PART_BYTES", 10 * IMAGES[0].nbytes)
    np.testing.assert_array_equal(evaluate(sshd.target(), models), whole)
    assert len(list(sshd.cache.rglob("images.npy"))) == 3


def test_no_images_at_all(sshd: LocalSSHD, models):
    manifest = tiny_models.manifest_for(models.int8_tflite, "int8")
    outputs = sshd.target().evaluate(models.int8_tflite, manifest, IMAGES[:0], "litert")
    assert outputs.shape == (0, 3)


def test_run_benchmark_and_memory(sshd: LocalSSHD, models):
    target = sshd.target()
    inputs = {"image": np.zeros((2, 1, 1, 4, 4), np.float32)}
    outputs = target.run(models.fp32_onnx, inputs, "onnxruntime")
    assert outputs["logits"].shape == (2, 1, 3)
    jobs = [BenchmarkJob(models.fp32_onnx, "onnxruntime"), BenchmarkJob(models.int8_tflite, "litert")]
    onnx, tflite = target.benchmark(jobs, rounds=2, min_total_s=0.1)
    assert (onnx.target, onnx.file, tflite.file) == ("pi4", "fp32.onnx", "int8.tflite")
    assert len(tflite.samples_ms) >= 50 and not tflite.emulated
    memory = target.peak_memory(models.int8_tflite, "litert")
    assert memory.peak_rss_bytes > 2**20


def test_a_picture_that_is_broken_there_is_named_as_the_user_did(sshd: LocalSSHD, models, tmp_path: Path):
    np.save(tmp_path / "a.npy", IMAGES[0])
    (tmp_path / "b c.npy").write_text("no array")
    os.mkfifo(tmp_path / "d.png")
    good, text, pipe = sshd.target().predict(models.fp32_onnx, [tmp_path])
    assert isinstance(good, Prediction) and good.picture == str(tmp_path / "a.npy")
    assert isinstance(text, Unreadable) and text.picture == str(tmp_path / "b c.npy")
    assert str(sshd.folder) not in text.error
    assert pipe == Unreadable(str(tmp_path / "d.png"), "no regular file", "name picture files")


def test_predict_names_the_pictures_as_the_user_did(sshd: LocalSSHD, models, tmp_path: Path):
    np.save(tmp_path / "-one.npy", IMAGES[0])
    (here,) = HOST.predict(models.fp32_onnx, [tmp_path / "-one.npy"], top_k=2)
    (there,) = sshd.target().predict(models.fp32_onnx, [tmp_path / "-one.npy"], top_k=2)
    assert there.picture == str(tmp_path / "-one.npy") and there.guesses == here.guesses


def test_more_pictures_than_fit_in_one_command(
    sshd: LocalSSHD, models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    name = "a name as long as some cameras and most programs for pictures give them, and longer " * 2
    paths = [tmp_path / f"{name}{index}.npy" for index in range(500)]
    for path in paths:
        np.save(path, IMAGES[0])
    target = sshd.target()
    put = target.board.put
    there_once = put(paths[0].read_bytes(), paths[0].name)  # 500 uploads would take long
    monkeypatch.setattr(
        target.board, "put", lambda content, of: there_once if of.startswith(name) else put(content, of)
    )
    there = target.predict(models.fp32_onnx, paths)
    assert [one.picture for one in there] == [str(path) for path in paths]


def test_a_command_that_is_too_long_is_told(sshd: LocalSSHD):
    target = sshd.target()
    with pytest.raises(
        TargetError, match=r"a command of 2\d\d,\d{3} letters: Argument list too long"
    ) as caught:
        target.board.run(["predict", "x" * 200_000], about="a model", timeout_s=60)
    assert caught.value.where == "board" and "fewer files" in (caught.value.fix or "")
    target.close()


def test_runtimes_are_those_of_the_board(sshd: LocalSSHD):
    target = sshd.target()
    assert target.runtimes_for("onnx") == ("onnxruntime",) and target.runtimes_for("tflite")[0] == "litert"
    assert target.runtimes_for("h5") == ()


def test_a_login_shell_that_talks_does_not_disturb(sshd: LocalSSHD, models):
    sshd.set_python(f'echo "Welcome to the board"; exec "{sys.executable}" "$@"')
    np.testing.assert_array_equal(evaluate(sshd.target(), models), evaluate(HOST, models))


def test_the_python_of_the_virtual_environment_is_preferred(sshd: LocalSSHD):
    sshd.set_python("exit 1")
    python = sshd.home / "edgecnn" / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    assert sshd.target().probe().arch


def test_a_home_with_a_space_in_its_name(sshd: LocalSSHD):
    sshd.stop()
    sshd.home = sshd.home.rename(sshd.folder / "home of pi")
    sshd.start()
    sshd.set_python("exit 1")
    python = sshd.home / "edgecnn" / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    assert sshd.target().probe().arch


def test_a_python_that_says_nothing_is_named(sshd: LocalSSHD):
    sshd.set_python("echo 'no such library' >&2; exit 4")
    with pytest.raises(TargetError, match=r"exit code 4 and without an answer\n  \| no such library") as caught:
        sshd.target().probe()
    assert "python3 -V" in (caught.value.fix or "")
    address = Address("pi4", "board", python="~/bin/false", ssh_config=sshd.config)
    (sshd.home / "bin").mkdir()
    (sshd.home / "bin" / "false").symlink_to("/bin/false")
    target = RemoteTarget(address, Connection(address))
    with pytest.raises(TargetError) as caught:
        target.probe()
    assert (caught.value.fix or "").endswith("ssh board ~/bin/false -V")
    target.close()


def test_a_target_of_the_file(sshd: LocalSSHD, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "edgecnn").mkdir()
    (tmp_path / "edgecnn" / "targets.yaml").write_text(
        f"attic:\n  host: board\n  ssh_config: {sshd.config}\n  python: {sys.executable}\n"
        f"  ssh_options: [ConnectTimeout=7]\n"
    )
    sshd.set_python("exit 1")
    target = open_target("attic", SSHOptions())
    assert target.probe().target == "attic"
    target.close()


# Uploads


def test_a_file_is_sent_once(sshd: LocalSSHD, models):
    sshd.make_flaky(10**9)
    evaluate(sshd.target(), models)
    first = sshd.sent_bytes
    evaluate(sshd.target(), models)
    assert first > 30_000 and sshd.sent_bytes < first - 30_000
    assert sshd.partial_files() == []


def test_a_file_that_was_altered_there_is_another_file(sshd: LocalSSHD, models):
    evaluate(sshd.target(), models)
    (cached,) = sshd.cache.rglob("int8.tflite")
    cached.write_bytes(cached.read_bytes()[:-1])
    np.testing.assert_array_equal(evaluate(sshd.target(), models), evaluate(HOST, models))


def test_what_was_not_used_for_long_is_removed_when_the_cache_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(receive, "CACHE", tmp_path)
    monkeypatch.setattr(receive, "LARGEST_CACHE_BYTES", 250)
    for name, age_s in (("old", 9000), ("older", 9900), ("new", 10)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(bytes(100))
        os.utime(tmp_path / name, (time.time() - age_s,) * 2)
    (tmp_path / "cut.part").touch()
    os.utime(tmp_path / "cut.part", (0, 0))
    receive.make_room(50)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old"]


def test_what_another_upload_removes_at_the_same_moment_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(receive, "CACHE", tmp_path)
    left, last_used = tmp_path / "cut.part", receive.last_used
    left.touch()
    os.utime(left, (0, 0))
    looked_at: list[Path] = []

    def used_then_gone(entry: Path) -> float:
        when = last_used(entry)
        looked_at.append(entry)
        if len(looked_at) == 2:  # once for the order, once before it is removed
            entry.unlink()
        return when

    monkeypatch.setattr(receive, "last_used", used_then_gone)
    receive.make_room(50)
    assert list(tmp_path.iterdir()) == []


def test_two_hosts_send_the_same_file_at_once(sshd: LocalSSHD):
    content = os.urandom(300_000)
    targets = [sshd.target() for _ in range(2)]
    paths: list[str] = []
    threads = [
        threading.Thread(target=lambda t=t: paths.append(t.board.put(content, "a.bin"))) for t in targets
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(paths) == 2 and len(set(paths)) == 1 and Path(paths[0]).read_bytes() == content
    assert sshd.partial_files() == []


# Faults: each is told, leaves nothing behind, and the next try succeeds


def total_sent(sshd: LocalSSHD, work) -> int:
    sshd.make_flaky(10**9)
    work()
    return sshd.sent_bytes


def test_the_link_is_cut_at_ten_points_of_an_upload(sshd: LocalSSHD):
    content = os.urandom(400_000)

    def send(content: bytes) -> None:
        target = sshd.target()
        try:
            target.board.put(content, "a.bin")
        finally:
            target.close()

    total = total_sent(sshd, lambda: send(os.urandom(400_000)))
    for tenth in range(10):
        sshd.make_flaky(total * (tenth + 1) // 12)
        with pytest.raises(TargetError, match=r"lost during the upload of a\.bin|no connection") as caught:
            send(content)
        assert caught.value.exit_code == 3 and caught.value.fix
        wait_until(lambda: sshd.partial_files() == [])
        assert content not in [path.read_bytes() for path in sshd.cache.rglob("a.bin")]
    sshd.write_config()
    send(content)
    assert content in [path.read_bytes() for path in sshd.cache.rglob("a.bin")]


def test_the_link_is_cut_at_ten_points_of_a_run(sshd: LocalSSHD, models):
    evaluate(sshd.target(), models)  # all files are there
    expected = evaluate(HOST, models)

    def run() -> np.ndarray:
        target = sshd.target()
        try:
            return evaluate(target, models)
        finally:
            target.close()

    total, n_faults = total_sent(sshd, run), 0
    for tenth in range(10):
        sshd.make_flaky(total * (tenth + 1) // 12)
        try:
            # A cut between two commands does no harm: the next one connects again.
            np.testing.assert_array_equal(run(), expected)
        except TargetError as fault:
            n_faults += 1
            assert "was lost during" in fault.what or "no connection" in fault.what
            assert fault.exit_code == 3 and fault.fix
        wait_until(lambda: not measuring(sshd))
    assert n_faults >= 7
    sshd.write_config()
    np.testing.assert_array_equal(run(), expected)


def slow_python(sshd: LocalSSHD, seconds: int = 120) -> None:
    """`evaluate` takes long on this board."""
    (sshd.bin / "sitecustomize.py").write_text(
        f"import sys, time\nif 'evaluate' in sys.argv and 'supervise' not in sys.argv: time.sleep({seconds})\n"
    )
    sshd.set_python(f'PYTHONPATH="{sshd.bin}" exec "{sys.executable}" "$@"')


def running(sshd: LocalSSHD) -> bool:
    return any("supervise" not in Path(f"/proc/{pid}/cmdline").read_text() for pid in measuring(sshd))


def measuring(sshd: LocalSSHD) -> list[int]:
    return [pid for pid in processes_with(str(sshd.cache)) if pid != os.getpid()]


def test_a_link_that_stalls_is_given_up(sshd: LocalSSHD):
    sshd.make_flaky(100_000, "stall")
    start = time.monotonic()
    with pytest.raises(TargetError, match="connection was lost during the upload") as caught:
        sshd.target(alive_interval_s=1).board.put(os.urandom(400_000), "a.bin")
    assert time.monotonic() - start < 60, "well before the time that an upload may take"
    assert caught.value.exit_code == 3 and caught.value.fix
    sshd.write_config()
    assert sshd.target().board.put(b"again", "a.bin")


def test_a_link_that_stalls_in_the_middle_of_a_run_is_given_up(sshd: LocalSSHD, models):
    evaluate(sshd.target(), models)  # all files are there
    slow_python(sshd)
    sshd.make_flaky(10**9)
    target = sshd.target(alive_interval_s=1)
    target.timeout_s = 20
    faults: list[TargetError] = []
    thread = threading.Thread(target=lambda: faults.append(fault_of(target, models)))
    thread.start()
    wait_until(lambda: running(sshd))
    links = processes_with(str(FLAKY))
    for pid in links:
        os.kill(pid, signal.SIGSTOP)
    start = time.monotonic()
    thread.join(60)
    assert time.monotonic() - start < 15, "well before the time that a run may take"
    assert "the connection was lost during evaluate" in faults[0].what and faults[0].fix
    # The board cannot know that its link is dead: the time limit of the job ends it there.
    wait_until(lambda: not measuring(sshd))
    for pid in links:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert sshd.partial_files() == []
    sshd.set_python(f'exec "{sys.executable}" "$@"')
    sshd.write_config()
    np.testing.assert_array_equal(evaluate(sshd.target(), models), evaluate(HOST, models))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_job_and_its_connection_end_when_its_host_is_killed(sshd: LocalSSHD, models, number: signal.Signals):
    slow_python(sshd)
    # What runs under nohup is deaf to SIGHUP, and so are its children: this host would wait for its job to end.
    script = f"""
import signal, sys
signal.signal(signal.SIGHUP, signal.SIG_DFL)
sys.path.insert(0, {str(Path(tiny_models.__file__).parent)!r})
from pathlib import Path
import tiny_models
from edgecnn.target_file import Address
from edgecnn.targets.remote import RemoteTarget
from edgecnn.targets.ssh import Connection

address = Address("pi4", "board", ssh_config=Path({str(sshd.config)!r}))
model = Path({str(models.int8_tflite)!r})
manifest = tiny_models.manifest_for(model, "int8")
RemoteTarget(address, Connection(address)).evaluate(model, manifest, tiny_models.random_images(2), "litert")
"""
    host = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE)

    def has_started() -> bool:
        assert host.poll() is None, host.communicate()[1].decode()
        return running(sshd)

    wait_until(has_started)
    host.send_signal(number)
    host.communicate()
    wait_until(lambda: not measuring(sshd))
    wait_until(lambda: not processes_with(str(sshd.config)))


def test_sshd_is_killed_in_the_middle_of_a_run(sshd: LocalSSHD, models):
    slow_python(sshd)
    faults: list[TargetError] = []
    thread = threading.Thread(target=lambda: faults.append(fault_of(sshd.target(), models)))
    thread.start()
    wait_until(lambda: running(sshd))
    sshd.stop()
    thread.join(30)
    assert "the connection was lost during evaluate" in faults[0].what
    wait_until(lambda: not measuring(sshd))
    assert sshd.partial_files() == []
    sshd.set_python(f'exec "{sys.executable}" "$@"')
    sshd.start()
    np.testing.assert_array_equal(evaluate(sshd.target(), models), evaluate(HOST, models))


def test_a_job_that_takes_too_long_is_ended_there(sshd: LocalSSHD, models):
    slow_python(sshd)
    target = sshd.target()
    target.timeout_s = 1
    fault = fault_of(target, models)
    assert "evaluate did not end within 1 s" in fault.what and fault.where == "int8.tflite on litert"
    wait_until(lambda: not measuring(sshd))
    assert target.board.connection.is_open, "the connection is still good"


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """A disk of that size at `folder`. Skips the test where none can be mounted."""
    if os.getuid() != 0:
        pytest.skip("only root can mount a small disk")
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("no disk can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(sshd: LocalSSHD):
    with small_disk(sshd.cache, "5m"):
        with pytest.raises(
            TargetError, match=r"the disk is full: 5\.\d MB are free, 6\.0 MB are needed"
        ) as caught:
            sshd.target().board.put(os.urandom(2_000_000), "a.bin")
        assert "free some space" in caught.value.fix and sshd.partial_files() == []
        assert caught.value.exit_code == 3
        assert sshd.target().board.put(b"small", "a.bin")


def test_a_disk_that_is_full_where_the_outputs_go(sshd: LocalSSHD, models):
    manifest = tiny_models.manifest_for(models.int8_tflite, "int8")
    images = tiny_models.random_images(4000)  # outputs of 12 kB, more than the 4 kB that are left
    scratch = sshd.folder / "scratch"
    with small_disk(scratch, "64k"):
        sshd.set_python(f'TMPDIR="{scratch}" exec "{sys.executable}" "$@"')
        (scratch / "others").write_bytes(bytes(60 * 1024))
        with pytest.raises(
            TargetError, match=r"cannot write \S+output\.npy: No space left on device"
        ) as caught:
            sshd.target().evaluate(models.int8_tflite, manifest, images, "litert")
        assert caught.value.exit_code == 3 and "free some space" in caught.value.fix
        assert [path.name for path in scratch.iterdir()] == ["others"], "nothing half-written is left"
        (scratch / "others").unlink()
        there = sshd.target().evaluate(models.int8_tflite, manifest, images, "litert")
    np.testing.assert_array_equal(there, HOST.evaluate(models.int8_tflite, manifest, images, "litert"))


def test_a_disk_that_fills_while_the_file_comes(sshd: LocalSSHD):
    # Writing past the limit fails as on a full disk, with another errno.
    sshd.set_python(f'ulimit -f 100; exec "{sys.executable}" "$@"')
    with pytest.raises(TargetError, match="cannot write") as caught:
        sshd.target().board.put(os.urandom(400_000), "a.bin")
    assert caught.value.fix and sshd.partial_files() == []
    sshd.set_python(f'exec "{sys.executable}" "$@"')
    assert sshd.target().board.put(os.urandom(400_000), "a.bin")


def test_no_python_there(sshd: LocalSSHD, models):
    (sshd.bin / "python3").unlink()
    fault = fault_of(sshd.target(), models)
    assert fault.what == "there is no python3" and "apt install python3" in fault.fix
    sshd.set_python(f'exec "{sys.executable}" "$@"')
    assert evaluate(sshd.target(), models).shape == (25, 3)


def test_a_python_that_is_too_old(sshd: LocalSSHD):
    sshd.set_python(
        f'exec "{sys.executable}" -c "import sys; sys.version_info = (3, 7, 3); sys.version = \'3.7.3 x\'\n'
        'source = sys.argv[2]; del sys.argv[1:3]; exec(source)" "$@"'
    )
    with pytest.raises(TargetError, match=r"its Python is 3\.7\.3; 3\.9 or newer is needed"):
        sshd.target().probe()


def bare_python(sshd: LocalSSHD) -> Path:
    """A Python without any package, as on a fresh Raspberry Pi OS Lite."""
    venv = sshd.folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    return venv / "bin" / "python"


def test_no_numpy_there(sshd: LocalSSHD, models):
    sshd.set_python(f'exec "{bare_python(sshd)}" "$@"')
    fault = fault_of(sshd.target(), models)
    assert "has no numpy" in fault.what and "doctor --target T --fix" in fault.fix


def test_no_runtime_there(sshd: LocalSSHD, models):
    packages = sshd.folder / "packages"
    packages.mkdir()
    for path in Path(np.__file__).parents[1].glob("numpy*"):
        (packages / path.name).symlink_to(path)
    sshd.set_python(f'PYTHONPATH="{packages}" exec "{bare_python(sshd)}" "$@"')
    target = sshd.target()
    assert target.runtimes_for("tflite") == ()
    fault = fault_of(target, models)
    assert fault.what == "litert is not installed" and fault.where == "int8.tflite on litert"
    np.save(sshd.folder / "one.npy", IMAGES[0])
    with pytest.raises(TargetError, match=r"no runtime for \.tflite files is installed") as caught:
        target.predict(models.int8_tflite, [sshd.folder / "one.npy"])
    assert caught.value.fix == "install one there: edgecnn doctor --target pi4 --fix"
    assert fault.fix and sshd.partial_files() == []
    sshd.set_python(f'exec "{sys.executable}" "$@"')
    assert evaluate(sshd.target(), models).shape == (25, 3)


def test_a_runtime_that_crashes(sshd: LocalSSHD, models):
    package = sshd.folder / "packages" / "ai_edge_litert"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "interpreter.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    sshd.set_python(f'PYTHONPATH="{package.parent}" exec "{sys.executable}" "$@"')
    fault = fault_of(sshd.target(), models)
    assert "evaluate crashed in native code (SIGSEGV)" in fault.what
    assert fault.fix and sshd.partial_files() == []
    wait_until(lambda: not measuring(sshd))
    sshd.set_python(f'exec "{sys.executable}" "$@"')
    assert evaluate(sshd.target(), models).shape == (25, 3)


def test_a_missing_model_file(sshd: LocalSSHD, models, tmp_path: Path):
    with pytest.raises(TargetError, match="no such model file"):
        sshd.target().peak_memory(tmp_path / "gone.tflite", "litert")
