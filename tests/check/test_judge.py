"""Figures x baseline -> findings."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn.check import allowances
from edgecnn.check.allowances import Allowances
from edgecnn.check.figures import Figures, LatencyFigure
from edgecnn.check.judge import Finding, against_baseline, gone

BEFORE: dict[str, Any] = {
    "size_bytes": 10_000,
    "accuracy": 0.99,
    "accuracy_drop": 0.002,
    "accuracy_drop_half_width": 0.0004,
    "n_images": 10_000,
    "reference_sha256": "d",
    "top1_equal": 1.0,
    "max_lsb": 1,
}


def compared(before: dict[str, Any] | None = None, **changes: Any) -> dict[str, Finding]:
    """The findings by metric for a model whose figures changed by `changes`."""
    was = Figures(**{**BEFORE, **(before or {})})
    now = Figures(**{**BEFORE, **(before or {}), **changes})
    return {one.metric: one for one in against_baseline({"m": now}, {"m": was}, Allowances())}


def test_nothing_moved() -> None:
    assert {one.status for one in compared().values()} == {"pass"}
    assert list(compared()) == ["size", "accuracy", "accuracy_drop", "top1_equal", "max_lsb"]


@pytest.mark.parametrize(("size", "status"), [(9_000, "pass"), (10_100, "pass"), (10_101, "fail"), (0, "pass")])
def test_size_may_grow_by_what_is_allowed(size: int, status: str) -> None:
    found = compared(size_bytes=size)["size"]
    assert (found.status, found.before, found.now, found.limit) == (status, 10_000, size, 10_100)


@pytest.mark.parametrize(
    ("accuracy", "status"),
    [
        (0.995, "pass"),
        (0.989, "pass"),  # exactly what is allowed
        (0.9889, "inconclusive"),
        (0.9882, "inconclusive"),  # beyond by 0.0008, the noise
        (0.9881, "fail"),
        (0.5, "fail"),
    ],
)
def test_accuracy_falls_within_and_beyond_the_noise(accuracy: float, status: str) -> None:
    found = compared(accuracy=accuracy)["accuracy"]
    assert found.status == status
    assert found.limit == pytest.approx(0.989)


def test_the_number_of_images_that_could_tell() -> None:
    # Beyond the allowance by 0.0002, with a noise of 0.0008: four times the precision, 16 times the images.
    assert compared(accuracy=0.9888)["accuracy"].said == "cannot tell: 160,000 images could tell"


def test_the_paired_bound_needs_the_same_dense_network_and_images() -> None:
    assert compared(accuracy=0.9878)["accuracy"].status == "fail"
    unpaired = 1.959964 * math.sqrt(0.99 * 0.01 / 1e4 + 0.9878 * 0.0122 / 1e4)
    assert unpaired > 0.0012
    for change in ({"reference_sha256": "e"}, {"reference_sha256": None}, {"n_images": 9_999}):
        assert compared(accuracy=0.9878, **change)["accuracy"].status == "inconclusive", change


def test_an_accuracy_without_an_interval_is_judged_by_the_binomial_noise() -> None:
    assert compared({"accuracy_drop_half_width": None}, accuracy=0.9878)["accuracy"].status == "inconclusive"
    assert compared({"n_images": None}, accuracy=0.9878)["accuracy"].status == "fail"


def test_a_drop_grows_within_and_beyond_the_noise() -> None:
    assert compared(accuracy_drop=0.003)["accuracy_drop"].status == "pass"
    assert compared(accuracy_drop=0.0035)["accuracy_drop"].status == "inconclusive"
    assert compared(accuracy_drop=0.004)["accuracy_drop"].status == "fail"


def test_parity() -> None:
    assert compared(max_lsb=2)["max_lsb"].status == "fail"
    assert compared(max_lsb=0)["max_lsb"].status == "pass"
    assert compared(top1_equal=0.999)["top1_equal"].status == "pass"
    assert compared(top1_equal=0.9989)["top1_equal"].status == "fail"


def test_a_figure_that_is_gone_is_missing_and_a_new_one_is_told() -> None:
    found = compared(accuracy=None)["accuracy"]
    assert (found.status, found.before, found.now) == ("missing", 0.99, None)
    assert found.fails(allow_missing=False)
    assert not found.fails(allow_missing=True)
    found = compared({"accuracy": None}, accuracy=0.9)["accuracy"]
    assert (found.status, found.said) == ("not compared", "the baseline has no figure")


def test_a_model_that_is_gone_or_new_fails_closed() -> None:
    one = Figures(size_bytes=1)
    found = against_baseline({"new": one, "gone": None}, {"gone": one, "unseen": one}, Allowances())
    assert [(f.model, f.status, f.said) for f in found] == [
        ("gone", "missing", "the file is gone"),
        ("new", "new", "not in the baseline"),
        ("unseen", "missing", "in the baseline, and not among the paths given"),
    ]
    assert all(f.fails(allow_missing=False) for f in found)
    assert not any(f.fails(allow_missing=True) for f in found)
    assert [(f.model, f.status) for f in gone({"a": one, "b": None})] == [("b", "missing")]


def time(median_ms: float, machine: str | None = "A72, litert 2", **more: Any) -> dict[str, LatencyFigure]:
    return {"host litert": LatencyFigure(median_ms=median_ms, machine=machine, **more)}


@pytest.mark.parametrize(
    ("now", "status", "said"),
    [
        (time(1.1), "pass", ""),
        (time(0.1), "pass", ""),
        (time(1.11), "fail", ""),
        (time(9, "A53, litert 2"), "not compared", "measured on A53, litert 2; the baseline on A72, litert 2"),
        (time(9, None), "not compared", "measured on an unknown CPU; the baseline on A72, litert 2"),
        (time(9, emulated=True), "not compared", "emulated milliseconds are not judged"),
        ({}, "missing", "the baseline has this figure, and it was not measured"),
    ],
)
def test_latency_is_compared_on_one_machine(now: dict[str, LatencyFigure], status: str, said: str) -> None:
    found = compared({"latency": time(1.0)}, latency=now)["latency host litert"]
    assert (found.status, found.said) == (status, said)
    assert found.fails(allow_missing=False) == (status in ("fail", "missing"))


def test_unknown_machines_are_not_the_same_one() -> None:
    found = compared({"latency": time(1.0, None)}, latency=time(9, None))["latency host litert"]
    assert found.status == "not compared"


def test_a_time_that_the_baseline_lacks_is_told() -> None:
    assert compared(latency=time(1.0))["latency host litert"].said == "the baseline has no figure"


def test_an_allowance_of_latency_is_for_every_runtime() -> None:
    allowed = Allowances(options=allowances.parse_options(["latency=+1 ms"]))
    was, now = (Figures(size_bytes=1, latency=time(ms)) for ms in (1.0, 2.0))
    found = against_baseline({"m": now}, {"m": was}, allowed)
    assert [one.status for one in found] == ["pass", "pass"]


@pytest.mark.parametrize("status", ["fail", "inconclusive", "refused"])
@pytest.mark.parametrize("allow_missing", [True, False])
def test_only_pass_is_green(status: Any, allow_missing: bool) -> None:
    assert Finding("m", "size", "budget", status).fails(allow_missing=allow_missing)
    assert not Finding("m", "size", "budget", "pass").fails(allow_missing=allow_missing)


@given(before=st.integers(0, 10**9), now=st.integers(0, 10**9))
def test_what_did_not_grow_passes_and_twice_the_size_fails(before: int, now: int) -> None:
    was = {"m": Figures(size_bytes=before)}
    (found,) = against_baseline({"m": Figures(size_bytes=now)}, was, Allowances())
    assert (found.status == "pass") == (100 * now <= 101 * before)
