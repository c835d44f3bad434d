"""Each planted trouble raises its warning, and a quiet run raises none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgecnn.targets.doubts import warnings_for
from edgecnn.targets.record import Environment, Round, WarningKind

QUIET = Round(
    load_ms=5.0,
    first_run_ms=1.0,
    warmup_runs=100,
    warmup_s=0.15,
    warmup_steady=True,
    n_runs=1000,
    timed_every=1,
    timed_phase_s=1.0,
    samples_ms=(1.0, 1.01, 1.02, 1.0, 1.03),
    cpu_wall_ratio=1.0,
    involuntary_switches=5,
    major_faults=0,
    other_cpu_share=0.02,
    load_1min_before=3.0,
    load_1min_after=3.0,
    governor_before="performance",
    governor_after="performance",
    clock_mhz_before=1500.0,
    clock_mhz_after=1500.0,
    temperature_c_before=50.0,
    temperature_c_after=52.0,
    throttle_flags_before=0x50000,  # in the past, not now
    throttle_flags_after=0x50000,
)
BOARD = Environment(
    target="host",
    cpu_model="Cortex-A72",
    arch="aarch64",
    bits=64,
    n_cores=4,
    governor="performance",
    clock_mhz=1500.0,
    memory_bytes=4 * 10**9,
    board_model="Raspberry Pi 4",
    os="Debian",
    kernel="6.6",
    python="3.11.2",
    numpy="1.26.4",
    runtimes={"litert": "2.3.0"},
    load_1min=0.2,
    temperature_c=50.0,
    throttle_flags=0,
    boot_id="x",
    emulated=False,
)


def doubts(environment: Environment = BOARD, rounds: int = 3, **changes: object) -> dict[WarningKind, str]:
    """Warnings where the second of the rounds has these changes."""
    made = [QUIET] * rounds
    made[1] = replace(QUIET, **changes)
    found = warnings_for(made, environment)
    assert all(one.advice for one in found)
    return {one.kind: one.text for one in found}


def test_a_quiet_run_raises_no_doubt():
    assert doubts() == {}
    assert doubts(replace(BOARD, governor=None)) == {}


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"other_cpu_share": 0.5}, WarningKind.BUSY, "other processes took 50% of the CPU time"),
        ({"cpu_wall_ratio": 0.6}, WarningKind.BUSY, "had a core only 60% of the time"),
        ({"involuntary_switches": 400}, WarningKind.BUSY, "put aside 400 times a second"),
        ({"samples_ms": (1.0,) * 8 + (2.0, 2.4, 3.0, 3.0)}, WarningKind.SPREAD, "2.9 times the median"),
        (
            {"samples_ms": (1.0,) * 8 + (3.0,) * 4},
            WarningKind.BIMODAL,
            "67% took about 1 ms, 33% about 3 ms",
        ),
        (
            {"warmup_steady": False, "warmup_s": 3.02, "warmup_runs": 4321},
            WarningKind.UNSTEADY,
            "in 1 of 3 rounds the times had not become steady after 3.0 s of warm-up (4,321 inferences)",
        ),
        ({"samples_ms": (1.5,) * 5}, WarningKind.ROUNDS_DISAGREE, "factor of 1.49"),
        ({"throttle_flags_after": 0x50005}, WarningKind.THROTTLED, "0x5"),
        ({"throttle_flags_before": 0x50004}, WarningKind.THROTTLED, "0x4"),
        ({"throttle_flags_after": 0xD0000}, WarningKind.THROTTLED, "0x80000"),
        ({"major_faults": 7}, WarningKind.SWAPPED, "7 pages were read from disk"),
    ],
)
def test_a_planted_trouble_raises_its_warning_alone(changes: dict, kind: WarningKind, words: str):
    found = doubts(**changes)
    assert list(found) == [kind]
    assert words in found[kind]


def test_the_load_average_counts_only_where_others_cannot_be_seen():
    """It still holds our own training of the minute before."""
    seen = warnings_for([replace(QUIET, load_1min_before=3.9)], BOARD)
    assert seen == ()
    blind = replace(QUIET, other_cpu_share=None, load_1min_before=3.9)
    (warning,) = warnings_for([blind], BOARD)
    assert warning.kind is WarningKind.BUSY and "the load average was 3.9 on 4 cores" in warning.text
    assert warnings_for([replace(blind, load_1min_before=None)], BOARD) == ()


def test_governor_and_emulation_belong_to_the_machine():
    assert "ondemand" in doubts(replace(BOARD, governor="ondemand"))[WarningKind.GOVERNOR]
    assert list(doubts(replace(BOARD, emulated=True))) == [WarningKind.EMULATED]


@pytest.mark.parametrize("slow_share", [0.15, 0.4, 0.5, 0.6, 0.85])
def test_two_speeds_are_seen_whichever_is_the_median(slow_share: float):
    random = np.random.default_rng(0)
    slow = random.random(1000) < slow_share
    samples = np.where(slow, 1.4, 1.0) * (1 + 0.02 * random.standard_normal(1000))
    found = warnings_for([replace(QUIET, samples_ms=tuple(samples))], BOARD)
    assert [one.kind for one in found] == [WarningKind.BIMODAL]


@pytest.mark.parametrize("sigma", [0.02, 0.1, 0.3])
def test_one_speed_with_noise_and_hiccups_is_not_two(sigma: float):
    random = np.random.default_rng(0)
    samples = np.exp(sigma * random.standard_normal(1000))
    samples[::25] *= 5
    found = warnings_for([replace(QUIET, samples_ms=tuple(samples))], BOARD)
    assert WarningKind.BIMODAL not in [one.kind for one in found]


def test_a_clock_too_coarse_for_the_model_does_not_divide_by_zero():
    assert WarningKind.BIMODAL in doubts(samples_ms=(0.0,) * 8 + (0.001,) * 4)
    assert WarningKind.SPREAD in doubts(samples_ms=(0.0,) * 8 + (0.001,))


def test_kinds_are_plain_words_in_json():
    import json

    assert json.dumps(WarningKind.BUSY) == '"busy"'
