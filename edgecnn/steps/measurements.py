"""The stages that measure the files on a target: evaluate (accuracy, parity), then benchmark (time, memory)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgecnn import files
from edgecnn.data import Dataset
from edgecnn.progress import Progress
from edgecnn.records import Artifact, Measurement
from edgecnn.stages import Stage
from edgecnn.steps.boards import board_parity, host_outputs
from edgecnn.steps.evaluation import (
    Outputs,
    accuracy_records,
    dense_classes,
    float_parity_records,
    parity_records,
    run_all,
    thread_counts,
)
from edgecnn.steps.manifests import read_manifest
from edgecnn.steps.networks import Workshop
from edgecnn.steps.rejection import with_rejection
from edgecnn.targets.host import HostTarget
from edgecnn.targets.record import BenchmarkJob, Environment, LatencyRecord
from edgecnn.targets.target import Target

# How long each file is timed: process launches, and seconds of inference over all of them.
ROUNDS = 3
MIN_TOTAL_S = 1.0


def measure_stages(
    shop: Workshop, target: Target, environment: Environment, export: Stage
) -> tuple[Stage, Stage]:
    """The evaluate and benchmark stages for one target."""
    inputs = {
        "target": target.name,
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
        "edgecnn.steps.boards",
        "edgecnn.steps.evaluation",
        "edgecnn.steps.measurements",
        "edgecnn.steps.rejection",
        "edgecnn.targets",
    )
    return (
        Stage(f"evaluate-{target.name}", inputs, evaluate, (export,), code),
        Stage(f"benchmark-{target.name}", {**inputs, **timing}, benchmark, (export,), code),
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
    target: Target,
    environment: Environment,
) -> dict[str, Any]:
    """Runs everything, leaves the raw outputs in `folder`, returns accuracy and parity as plain JSON."""
    test = shop.splits.test
    found = evaluate_all(where, artifacts, test, target, environment, shop.progress)
    for (key, runtime, threads), logits in found.outputs.items():
        path = folder / f"{key}.{runtime}.{threads}.npy"
        with files.replacing(path) as temporary, temporary.open("wb") as file:
            files.save_array(file, logits)
    return {
        "measurements": {key: [m.model_dump(mode="json") for m in ms] for key, ms in found.measured.items()},
        **{
            kind: [record.model_dump(mode="json") for record in records]
            for kind, records in found.parities.items()
        },
    }


@dataclass(frozen=True)
class Evaluated:
    """What running every artifact gave: raw outputs, records by artifact key, parity fields of a report."""

    outputs: Outputs
    measured: dict[str, list[Measurement]]
    parities: dict[str, tuple[Any, ...]]


def evaluate_all(
    folder: Path,
    artifacts: Sequence[Artifact],
    test: Dataset,
    target: Target,
    environment: Environment,
    progress: Progress,
) -> Evaluated:
    """Runs every artifact on `target`. On a board they are compared with the same files on this machine."""
    outputs = run_all(folder, artifacts, test, target, environment, progress)
    on_board = not isinstance(target, HostTarget)
    on_host = host_outputs(folder, artifacts, test, progress) if on_board else {}
    kind = read_manifest(folder / artifacts[0].file).output
    test = test.labelled_by(dense_classes({**on_host, **outputs}))
    measured = accuracy_records(artifacts, outputs, test, environment, reference=on_host, kind=kind)
    if not on_board:
        return Evaluated(
            outputs,
            with_rejection(folder, artifacts, measured, outputs, test),
            {
                "parity": tuple(parity_records(folder, artifacts, outputs, test, target)),
                "float_parity": tuple(float_parity_records(outputs)),
                "board_parity": (),
            },
        )
    compared = board_parity(folder, artifacts, outputs, on_host, target.name)
    measured = with_rejection(folder, artifacts, measured, outputs, test)
    return Evaluated(outputs, measured, {"parity": (), "float_parity": (), "board_parity": tuple(compared)})


def benchmark_files(
    paths: Sequence[Path],
    target: Target,
    environment: Environment,
    progress: Progress,
    *,
    runtimes: Sequence[str] = (),
    threads: Sequence[int] = (),
    rounds: int,
    min_total_s: float,
) -> list[dict[str, Any]]:
    """Latency and peak memory of every file on `runtimes` (default: all that fit) and `threads`.

    Each is a plain dict: the fields of `LatencyRecord`, its rounds as `launches` (their samples are pooled),
    and `peak_rss_bytes`, `rss_before_load_bytes`, `rss_method` from a pass of its own.
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
    plain["launches"] = [_launch(one) for one in plain.pop("rounds")]
    plain["timed_every"] = max(one["timed_every"] for one in plain["launches"])
    return plain


def _launch(of_round: dict[str, Any]) -> dict[str, Any]:
    return {"n_samples": len(of_round["samples_ms"])} | {k: v for k, v in of_round.items() if k != "samples_ms"}


def _memory_fields(memory: dict[str, Any]) -> dict[str, Any]:
    fields = {name: memory[name] for name in ("peak_rss_bytes", "rss_before_load_bytes")}
    return {**fields, "rss_method": memory["method"]}


# What a benchmark adds to a measurement.
TIMING_FIELDS = (
    "delegate",
    "delegate_version",
    "affinity",
    "load_ms",
    "first_run_ms",
    "warmup_rule",
    "warmup_runs",
    "warmup_steady",
    "n_runs",
    "timed_every",
    "latency_ms",
    "median_interval_ms",
    "peak_rss_bytes",
    "rss_before_load_bytes",
    "rss_method",
    "warnings",
    "samples_ms",
    "launches",
    "environment",
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
