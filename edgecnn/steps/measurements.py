"""The stages that measure the files on a target: evaluate (accuracy, parity), then benchmark (time, memory)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from edgecnn import metrics
from edgecnn.data import Dataset
from edgecnn.errors import UsageError
from edgecnn.ondevice.manifest import DeviceError, Manifest
from edgecnn.progress import Progress
from edgecnn.records import Artifact, ClassFigures, FloatParity, Measurement, ParityRecord
from edgecnn.stages import Stage
from edgecnn.steps.networks import Workshop
from edgecnn.targets import TARGETS
from edgecnn.targets.host import HostTarget
from edgecnn.targets.record import BenchmarkJob, Environment, LatencyRecord

# How long each file is timed: process launches, and seconds of inference over all of them.
ROUNDS = 3
MIN_TOTAL_S = 1.0
# What every drop is measured against.
DENSE = "dense.fp32.onnx"
# The float files of the compressed network, the preferred one first: what `agreement` is measured against.
FLOAT_KEYS = ("fp32.onnx", "fp32.tflite")
PARITY_REFERENCES = (("onnxruntime, optimizations off", False), ("onnxruntime, as users run it", True))


def thread_counts(environment: Environment) -> tuple[int, ...]:
    """One thread, and all cores."""
    return tuple(sorted({1, environment.n_cores}))


def measure_stages(
    shop: Workshop, target_name: str, environment: Environment, export: Stage
) -> tuple[Stage, Stage]:
    """The evaluate and benchmark stages for one target."""
    target = TARGETS[target_name]()
    inputs = {
        "target": target_name,
        "runtimes": environment.runtimes,
        "threads": list(thread_counts(environment)),
        **machine_identity(environment),
    }
    timing = {"rounds": ROUNDS, "min_total_s": MIN_TOTAL_S}

    def evaluate(folder: Path) -> dict[str, Any]:
        return _evaluate(shop, folder, *_exported(shop, export), target, environment)

    def benchmark(_: Path) -> dict[str, Any]:
        where, artifacts = _exported(shop, export)
        now = target.probe()
        paths = [where / artifact.file for artifact in artifacts]
        records = benchmark_files(paths, target, now, shop.progress, rounds=ROUNDS, min_total_s=MIN_TOTAL_S)
        return {"records": records, "environment": asdict(now)}

    code = (
        "edgecnn.data",
        "edgecnn.metrics",
        "edgecnn.ondevice",
        "edgecnn.records",
        "edgecnn.steps.measurements",
        "edgecnn.targets",
    )
    return (
        Stage(f"evaluate-{target_name}", inputs, evaluate, (export,), code),
        Stage(f"benchmark-{target_name}", {**inputs, **timing}, benchmark, (export,), code),
    )


def machine_identity(environment: Environment) -> dict[str, Any]:
    """What makes two machines, or one machine after an upgrade, another place to measure."""
    return {"cpu": environment.cpu_model, "kernel": environment.kernel, "python": environment.python}


def _exported(shop: Workshop, export: Stage) -> tuple[Path, list[Artifact]]:
    """Where the export stage left its files, and what they are."""
    records = shop.store.facts(export)["artifacts"]
    return shop.store.folder(export), [Artifact.model_validate(record) for record in records]


def _evaluate(
    shop: Workshop,
    folder: Path,
    where: Path,
    artifacts: list[Artifact],
    target: HostTarget,
    environment: Environment,
) -> dict[str, Any]:
    """Runs everything, leaves the raw outputs in `folder`, returns accuracy and parity as plain JSON."""
    test = shop.splits.test
    outputs = run_all(where, artifacts, test, target, environment, shop.progress)
    for (key, runtime, threads), logits in outputs.items():
        np.save(folder / f"{key}.{runtime}.{threads}.npy", logits)
    measured = accuracy_records(artifacts, outputs, test, environment)
    parity = parity_records(where, artifacts, outputs, test, target)
    return {
        "measurements": {key: [m.model_dump(mode="json") for m in ms] for key, ms in measured.items()},
        "parity": [record.model_dump(mode="json") for record in parity],
        "float_parity": [record.model_dump(mode="json") for record in float_parity_records(outputs)],
    }


def read_manifest(path: Path) -> Manifest:
    """The manifest beside the model file at `path`. Raises UsageError where there is none that can be read."""
    try:
        return Manifest.read_for(path)
    except DeviceError as fault:
        raise UsageError(fault.what, where=str(path), fix=fault.fix) from fault


Outputs = dict[tuple[str, str, int], np.ndarray]
"""(artifact key, runtime, threads) -> raw outputs [n_images, classes], in the output's own dtype."""


def run_all(
    folder: Path,
    artifacts: Sequence[Artifact],
    test: Dataset,
    target: HostTarget,
    environment: Environment,
    progress: Progress,
) -> Outputs:
    """Every artifact over the whole test set, on every runtime and thread count that the target has for it."""
    runs = [
        (artifact, runtime, threads)
        for artifact in artifacts
        for runtime in target.runtimes_for(artifact.format)
        for threads in thread_counts(environment)
    ]
    progress.start("evaluate", total=len(runs))
    outputs: Outputs = {}
    for artifact, runtime, threads in runs:
        path = folder / artifact.file
        outputs[artifact.key, runtime, threads] = target.evaluate(
            path, read_manifest(path), test.images_nhwc, runtime, num_threads=threads
        )
        progress.advance(1, f"{artifact.key} on {runtime}")
    progress.finish(f"{len(runs)} runs over {len(test):,} test images")
    return outputs


def accuracy_records(
    artifacts: Sequence[Artifact], outputs: Outputs, test: Dataset, environment: Environment
) -> dict[str, list[Measurement]]:
    """By artifact key, one record a run: accuracy and what belongs to it; no times yet."""
    predicted = {run: metrics.top1(logits) for run, logits in outputs.items()}
    dense = next(classes for (key, _, _), classes in predicted.items() if key == DENSE)
    float_key = next((key for key in FLOAT_KEYS if any(run[0] == key for run in predicted)), None)
    float_predicted = next((classes for run, classes in predicted.items() if run[0] == float_key), None)
    records: dict[str, list[Measurement]] = {artifact.key: [] for artifact in artifacts}
    for (key, runtime, threads), classes in predicted.items():
        scores = metrics.score(classes, test.labels, len(test.class_names))
        drop = metrics.accuracy_drop(dense, classes, test.labels)
        float_twin = None if key in (DENSE, float_key) else float_predicted
        records[key].append(
            Measurement(
                runtime=runtime,
                runtime_version=environment.runtimes[runtime],
                target=environment.target,
                emulated=environment.emulated,
                num_threads=threads,
                n_images=len(test),
                accuracy=scores.accuracy,
                accuracy_drop=drop.drop,
                accuracy_drop_interval=(drop.low, drop.high),
                mcnemar_p=drop.mcnemar_p,
                macro_recall=scores.macro_recall,
                macro_f1=scores.macro_f1,
                agreement=metrics.agreement(classes, float_twin) if float_twin is not None else None,
                per_class=tuple(
                    ClassFigures(name=name, **asdict(figures))
                    for name, figures in zip(test.class_names, scores.per_class, strict=True)
                ),
                confusion=scores.confusion,
            )
        )
    return records


def parity_records(
    folder: Path, artifacts: Sequence[Artifact], outputs: Outputs, test: Dataset, target: HostTarget
) -> list[ParityRecord]:
    """The int8 TFLite file on each runtime against the int8 ONNX file, in integer logits, with one thread.

    Both quantize the same preprocessed images by the same arithmetic, so both see the same int8 input.
    """
    by_key = {artifact.key: artifact for artifact in artifacts}
    if "int8.onnx" not in by_key or "int8.tflite" not in by_key:
        return []
    onnx_path, tflite_path = (folder / by_key[key].file for key in ("int8.onnx", "int8.tflite"))
    output = read_manifest(tflite_path).outputs[0]
    if output.scale is None or output.zero_point is None:
        return []
    records = []
    for reference, optimize in PARITY_REFERENCES:
        logits = target.evaluate(
            onnx_path, read_manifest(onnx_path), test.images_nhwc, "onnxruntime", optimize=optimize
        )
        expected = metrics.integer_logits(logits, output.scale, output.zero_point)
        for (key, runtime, threads), raw in outputs.items():
            if key != "int8.tflite" or threads != 1:
                continue
            found = metrics.parity(expected, metrics.integer_logits(raw, output.scale, output.zero_point))
            records.append(
                ParityRecord(
                    reference=f"int8.onnx on {reference}", candidate=key, runtime=runtime, **asdict(found)
                )
            )
    return records


def float_parity_records(outputs: Outputs) -> list[FloatParity]:
    """The float32 TFLite file on each runtime against the float32 ONNX file on onnxruntime, with one thread."""
    expected = outputs.get(("fp32.onnx", "onnxruntime", 1))
    if expected is None:
        return []
    return [
        FloatParity(
            reference="fp32.onnx on onnxruntime",
            candidate=key,
            runtime=runtime,
            largest_difference=float(np.abs(logits - expected).max() / np.abs(expected).max()),
            n_images=len(expected),
        )
        for (key, runtime, threads), logits in outputs.items()
        if key == "fp32.tflite" and threads == 1
    ]


def benchmark_files(
    paths: Sequence[Path],
    target: HostTarget,
    environment: Environment,
    progress: Progress,
    *,
    runtimes: Sequence[str] = (),
    threads: Sequence[int] = (),
    rounds: int,
    min_total_s: float,
) -> list[dict[str, Any]]:
    """Latency and peak memory of every file on `runtimes` (default: all that fit) and `threads`.

    Each is a plain dict: the fields of `LatencyRecord`, its rounds dropped (their samples are pooled),
    and `peak_rss_bytes`, `rss_before_load_bytes` from a pass of its own.
    """
    jobs = [
        BenchmarkJob(path, runtime, count)
        for path in paths
        for runtime in target.runtimes_for(path.suffix.lstrip(".").lower())
        if not runtimes or runtime in runtimes
        for count in threads or thread_counts(environment)
    ]
    progress.start("benchmark", total=len(jobs) * rounds + len(jobs))

    def on_progress(done: int, total: int, job: BenchmarkJob) -> None:
        progress.advance(1, f"round {done // len(jobs) + 1}/{rounds}: {job.model_path.name} on {job.runtime}")

    records = target.benchmark(jobs, rounds=rounds, min_total_s=min_total_s, on_progress=on_progress)
    measured = []
    for job, record in zip(jobs, records, strict=True):
        memory = target.peak_memory(job.model_path, job.runtime, num_threads=job.num_threads)
        progress.advance(1, f"memory: {job.model_path.name} on {job.runtime}")
        measured.append({**_plain(record), **_memory_fields(asdict(memory))})
    progress.finish(f"{len(jobs)} records, {rounds} rounds each")
    return measured


def _plain(record: LatencyRecord) -> dict[str, Any]:
    plain = asdict(record)
    rounds = plain.pop("rounds")
    plain["timed_every"] = max(one["timed_every"] for one in rounds)
    plain["latency_ms"].pop("max")
    return plain


def _memory_fields(memory: dict[str, Any]) -> dict[str, Any]:
    return {name: memory[name] for name in ("peak_rss_bytes", "rss_before_load_bytes")}


# What a benchmark adds to a measurement.
TIMING_FIELDS = (
    "load_ms",
    "first_run_ms",
    "warmup_runs",
    "n_runs",
    "timed_every",
    "latency_ms",
    "median_interval_ms",
    "peak_rss_bytes",
    "rss_before_load_bytes",
    "warnings",
    "samples_ms",
)


def with_times(measurement: Measurement, timed: Mapping[str, Any] | None) -> Measurement:
    """`measurement` with the TIMING_FIELDS of `timed`, a record of the same file, runtime and thread count."""
    if timed is None:
        return measurement
    times = {name: timed[name] for name in TIMING_FIELDS}
    return Measurement.model_validate({**measurement.model_dump(mode="json"), **times})


def record_for(
    measurement: Measurement, file_sha256: str, records: Sequence[dict[str, Any]]
) -> dict[str, Any] | None:
    """The record of `benchmark_files` that times what `measurement` is about."""
    sought = (file_sha256, measurement.target, measurement.runtime, measurement.num_threads)
    return next(
        (r for r in records if (r["file_sha256"], r["target"], r["runtime"], r["num_threads"]) == sought),
        None,
    )
