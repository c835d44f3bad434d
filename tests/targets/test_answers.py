"""Whatever a board answers, the user is told in one message that names it, and memory is not taken for it."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tracemalloc
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tiny_models
from targets.local_sshd import LocalSSHD
from targets.test_host import CONDITIONS, PROBE, ScriptedProcesses

from edgecnn.errors import TargetError
from edgecnn.ondevice.supervise import ANSWER
from edgecnn.ondevice.written import MOST_FILE_BYTES
from edgecnn.targets import answers
from edgecnn.targets.host import HostTarget
from edgecnn.targets.record import BenchmarkJob
from edgecnn.targets.remote import RemoteTarget

IMAGES = tiny_models.random_images(3)


# A board that lies


def answering(sshd: LocalSSHD, program: str, uploads: bool = True) -> RemoteTarget:
    """A board whose Python runs `program` in place of each verb; `uploads`: it takes files as it should."""
    script = sshd.folder / "lies.py"
    takes = (
        "import os\nif sys.argv[1] == '-c':\n    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])\n"
    )
    script.write_text("import sys\n" + (takes if uploads else "") + program)
    sshd.set_python(f'exec "{sys.executable}" "{script}" "$@"')
    return sshd.target()


def saying(text: str) -> str:
    return f"sys.stdout.write({text!r})\nsys.stdout.flush()\n"


def outcome(stdout: str = "{}", content: bytes = b"", **changes: object) -> str:
    """What says `stdout` of a verb, and sends `content` after it."""
    whole = {"returncode": 0, "timed_out": False, "is_flood": False, "stdout": stdout, "stderr": ""}
    whole |= {"output": None, **changes}
    return saying(ANSWER + json.dumps(whole) + "\n") + f"sys.stdout.buffer.write({content!r})\n"


def fault_of(work) -> TargetError:
    with pytest.raises(TargetError) as caught:
        work()
    fault = caught.value
    assert fault.exit_code == 3 and fault.fix
    assert any(name in f"{fault.where} {fault.fix}" for name in ("board", "pi4")), "it names the board"
    return fault


LINES = {
    "{bad": "Expecting property name",
    "": "Expecting value",
    "[1]": "no JSON object",
    "{}": "",
    '{"error": 5}': "5",
    '{"error": null}': "not which",
    '{"error": ["a"], "fix": {}}': "['a']",
    "[" * 200_000: "nested too deeply",
    '{"a":' * 200_000: "nested too deeply",
    '{"size": NaN}': "NaN is no number",
    '{"size": 1e999}': "1e999 is no number",
    '{"size": ' + "9" * 10_000 + "}": "a number of 10000 digits",
}


def test_lines_that_are_no_answer(sshd: LocalSSHD):
    for line, words in LINES.items():
        target = answering(sshd, saying(f"{ANSWER}{line}\n"))
        fault = fault_of(target.probe)
        assert words in fault.what and fault.where == "board" and len(fault.what) <= answers.MOST_LETTERS
        target.close()


def test_lines_that_are_no_answer_to_an_upload(sshd: LocalSSHD):
    for line in (
        "{bad",
        "[1]",
        "{}",
        '{"have": 5}',
        '{"have": "/a\\u0000b"}',
        '{"have": "\\ud800"}',
        '{"send": 1}',
    ):
        target = answering(sshd, saying(f"{ANSWER}{line}\n"), uploads=False)
        assert "cannot be used" in fault_of(lambda target=target: target.board.put(b"content", "a.bin")).what
        target.close()
    target = answering(sshd, saying(f'{ANSWER}{{"send": true}}\n') * 2, uploads=False)
    assert "it does not say where the file is" in fault_of(lambda: target.board.put(b"content", "a.bin")).what


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (outcome(returncode="x"), "returncode: Input should be a valid integer"),
        (outcome(timed_out="no"), "timed_out"),
        (outcome(stdout=5), "stdout"),
        (outcome("[" * 200_000), "without an answer"),
        (outcome("[1]"), "without an answer"),
        (outcome('{"a": NaN}'), "without an answer"),
        (outcome('{"cpu_model": 1}'), "probe answered what cannot be used"),
        (outcome(json.dumps({**PROBE, "n_cores": "4"})), "n_cores: Input should be a valid integer"),
        (outcome(json.dumps({**PROBE, "target": "another", "runtimes": [1]})), "runtimes"),
        (outcome(output={"size": "x", "sha256": 1}), "output.size"),
        (outcome(output={"size": -1, "sha256": "00"}), "output.size"),
        (outcome(output={"size": 10**12, "sha256": "00"}), "1,000,000,000,000 bytes of outputs"),
        (outcome(output={"size": 2, "sha256": "00"}, content=b"ab"), "not what its sha256 says"),
        (saying("x" * 100) + "while True: sys.stdout.write('x' * (1 << 20))", "a line without end"),
        ("while True: sys.stdout.write('no end\\n' * 10_000)", "lines without end"),
    ],
)
def test_outcomes_that_cannot_be_used(sshd: LocalSSHD, program: str, words: str):
    target = answering(sshd, program)
    assert words in fault_of(target.probe).what


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_verb_that_writes_without_end_there(sshd: LocalSSHD, stream: str):
    (sshd.bin / "sitecustomize.py").write_text(
        "import sys\nif 'probe' in sys.argv and 'supervise' not in sys.argv:\n"
        f"    while True: print('no end ' * 1000, file=sys.{stream})\n"
    )
    sshd.set_python(f'PYTHONPATH="{sshd.bin}" exec "{sys.executable}" "$@"')
    target = sshd.target()
    fault = fault_of(target.probe)
    assert fault.what.startswith("probe wrote more than 30 MB of text and was stopped") and fault.where == "pi4"
    assert target.board.connection.is_open, "the connection is still good"


def test_memory_is_taken_for_what_comes_and_not_for_what_is_said(sshd: LocalSSHD):
    target = answering(sshd, outcome(output={"size": MOST_FILE_BYTES, "sha256": "00"}, content=b"ab"))
    tracemalloc.start()
    fault = fault_of(target.probe)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "without an answer" in fault.what and peak < 20_000_000


def npy(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "it left no output"),
        (b"", "its output cannot be read"),
        (b"no array", "its output cannot be read"),
        (npy(np.zeros((3, 3)))[:-1], "its output cannot be read"),
        (npy(np.array([["a"] * 3] * 3)), "no type of numbers"),
        (npy(np.zeros((2, 3))), "outputs of the shape [2, 3] for 3 images"),
        (npy(np.zeros(())), "outputs of the shape [] for 3 images"),
        (npy(np.zeros((3, 4))), "outputs of 4 x float64 for each image"),
    ],
)
def test_outputs_that_cannot_be_used(sshd: LocalSSHD, models, content: bytes | None, words: str):
    sent = None if content is None else {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    target = answering(sshd, outcome(output=sent, content=content or b""))
    manifest = tiny_models.manifest_for(models.int8_tflite, "int8")
    fault = fault_of(lambda: target.evaluate(models.int8_tflite, manifest, IMAGES, "litert"))
    assert words in fault.what


# What each verb answers


@pytest.mark.parametrize(
    ("planted", "words"),
    [
        ({"samples_ms": []}, "samples_ms"),
        ({"samples_ms": [-1.0]}, "samples_ms.0"),
        ({"samples_ms": 5}, "samples_ms"),
        ({"timed_phase_s": 0.0}, "timed_phase_s"),
        ({"load_ms": 1e300}, "load_ms"),
        ({"before": None}, "before"),
        ({"before": {}}, "load_1min_before"),
        ({"after": {**CONDITIONS, "clock_mhz": "fast"}}, "clock_mhz_after"),
        ({"runtime_version": None}, "runtime_version"),
        ({"affinity": ["0"]}, "affinity.0"),
    ],
)
def test_launches_that_cannot_be_used(models, planted: dict, words: str):
    target = HostTarget(run=ScriptedProcesses([[1.0]] * 2, **planted))
    with pytest.raises(TargetError, match=r"host: benchmark answered what cannot be used") as caught:
        target.benchmark([BenchmarkJob(models.fp32_tflite, "litert")], rounds=2)
    assert words in caught.value.what and caught.value.fix


GUESS = {"class_index": 0, "class_name": "a", "probability": 0.5}
PREDICTION = {"picture": "x", "guesses": [GUESS], "resize_ms": 1.0, "invoke_ms": 1.0}


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"predictions": 5},
        {"predictions": [{}]},
        {"predictions": [{**PREDICTION, "guesses": [{}]}]},
        {"predictions": []},
        {"predictions": [PREDICTION] * 2},
        {"predictions": [{"picture": "x", "error": 5}]},
    ],
)
def test_predictions_that_cannot_be_used(models, tmp_path: Path, answer: dict):
    np.save(tmp_path / "one.npy", IMAGES[0])
    target = HostTarget(run=lambda *_, **__: answer)
    with pytest.raises(TargetError, match="predict answered what cannot be used"):
        target.predict(models.fp32_onnx, [tmp_path / "one.npy"], runtime="onnxruntime")


def test_surveys_and_memory_that_cannot_be_used(models):
    target = HostTarget(run=lambda *_, **__: {"bits": 64})
    with pytest.raises(TargetError, match="survey answered what cannot be used"):
        target.survey()
    with pytest.raises(TargetError, match="memory answered what cannot be used"):
        target.peak_memory(models.fp32_onnx, "onnxruntime")


# Files of arrays


def test_an_array_that_says_it_is_larger_than_its_file(tmp_path: Path):
    path = tmp_path / "huge.npy"
    with path.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (10**12, 3)}
        np.lib.format.write_array_header_1_0(file, header)
        file.write(bytes(100))
    with pytest.raises(TargetError, match="its output cannot be read"):
        answers.array(path, "evaluate", "pi4")


def test_arrays_that_are_packed_or_none(tmp_path: Path):
    path = tmp_path / "out.npz"
    np.savez(path, a=np.arange(3))
    assert answers.arrays(path, "run", "pi4")["a"].tolist() == [0, 1, 2]
    np.savez_compressed(path, a=np.zeros(10**6))
    with pytest.raises(TargetError, match="packed, and may be of any size"):
        answers.arrays(path, "run", "pi4")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", "no array")
    for content in (path.read_bytes(), b"", b"no zip"):
        path.write_bytes(content)
        with pytest.raises(TargetError, match="its output cannot be read"):
            answers.arrays(path, "run", "pi4")


@dataclass(frozen=True)
class Pair:
    names: tuple[str, ...]
    size: float


def test_what_is_right_is_taken_as_it_is():
    found = answers.checked(Pair, {"names": ["a"], "size": 2, "newer": None}, "probe", "pi4")
    assert found == Pair(("a",), 2.0)
