"""Latency of one artifact on one runtime with one thread count, in this process."""

from __future__ import annotations

import gc
import os
import resource
import time
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np
from numpy.typing import NDArray

from edgecnn.ondevice import environment
from edgecnn.ondevice.manifest import DeviceError, TensorSpec
from edgecnn.ondevice.plan import STEADY_WINDOWS, STEADY_WITHIN, Plan
from edgecnn.ondevice.runtimes import load_model, runtime_class

NANOSECONDS = 1_000_000_000


@dataclass(frozen=True)
class WarmUp:
    """How the warm-up went; `run_ns` is the median of its last window, in nanoseconds."""

    n_runs: int
    seconds: float
    is_steady: bool
    run_ns: float


def benchmark(
    model: Path, runtime_name: str, num_threads: int = 1, plan: Optional[Plan] = None
) -> Dict[str, Any]:
    """Loads, runs once, warms up, then times single inferences at batch 1. All times in milliseconds.

    Raises DeviceError where the model cannot be loaded or has no single image input.
    """
    plan = plan or Plan()
    _check(plan)
    before = environment.conditions()
    runtime_class(runtime_name).import_package()
    start = time.perf_counter_ns()
    runtime = load_model(runtime_name, model, num_threads)
    load_ns = time.perf_counter_ns() - start
    runtime.prepare(example_input(runtime.single_input()))
    first_run_ns = _timed(runtime.invoke)
    warmup = warm_up(runtime.invoke, plan)
    # An inference every 0.5 ms is timed by itself. Those between run untimed, which keeps the caches and the
    # clock in the same state: the samples are a systematic sample of single inferences.
    timed_every = max(1, int(NANOSECONDS / plan.samples_per_s / max(warmup.run_ns, 1)))
    usage = _Usage()
    samples_ns = timed_phase(runtime.invoke, plan, timed_every)
    costs = usage.since_start()
    return {
        "runtime": runtime_name,
        "runtime_version": runtime.version,
        "delegate": runtime.delegate,
        "delegate_version": runtime.delegate_version,
        "num_threads": num_threads,
        "affinity": environment.affinity(),
        "load_ms": load_ns / 1e6,
        "first_run_ms": first_run_ns / 1e6,
        "warmup_rule": plan.warmup_rule,
        "warmup_runs": warmup.n_runs,
        "warmup_s": warmup.seconds,
        "warmup_steady": warmup.is_steady,
        "n_runs": len(samples_ns) * timed_every,
        "timed_every": timed_every,
        "samples_ms": [ns / 1e6 for ns in samples_ns],
        **costs,
        "before": before,
        "after": environment.conditions(),
        "emulated": environment.is_emulated(),
    }


def _check(plan: Plan) -> None:
    if min(plan.min_samples, plan.samples_per_s, plan.window_runs) < 1 or plan.min_s < 0:
        raise DeviceError(f"nothing can be measured with {plan}", "ask for at least one sample")


def example_input(spec: TensorSpec) -> NDArray[Any]:
    """A seeded random batch of one, in the shape and dtype of the input."""
    shape = (1, *spec.shape[1:])
    if spec.shape[0] > 1:
        raise DeviceError(
            f"the model takes batches of {spec.shape[0]}; latency is that of batch 1",
            "export it with batch 1",
        )
    random = np.random.default_rng(0)
    if np.issubdtype(np.dtype(spec.dtype), np.integer):
        limits = np.iinfo(spec.dtype)
        return random.integers(limits.min, limits.max, size=shape, endpoint=True).astype(spec.dtype)
    return random.standard_normal(shape).astype(spec.dtype)


def warm_up(invoke: Callable[[], None], plan: Plan) -> WarmUp:
    """Runs in windows until an inference takes as long in one as in the next: see `Plan.warmup_rule`."""
    clock = time.perf_counter_ns
    start, n_runs = clock(), 0
    medians: List[float] = []
    while True:
        window = _window(invoke, plan)
        n_runs += len(window)
        medians.append(float(np.median(window)))
        latest = medians[-STEADY_WINDOWS:]
        seconds = (clock() - start) / NANOSECONDS
        if len(latest) == STEADY_WINDOWS:
            is_steady = max(latest) <= (1 + STEADY_WITHIN) * min(latest)
            if is_steady or seconds >= plan.most_warmup_s:
                return WarmUp(n_runs, seconds, is_steady, latest[-1])


def _window(invoke: Callable[[], None], plan: Plan) -> List[int]:
    """Nanoseconds of each inference of one window."""
    end = time.perf_counter_ns() + int(plan.window_s * NANOSECONDS)
    durations: List[int] = []
    while len(durations) < plan.window_runs or time.perf_counter_ns() < end:
        durations.append(_timed(invoke))
    return durations


def timed_phase(invoke: Callable[[], None], plan: Plan, timed_every: int) -> List[int]:
    """Nanoseconds of every `timed_every`-th inference, until both limits of the plan are reached."""
    clock = time.perf_counter_ns
    samples: List[int] = []
    untimed = timed_every - 1
    gc.collect()
    gc.disable()  # a collection would fall into one inference and be counted as its latency
    try:
        end = clock() + int(plan.min_s * NANOSECONDS)
        while len(samples) < plan.min_samples or clock() < end:
            for _ in repeat(None, untimed):
                invoke()
            start = clock()
            invoke()
            samples.append(clock() - start)
    finally:
        gc.enable()
    return samples


def _timed(invoke: Callable[[], None]) -> int:
    start = time.perf_counter_ns()
    invoke()
    return time.perf_counter_ns() - start


class _Usage:
    """What this process and the others took from the machine since the object was made."""

    def __init__(self) -> None:
        self._machine_s = machine_busy_s()
        self._rusage = resource.getrusage(resource.RUSAGE_SELF)
        self._wall = time.perf_counter()
        self._cpu = time.process_time()

    def since_start(self) -> Dict[str, Any]:
        cpu_s = time.process_time() - self._cpu
        wall_s = max(time.perf_counter() - self._wall, 1e-9)
        rusage = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "timed_phase_s": wall_s,
            "cpu_wall_ratio": cpu_s / wall_s,
            "involuntary_switches": rusage.ru_nivcsw - self._rusage.ru_nivcsw,
            "major_faults": rusage.ru_majflt - self._rusage.ru_majflt,
            "other_cpu_share": self._other_cpu_share(cpu_s, wall_s),
        }

    def _other_cpu_share(self, own_cpu_s: float, wall_s: float) -> Optional[float]:
        now = machine_busy_s()
        if now is None or self._machine_s is None:
            return None
        busy_s, n_cores = now
        others_s = busy_s - self._machine_s[0] - own_cpu_s
        return min(1.0, max(0.0, others_s / (wall_s * n_cores)))


def machine_busy_s(stat: Path = Path("/proc/stat")) -> Optional[Tuple[float, int]]:
    """CPU seconds of all processes since boot, time stolen by a hypervisor included, and how many cores."""
    try:
        lines = stat.read_text().splitlines()
    except OSError:
        return None
    fields = lines[0].split()
    # cpu user nice system idle iowait irq softirq steal guest guest_nice; user holds the guest time already.
    user, nice, system, _, _, irq, softirq, steal = (int(field) for field in fields[1:9])
    n_cores = sum(1 for line in lines if line[:3] == "cpu" and line[3:4].isdigit())
    ticks = user + nice + system + irq + softirq + steal
    return ticks / os.sysconf("SC_CLK_TCK"), n_cores
