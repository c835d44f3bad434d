"""What can be said against a latency figure: a closed set of warnings, each with its threshold and advice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.targets.record import Environment, MeasurementWarning, Round, WarningKind

# Share of the machine's CPU time that others may take. Background services stay below a tenth.
LARGEST_OTHER_SHARE = 0.15
# Where others' time cannot be read: the load per core that was there before we started.
LARGEST_LOAD_PER_CORE = 0.7
# A process that infers without pause and is never kept waiting has a ratio of 1 and more.
SMALLEST_CPU_WALL_RATIO = 0.9
MOST_SWITCHES_PER_S = 100
LARGEST_P90_TO_MEDIAN = 1.5
LARGEST_ROUND_RATIO = 1.25
# Two speeds: this far apart, each of so many samples, and almost none between them. Of samples that are spread
# evenly a third would lie there.
SMALLEST_MODE_RATIO = 1.25
SMALLEST_MODE_SHARE = 0.1
LARGEST_SHARE_BETWEEN = 0.05
FEWEST_SAMPLES = 10
# get_throttled: bits 0-3 are under-voltage, clock capped, throttled, too hot, all now; 16-19 since boot.
THROTTLED_NOW = 0xF
THROTTLED_SINCE_BOOT = 0xF0000
STEADY_GOVERNORS = ("performance",)


def warnings_for(rounds: Sequence[Round], environment: Environment) -> tuple[MeasurementWarning, ...]:
    """Every doubt that the rounds of one record raise."""
    doubts = (
        _busy(rounds, environment.n_cores),
        _bimodal(rounds) or _spread(rounds),
        _unsteady(rounds),
        _rounds_disagree(rounds),
        _governor(environment),
        _throttled(rounds),
        _swapped(rounds),
        _emulated(environment),
    )
    return tuple(doubt for doubt in doubts if doubt is not None)


def _busy(rounds: Sequence[Round], n_cores: int) -> MeasurementWarning | None:
    seen = []
    shares = [one.other_cpu_share for one in rounds if one.other_cpu_share is not None]
    loads = [one.load_1min_before for one in rounds if one.load_1min_before is not None]
    if shares:
        # Preferred to the load average, which still holds our own work of the last minutes.
        if max(shares) > LARGEST_OTHER_SHARE:
            seen.append(f"other processes took {max(shares):.0%} of the CPU time")
    elif loads and loads[0] > LARGEST_LOAD_PER_CORE * n_cores:
        seen.append(f"the load average was {loads[0]:.1f} on {n_cores} cores")
    ratio = min(one.cpu_wall_ratio for one in rounds)
    if ratio < SMALLEST_CPU_WALL_RATIO:
        seen.append(f"the process had a core only {ratio:.0%} of the time")
    switches = max(one.involuntary_switches / one.timed_phase_s for one in rounds)
    if switches > MOST_SWITCHES_PER_S:
        seen.append(f"it was put aside {switches:.0f} times a second")
    if not seen:
        return None
    return MeasurementWarning(
        WarningKind.BUSY,
        "the machine was busy: " + ", ".join(seen),
        "stop what else is running and measure again",
    )


def _bimodal(rounds: Sequence[Round]) -> MeasurementWarning | None:
    """Within a round: the process was moved to another core, or the clock changed, meanwhile."""
    found = next((modes for one in rounds if (modes := _modes(np.asarray(one.samples_ms)))), None)
    if found is None:
        return None
    fast_ms, slow_ms, slow_share = found
    return MeasurementWarning(
        WarningKind.BIMODAL,
        f"inferences had two speeds: {1 - slow_share:.0%} took about {fast_ms:.3g} ms, "
        f"{slow_share:.0%} about {slow_ms:.3g} ms",
        "stop what else is running, or fix the governor, and measure again; the median is one of the two",
    )


def _modes(samples_ms: NDArray[np.float64]) -> tuple[float, float, float] | None:
    """The medians of the fast and the slow samples and the share of the slow ones; None of a single kind."""
    low, high = np.percentile(samples_ms, [5, 95])
    if len(samples_ms) < FEWEST_SAMPLES or _ratio(high, low) <= SMALLEST_MODE_RATIO:
        return None
    third = (high - low) / 3
    fast, slow = samples_ms[samples_ms < low + third], samples_ms[samples_ms > high - third]
    n_least = SMALLEST_MODE_SHARE * len(samples_ms)
    n_between = len(samples_ms) - len(fast) - len(slow)
    if min(len(fast), len(slow)) < n_least or n_between > LARGEST_SHARE_BETWEEN * len(samples_ms):
        return None
    return float(np.median(fast)), float(np.median(slow)), len(slow) / len(samples_ms)


def _spread(rounds: Sequence[Round]) -> MeasurementWarning | None:
    """Within a round: that whole rounds differ is another matter, with another cause."""
    ratio = max(_ratio(np.percentile(one.samples_ms, 90), np.median(one.samples_ms)) for one in rounds)
    if ratio <= LARGEST_P90_TO_MEDIAN:
        return None
    return MeasurementWarning(
        WarningKind.SPREAD,
        f"one inference in ten took {ratio:.1f} times the median or longer",
        "stop what else is running and measure again; compare minima rather than medians",
    )


def _unsteady(rounds: Sequence[Round]) -> MeasurementWarning | None:
    """After the warm-up an inference still took longer in one moment than in the next."""
    unsteady = [one for one in rounds if not one.warmup_steady]
    if not unsteady:
        return None
    longest = max(unsteady, key=lambda one: one.warmup_s)
    return MeasurementWarning(
        WarningKind.UNSTEADY,
        f"in {len(unsteady)} of {len(rounds)} rounds the times had not become steady after "
        f"{longest.warmup_s:.1f} s of warm-up ({longest.warmup_runs:,} inferences)",
        "stop what else is running, or fix the governor, and measure again",
    )


def _rounds_disagree(rounds: Sequence[Round]) -> MeasurementWarning | None:
    medians = [np.median(one.samples_ms) for one in rounds]
    ratio = _ratio(max(medians), min(medians))
    if ratio <= LARGEST_ROUND_RATIO:
        return None
    return MeasurementWarning(
        WarningKind.ROUNDS_DISAGREE,
        f"the medians of the rounds differ by a factor of {ratio:.2f}",
        "measure again with more rounds; on a virtual machine neighbours slow it down unseen",
    )


def _governor(environment: Environment) -> MeasurementWarning | None:
    # None: the machine has no such setting (a virtual machine), or does not show it.
    if environment.governor is None or environment.governor in STEADY_GOVERNORS:
        return None
    return MeasurementWarning(
        WarningKind.GOVERNOR,
        f"the CPU governor is {environment.governor}: the clock follows the load",
        "for steady figures: echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor",
    )


def _throttled(rounds: Sequence[Round]) -> MeasurementWarning | None:
    """Just before or after a round; or in between, as the bits since boot tell where they were not set yet."""
    flags = 0
    for one in rounds:
        before, after = one.throttle_flags_before or 0, one.throttle_flags_after or 0
        flags |= (before | after) & THROTTLED_NOW | after & ~before & THROTTLED_SINCE_BOOT
    if not flags:
        return None
    return MeasurementWarning(
        WarningKind.THROTTLED,
        f"the board slowed its clock down (throttle flags {flags:#x})",
        "use a stronger power supply and cooling, let it cool down, measure again",
    )


def _swapped(rounds: Sequence[Round]) -> MeasurementWarning | None:
    faults = sum(one.major_faults for one in rounds)
    if not faults:
        return None
    return MeasurementWarning(
        WarningKind.SWAPPED,
        f"{faults} pages were read from disk while measuring",
        "free some memory and measure again",
    )


def _emulated(environment: Environment) -> MeasurementWarning | None:
    if not environment.emulated:
        return None
    return MeasurementWarning(
        WarningKind.EMULATED,
        "this machine is emulated: its milliseconds say nothing about the real one",
        "measure on the board itself",
    )


def _ratio(large: np.floating[Any], small: np.floating[Any]) -> float:
    # A coarse clock may read 0 for a very fast model.
    return float(large) / max(float(small), 1e-9)
