"""What a measurement is: plain frozen records, every sample kept, no behaviour.

Of those that come from a machine, `answers.checked` holds types and limits.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import Field

Milliseconds = Annotated[float, Field(ge=0, le=1e9)]


@dataclass(frozen=True)
class Environment:
    """The machine that measured, as far as it tells. None is what could not be read there."""

    target: str
    cpu_model: str | None
    arch: str
    bits: int
    n_cores: int
    governor: str | None
    clock_mhz: float | None
    memory_bytes: int | None
    board_model: str | None
    os: str
    kernel: str
    python: str
    numpy: str
    runtimes: dict[str, str]
    """Name -> version of each runtime that is installed there."""
    load_1min: float | None
    temperature_c: float | None
    throttle_flags: int | None
    """As `vcgencmd get_throttled` gives them: bits 0-3 now, 16-19 since boot."""
    boot_id: str | None
    emulated: bool


@dataclass(frozen=True)
class Survey:
    """What a machine has and lacks for running models: see `ondevice.survey`. None is what cannot be read."""

    arch: str
    bits: int
    board_model: str | None
    cpu_model: str | None
    n_cores: int
    os: str
    kernel: str
    python: str
    python_path: str
    in_venv: bool
    has_venv_module: bool
    externally_managed: bool
    packages: dict[str, str]
    has_picamera2: bool
    memory_bytes: int | None
    disk_free_bytes: int
    emulated: bool
    governor: str | None
    load_1min: float | None
    clock_mhz: float | None
    temperature_c: float | None
    throttle_flags: int | None


class WarningKind(StrEnum):
    """Everything that can be said against a latency figure."""

    BUSY = "busy"
    SPREAD = "spread"
    BIMODAL = "bimodal"
    UNSTEADY = "unsteady"
    ROUNDS_DISAGREE = "rounds_disagree"
    GOVERNOR = "governor"
    THROTTLED = "throttled"
    SWAPPED = "swapped"
    EMULATED = "emulated"


@dataclass(frozen=True)
class MeasurementWarning:
    """`text` says what was seen, with its figures; `advice` what to do about it."""

    kind: WarningKind
    text: str
    advice: str


@dataclass(frozen=True)
class BenchmarkJob:
    """One thing to time: a model file on a runtime with a thread count."""

    model_path: Path
    runtime: str
    num_threads: int = 1


@dataclass(frozen=True)
class Round:
    """One process launch: load, first run, warm-up, then the timed phase. All samples are in `samples_ms`."""

    load_ms: Milliseconds
    first_run_ms: Milliseconds
    warmup_runs: int
    warmup_s: float
    warmup_steady: bool
    """Whether the warm-up reached what its rule asks for, before it was given up."""
    n_runs: int
    """Inferences in the timed phase; every `timed_every`-th of them was timed by itself."""
    timed_every: int
    timed_phase_s: Annotated[float, Field(gt=0)]
    samples_ms: Annotated[tuple[Milliseconds, ...], Field(min_length=1)]
    cpu_wall_ratio: float
    """CPU seconds of the process per second of the timed phase; `num_threads` if all threads were busy."""
    involuntary_switches: int
    major_faults: int
    other_cpu_share: float | None
    """Share of the machine's CPU time that other processes took in the timed phase, 0..1."""
    load_1min_before: float | None
    load_1min_after: float | None
    governor_before: str | None
    governor_after: str | None
    clock_mhz_before: float | None
    clock_mhz_after: float | None
    temperature_c_before: float | None
    temperature_c_after: float | None
    throttle_flags_before: int | None
    throttle_flags_after: int | None


@dataclass(frozen=True)
class LatencySummary:
    """Milliseconds for one inference at batch 1, over the samples of all rounds."""

    min: float
    median: float
    mean: float
    p90: float
    p99: float
    max: float


@dataclass(frozen=True)
class LatencyRecord:
    """The latency of one artifact on one runtime with one thread count."""

    file: str
    file_sha256: str
    size_bytes: int
    target: str
    runtime: str
    runtime_version: str
    delegate: str | None
    """What computes in place of the runtime's own kernels: XNNPACK or none; None where it does not tell."""
    delegate_version: str | None
    num_threads: int
    affinity: tuple[int, ...] | None
    """Numbers of the cores that the process may run on; None where the system does not tell."""
    emulated: bool
    environment: Environment
    latency_ms: LatencySummary
    median_interval_ms: tuple[float, float]
    """95 % bootstrap interval of the median; rounds are resampled first, then the samples within them."""
    load_ms: float
    first_run_ms: float
    """Medians over the rounds."""
    warmup_rule: str
    warmup_runs: int
    n_runs: int
    """Totals over the rounds."""
    warmup_steady: bool
    """In every round."""
    samples_ms: tuple[float, ...]
    """Every sample of every round, in the order of measuring."""
    rounds: tuple[Round, ...]
    warnings: tuple[MeasurementWarning, ...]


@dataclass(frozen=True)
class MemoryRecord:
    """Resident memory of a fresh process (Python and libraries included) that loads a model and runs it."""

    runtime: str
    runtime_version: str
    num_threads: int
    peak_rss_bytes: int
    """The largest resident size from loading the model on."""
    rss_before_load_bytes: int | None
    """Python, numpy and the imported runtime, without the model."""
    rss_before_runtime_bytes: int | None
    """Python and numpy alone. Both are None where the system does not tell."""
    method: str
    """How the peak was read; `VmHWM, reset before loading` where the kernel allows it."""
