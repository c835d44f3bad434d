"""Measuring on this machine: real processes for what they return, scripted ones for how they are called."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models

from edgecnn.errors import TargetError
from edgecnn.metrics import integer_logits, parity
from edgecnn.ondevice.evaluate import evaluate
from edgecnn.targets import open_target, target
from edgecnn.targets.host import HostTarget
from edgecnn.targets.process import run_verb
from edgecnn.targets.record import BenchmarkJob, WarningKind

IMAGES = tiny_models.random_images(25)
HOST = HostTarget(timeout_s=60)
PROBE = {
    "cpu_model": None,
    "arch": "aarch64",
    "bits": 64,
    "n_cores": 4,
    "governor": None,
    "clock_mhz": None,
    "memory_bytes": None,
    "board_model": None,
    "os": "Linux",
    "kernel": "6",
    "python": "3.11",
    "numpy": "1",
    "runtimes": {},
    "load_1min": None,
    "temperature_c": None,
    "throttle_flags": None,
    "boot_id": None,
    "emulated": False,
}
CONDITIONS = {
    "governor": None,
    "load_1min": None,
    "clock_mhz": 1.0,
    "temperature_c": None,
    "throttle_flags": None,
}


class ScriptedProcesses:
    """Stands for `run_verb`: the samples of each process are given in the order of starting."""

    def __init__(self, samples_ms: list[list[float]], /, emulated: bool = False, **planted: object) -> None:
        """`planted`: what the second process tells otherwise."""
        self._planted = planted
        self.started: list[list[str]] = []
        self._samples_ms = iter(samples_ms)
        self._probe = {**PROBE, "emulated": emulated}

    def __call__(self, arguments: list[str], *, about: str, timeout_s: float) -> dict:
        if arguments[0] == "probe":
            return self._probe
        self.started.append(arguments)
        samples = next(self._samples_ms)
        return {
            "runtime_version": "2.0",
            "delegate": "XNNPACK",
            "delegate_version": "as in ai-edge-litert 2.0",
            "affinity": [0, 2],
            "load_ms": float(len(self.started)),
            "first_run_ms": 2.0,
            "warmup_rule": "steady: medians",
            "warmup_runs": 10,
            "warmup_s": 0.15,
            "warmup_steady": True,
            "n_runs": 3 * len(samples),
            "timed_every": 3,
            "timed_phase_s": 1.0,
            "samples_ms": samples,
            "cpu_wall_ratio": 1.0,
            "involuntary_switches": 0,
            "major_faults": 0,
            "other_cpu_share": 0.0,
            "before": CONDITIONS,
            "after": CONDITIONS,
            **(self._planted if len(self.started) == 2 else {}),
        }


def test_the_registry():
    assert open_target("host").name == "host"


def test_probe():
    environment = HOST.probe()
    assert environment.target == "host" and environment.n_cores >= 1
    assert "onnxruntime" in environment.runtimes
    json.dumps(dataclasses.asdict(environment))


def test_runtimes_for():
    assert HOST.runtimes_for("onnx") == ("onnxruntime",)
    assert HOST.runtimes_for("tflite")[0] == "litert"
    assert HOST.runtimes_for("h5") == ()


@pytest.mark.parametrize("as_file", [True, False])
def test_evaluate_gives_what_the_model_gives_in_this_process(models, tmp_path: Path, as_file: bool):
    manifest = tiny_models.manifest_for(models.int8_tflite, "int8")
    images: Path | np.ndarray = IMAGES
    if as_file:
        images = tmp_path / "images.npy"
        np.save(images, IMAGES)
    outputs = HOST.evaluate(models.int8_tflite, manifest, images, "litert")
    np.testing.assert_array_equal(outputs, evaluate(models.int8_tflite, manifest, IMAGES, "litert"))


@pytest.mark.parametrize("as_file", [True, False])
def test_many_images_are_more_than_one_process(
    models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_file: bool
):
    """The time limit is one of a process: a large test set on a busy machine must not run into it."""
    manifest = tiny_models.manifest_for(models.int8_tflite, "int8")
    started = []

    def run(arguments: list[str], **options: Any) -> dict:
        started.append(len(np.load(arguments[arguments.index("--images") + 1])))
        return run_verb(arguments, **options)

    monkeypatch.setattr(target, "LARGEST_PART_BYTES", 10 * IMAGES[0].nbytes)
    images: Path | np.ndarray = IMAGES
    if as_file:
        images = tmp_path / "images.npy"
        np.save(images, IMAGES)
    outputs = HostTarget(run=run).evaluate(models.int8_tflite, manifest, images, "litert")
    assert started == [10, 10, 5]
    np.testing.assert_array_equal(outputs, evaluate(models.int8_tflite, manifest, IMAGES, "litert"))


def test_the_int8_pair_can_be_compared(models):
    manifests = {
        path: tiny_models.manifest_for(path, "int8") for path in (models.int8_onnx, models.int8_tflite)
    }
    onnx = HOST.evaluate(models.int8_onnx, manifests[models.int8_onnx], IMAGES, "onnxruntime", optimize=False)
    tflite = HOST.evaluate(models.int8_tflite, manifests[models.int8_tflite], IMAGES, "litert")
    scale, zero_point = tiny_models.OUTPUT_SCALE, tiny_models.OUTPUT_ZERO_POINT
    pair = parity(integer_logits(onnx, scale, zero_point), integer_logits(tflite, scale, zero_point))
    assert pair.max_lsb <= 1 and pair.n_images == 25


def test_predict_opens_nothing_that_may_never_end_and_tells_where_nothing_is_left(models, tmp_path: Path):
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "gone")
    target = HostTarget(run=lambda *_, **__: pytest.fail("a process for no picture"))
    words = r"2 of 2 pictures cannot be read: a\.png \(no regular file\), b\.png \(there is no such file\)"
    with pytest.raises(TargetError, match=words) as caught:
        target.predict(models.fp32_onnx, [tmp_path])
    assert caught.value.fix == "name picture files"


def test_predict(models, tmp_path: Path):
    np.save(tmp_path / "-one.npy", IMAGES[0])
    (prediction,) = HOST.predict(models.fp32_onnx, [tmp_path / "-one.npy"], top_k=2)
    expected = tiny_models.expected_logits(IMAGES[:1])[0]
    assert prediction.guesses[0].class_index == expected.argmax()
    assert len(prediction.guesses) == 2


def test_peak_memory(models):
    record = HOST.peak_memory(models.int8_tflite, "litert")
    assert record.peak_rss_bytes >= record.rss_before_load_bytes > record.rss_before_runtime_bytes > 2**20
    assert record.runtime == "litert" and record.runtime_version


def test_a_real_benchmark(models):
    jobs = [
        BenchmarkJob(models.fp32_onnx, "onnxruntime", num_threads=2),
        BenchmarkJob(models.int8_tflite, "litert"),
    ]
    onnx, tflite = HOST.benchmark(jobs, rounds=2, min_total_s=0.1)
    assert (onnx.file, onnx.runtime, onnx.num_threads) == ("fp32.onnx", "onnxruntime", 2)
    assert tflite.file_sha256 == hashlib.sha256(models.int8_tflite.read_bytes()).hexdigest()
    for record in (onnx, tflite):
        assert len(record.samples_ms) >= 50 and len(record.rounds) == 2
        assert sum(one.timed_phase_s for one in record.rounds) >= 0.1
        assert 0 < record.latency_ms.min <= record.latency_ms.median <= record.latency_ms.p99
        json.dumps(dataclasses.asdict(record))


def test_jobs_are_interleaved_over_the_rounds_and_samples_pooled(models):
    script = ScriptedProcesses([[1.0, 2.0], [10.0], [3.0], [30.0, 20.0]])
    steps = []
    jobs = [BenchmarkJob(models.fp32_tflite, "litert"), BenchmarkJob(models.int8_tflite, "litert", 4)]
    first, second = HostTarget(run=script).benchmark(
        jobs, rounds=2, on_progress=lambda done, total, job: steps.append((done, total, job.num_threads))
    )
    assert [Path(arguments[1]).name for arguments in script.started] == ["fp32.tflite", "int8.tflite"] * 2
    assert first.samples_ms == (1.0, 2.0, 3.0) and first.latency_ms.median == 2
    assert second.samples_ms == (10.0, 30.0, 20.0) and second.latency_ms.mean == 20
    assert (first.load_ms, second.load_ms) == (2.0, 3.0)  # medians of 1, 3 and of 2, 4
    assert (first.warmup_runs, first.n_runs) == (20, 9)
    assert steps == [(0, 4, 1), (1, 4, 4), (2, 4, 1), (3, 4, 4)]


def option(arguments: list[str], name: str) -> str:
    return arguments[arguments.index(name) + 1]


def test_the_minimum_is_spread_over_the_rounds(models):
    script = ScriptedProcesses([[1.0]] * 3)
    HostTarget(run=script).benchmark([BenchmarkJob(models.fp32_tflite, "litert", 3)], rounds=3, min_total_s=1.5)
    for arguments in script.started:
        assert float(option(arguments, "--min-s")) == 0.5
        assert int(option(arguments, "--min-samples")) * 3 >= 50
        assert option(arguments, "--threads") == "3"


def test_an_emulated_machine_marks_its_records(models):
    script = ScriptedProcesses([[1.0]], emulated=True)
    (record,) = HostTarget(run=script).benchmark([BenchmarkJob(models.fp32_tflite, "litert")], rounds=1)
    assert record.emulated and [one.kind for one in record.warnings] == [WarningKind.EMULATED]


@pytest.mark.parametrize(
    ("planted", "kind"),
    [
        ({"after": {**CONDITIONS, "throttle_flags": 0x40004}}, WarningKind.THROTTLED),
        ({"cpu_wall_ratio": 0.5}, WarningKind.BUSY),
        ({"other_cpu_share": 0.5}, WarningKind.BUSY),
        ({"involuntary_switches": 900}, WarningKind.BUSY),
        ({"major_faults": 3}, WarningKind.SWAPPED),
        ({"warmup_steady": False}, WarningKind.UNSTEADY),
        ({"samples_ms": [1.0] * 30 + [1.5] * 30}, WarningKind.BIMODAL),
        ({"samples_ms": [1.0] * 20 + [1.5] * 40}, WarningKind.BIMODAL),
        ({"samples_ms": [1.4] * 60}, WarningKind.ROUNDS_DISAGREE),
    ],
)
def test_a_planted_fault_of_one_launch_raises_its_warning(models, planted: dict, kind: WarningKind):
    script = ScriptedProcesses([[1.0] * 60] * 3, **planted)
    (record,) = HostTarget(run=script).benchmark([BenchmarkJob(models.fp32_tflite, "litert")])
    kinds = [one.kind for one in record.warnings]
    assert kind in kinds and set(kinds) <= {kind, WarningKind.ROUNDS_DISAGREE}
    (quiet,) = HostTarget(run=ScriptedProcesses([[1.0] * 60] * 3)).benchmark(
        [BenchmarkJob(models.fp32_tflite, "litert")]
    )
    assert quiet.warnings == ()


def test_a_record_tells_the_warm_up_the_delegate_and_the_cores(models):
    script = ScriptedProcesses([[1.0]] * 2, warmup_steady=False, warmup_runs=30)
    (record,) = HostTarget(run=script).benchmark([BenchmarkJob(models.fp32_tflite, "litert")], rounds=2)
    assert (record.warmup_rule, record.warmup_runs, record.warmup_steady) == ("steady: medians", 40, False)
    assert (record.delegate, record.delegate_version) == ("XNNPACK", "as in ai-edge-litert 2.0")
    assert record.affinity == (0, 2) and record.environment.n_cores == 4


def test_no_jobs_and_no_rounds(models):
    assert HOST.benchmark([]) == []
    with pytest.raises(ValueError, match="at least one round"):
        HOST.benchmark([BenchmarkJob(models.fp32_tflite, "litert")], rounds=0)


# Faults reach the user with their fix


def test_a_missing_model(tmp_path: Path):
    with pytest.raises(TargetError, match=r"gone\.tflite on litert: no such model file"):
        HOST.benchmark([BenchmarkJob(tmp_path / "gone.tflite", "litert")])


def test_an_unknown_runtime(models):
    with pytest.raises(TargetError, match="invalid choice: 'tensorrt'"):
        HOST.peak_memory(models.fp32_onnx, "tensorrt")


def test_images_of_another_size(models):
    with pytest.raises(TargetError, match=r"this model takes uint8 \[n, 4, 4, 1\]") as caught:
        manifest = tiny_models.manifest_for(models.fp32_onnx)
        HOST.evaluate(models.fp32_onnx, manifest, np.zeros((1, 5, 5, 1), np.uint8), "onnxruntime")
    assert caught.value.fix


def test_a_model_cut_short_is_a_fault_and_not_a_crash(models, tmp_path: Path):
    cut = tmp_path / "cut.tflite"
    cut.write_bytes(models.int8_tflite.read_bytes()[:300])
    with pytest.raises(TargetError, match=r"cut\.tflite on litert"):
        HOST.peak_memory(cut, "litert")
