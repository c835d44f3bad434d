"""Timing with a clock and a runtime whose times are known."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_models

from edgecnn.ondevice import benchmark as module
from edgecnn.ondevice.benchmark import (
    WarmUp,
    benchmark,
    example_input,
    machine_busy_s,
    timed_phase,
    warm_up,
)
from edgecnn.ondevice.manifest import DeviceError, TensorSpec
from edgecnn.ondevice.plan import Plan


class ScriptedRuntime:
    """Each `invoke` takes the next of the given nanoseconds on a clock of its own; the last one repeats."""

    def __init__(self, *durations_ns: int) -> None:
        self.now_ns = 0
        self.n_invoked = 0
        self._durations = durations_ns

    def clock(self) -> int:
        return self.now_ns

    def invoke(self) -> None:
        self.now_ns += self._durations[min(self.n_invoked, len(self._durations) - 1)]
        self.n_invoked += 1


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch):
    def start(*durations_ns: int) -> ScriptedRuntime:
        runtime = ScriptedRuntime(*durations_ns)
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter_ns=runtime.clock))
        return runtime

    return start


def test_the_warm_up_ends_when_three_windows_agree(script):
    by_time = script(1_000_000)
    assert warm_up(by_time.invoke, Plan(window_s=0.05)) == WarmUp(150, 0.15, True, 1e6)
    by_count = script(1_000_000_000)
    assert warm_up(by_count.invoke, Plan(window_runs=4)) == WarmUp(12, 12.0, True, 1e9)


def test_the_warm_up_goes_on_while_the_clock_is_rising(script):
    """A governor that follows the load: each window is faster than the one before, up to the highest clock."""
    rising = [ns for ns in (2_000_000, 1_500_000, 1_200_000, 1_060_000, 1_000_000) for _ in range(10)]
    warmed = warm_up(script(*rising).invoke, Plan(window_s=0, window_runs=10))
    # 1.06, 1.00 and 1.00 ms are more than 5 % apart.
    assert (warmed.n_runs, warmed.is_steady, warmed.run_ns) == (70, True, 1e6)


@pytest.mark.parametrize(("third_ns", "n_runs"), [(1_050_000, 12), (1_051_000, 24)])
def test_agreement_is_within_5_percent(script, third_ns: int, n_runs: int):
    durations = [1_000_000] * 8 + [third_ns] * 4 + [1_000_000]
    assert warm_up(script(*durations).invoke, Plan(window_s=0, window_runs=4)).n_runs == n_runs


def test_the_warm_up_is_given_up_where_the_times_go_up_and_down(script):
    bimodal = [1_000_000] * 10 + [2_000_000] * 10
    warmed = warm_up(script(*bimodal * 1000).invoke, Plan(window_s=0, window_runs=10, most_warmup_s=0.3))
    assert not warmed.is_steady
    assert 0.3 <= warmed.seconds <= 0.32, "no more than the window in which the time is up"


def test_a_slow_model_has_its_three_windows_whatever_the_limit(script):
    warmed = warm_up(script(2_000_000_000).invoke, Plan(window_runs=4, most_warmup_s=1.0))
    assert (warmed.n_runs, warmed.is_steady) == (12, True)


def test_a_single_slow_inference_does_not_keep_a_window_from_agreeing(script):
    hiccups = [1000, 1000, 90_000, 1000] * 100
    warmed = warm_up(script(*hiccups).invoke, Plan(window_s=0, window_runs=4))
    assert (warmed.n_runs, warmed.is_steady) == (12, True)


def test_the_rule_is_told():
    assert Plan().warmup_rule == (
        "steady: medians of 3 successive windows within 5%, each of 0.05 s and 4 inferences at least;"
        " given up after 3 s"
    )


def test_each_sample_is_one_inference(script):
    runtime = script(10, 20, 30, 40)
    assert timed_phase(runtime.invoke, Plan(min_s=0, min_samples=4), timed_every=1) == [10, 20, 30, 40]


def test_only_every_kth_inference_is_timed(script):
    runtime = script(1, 2, 3, 10, 20, 30)
    assert timed_phase(runtime.invoke, Plan(min_s=0, min_samples=2), timed_every=3) == [3, 30]
    assert runtime.n_invoked == 6


def test_the_timed_phase_lasts_its_time(script):
    runtime = script(1_000_000)
    samples = timed_phase(runtime.invoke, Plan(min_s=0.5, min_samples=50), timed_every=1)
    assert len(samples) == 500
    slow = script(1_000_000_000)
    assert len(timed_phase(slow.invoke, Plan(min_s=0.5, min_samples=50), timed_every=1)) == 50


def test_garbage_collection_is_off_while_timing_and_on_after_a_fault():
    import gc

    seen = []

    def invoke() -> None:
        seen.append(gc.isenabled())
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        timed_phase(invoke, Plan(), timed_every=1)
    assert seen == [False] and gc.isenabled()


@pytest.mark.parametrize(("kind", "name"), [("fp32_onnx", "onnxruntime"), ("int8_tflite", "litert")])
def test_a_whole_benchmark(models, kind: str, name: str):
    plan = Plan(window_s=0.01, window_runs=5, min_s=0.05, min_samples=20)
    answer = benchmark(getattr(models, kind), name, plan=plan)
    samples = answer["samples_ms"]
    assert len(samples) >= 20 and min(samples) > 0
    assert answer["n_runs"] == len(samples) * answer["timed_every"]
    assert answer["warmup_runs"] >= 15 and answer["warmup_s"] >= 0.03
    assert answer["warmup_rule"] == plan.warmup_rule
    assert answer["affinity"] == sorted(os.sched_getaffinity(0))
    assert answer["timed_phase_s"] >= 0.05
    assert answer["load_ms"] > 0 and answer["first_run_ms"] > 0
    assert 0 < answer["cpu_wall_ratio"] < 1.5
    assert answer["other_cpu_share"] is None or 0 <= answer["other_cpu_share"] <= 1
    assert set(answer["before"]) == set(answer["after"]) >= {"load_1min", "governor", "throttle_flags"}


def test_a_fast_model_yields_about_the_samples_asked_for(models):
    plan = Plan(min_s=0.2, samples_per_s=1000)
    answer = benchmark(models.int8_tflite, "litert", plan=plan)
    assert answer["timed_every"] > 20
    assert 50 <= len(answer["samples_ms"]) < 1000


def test_the_example_input_is_seeded_and_of_the_right_kind():
    floats = example_input(TensorSpec("x", (0, 1, 4, 4), "float32"))
    assert floats.shape == (1, 1, 4, 4) and floats.dtype == np.float32
    np.testing.assert_array_equal(floats, example_input(TensorSpec("x", (1, 1, 4, 4), "float32")))
    integers = example_input(TensorSpec("x", (1, 64, 64, 1), "int8"))
    assert integers.dtype == np.int8 and (integers.min(), integers.max()) == (-128, 127)


def test_latency_is_that_of_batch_1(tmp_path: Path):
    path = tiny_models.write_onnx(tmp_path / "four.onnx", batch=4)
    with pytest.raises(DeviceError, match="batches of 4; latency is that of batch 1"):
        benchmark(path, "onnxruntime")


def test_a_plan_without_samples_is_refused(models):
    with pytest.raises(DeviceError, match="nothing can be measured with Plan"):
        benchmark(models.fp32_onnx, "onnxruntime", plan=Plan(min_samples=0))


def test_the_busy_time_of_the_machine(tmp_path: Path):
    ticks = os.sysconf("SC_CLK_TCK")
    stat = tmp_path / "stat"
    stat.write_text("cpu  100 20 30 4000 50 6 7 8 9 10\ncpu0 1 2 3\ncpu1 1 2 3\nintr 5\ncpufreq 1\n")
    assert machine_busy_s(stat) == ((100 + 20 + 30 + 6 + 7 + 8) / ticks, 2)
    assert machine_busy_s(tmp_path / "gone") is None
