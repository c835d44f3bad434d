"""Budget x measurements -> verdicts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from measurements_for_tests import measurement as any_measurement

from edgecnn.gate import judge
from edgecnn.recipe import Budget
from edgecnn.records import Artifact, Doubt, Latency, Measurement


def measurement(**changes: Any) -> Measurement:
    return any_measurement(**{"peak_rss_bytes": 50_000_000, **changes})


def artifact(*measurements: Measurement, size_bytes: int = 10_000) -> Artifact:
    return Artifact(
        key="int8.tflite",
        file="x.int8.tflite",
        format="tflite",
        variant="final",
        precision="int8",
        size_bytes=size_bytes,
        weight_bytes=9_000,
        overhead_bytes=1_000,
        sha256="0" * 64,
        n_params=9_000,
        n_macs=100_000,
        measurements=measurements,
    )


def verdict(limit: dict[str, str], *measurements: Measurement, **of_artifact: Any) -> tuple[str, float | None]:
    (found,) = judge({"int8.tflite": Budget(**limit)}, [artifact(*measurements, **of_artifact)])
    return found.status, found.actual


@pytest.mark.parametrize(
    ("limit", "status", "actual"),
    [
        ({"max_size": "10 kB"}, "pass", 10_000),
        ({"max_size": "9999 B"}, "fail", 10_000),
        ({"max_accuracy_drop": "0.2 pt"}, "pass", 0.002),
        ({"max_accuracy_drop": "0.19 pt"}, "fail", 0.002),
        ({"min_accuracy": "99 %"}, "pass", 0.99),
        ({"min_accuracy": "99.01 %"}, "fail", 0.99),
        ({"max_median": "1 ms"}, "pass", 1.0),
        ({"max_median": "990 us"}, "fail", 1.0),
        ({"max_peak_rss": "50 MB"}, "pass", 50_000_000),
        ({"max_peak_rss": "49 MB"}, "fail", 50_000_000),
    ],
)
def test_each_limit_is_inclusive(limit: dict[str, str], status: str, actual: float) -> None:
    assert verdict(limit, measurement()) == (status, actual)


def test_the_worst_record_counts() -> None:
    records = (measurement(), measurement(runtime="tflite-runtime", accuracy=0.98, accuracy_drop=0.012))
    assert verdict({"max_accuracy_drop": "0.5 pt"}, *records) == ("fail", 0.012)
    assert verdict({"min_accuracy": "98.5 %"}, *records) == ("fail", 0.98)


def test_a_limit_without_its_figure_is_missing_and_not_green() -> None:
    for limit in ({"max_accuracy_drop": "1 pt"}, {"max_median": "1 ms"}, {"max_peak_rss": "1 MB"}):
        assert verdict(limit) == ("missing", None)
    assert verdict({"max_median": "1 ms"}, measurement(latency_ms=None)) == ("missing", None)
    assert verdict({"max_median": "1 ms"}, measurement(), measurement(latency_ms=None)) == ("missing", None)
    assert verdict({"max_peak_rss": "1 GB"[:-2] + "MB"}, measurement(peak_rss_bytes=None))[0] == "missing"
    (found,) = judge({"int8.onnx": Budget(max_size="1 kB")}, [artifact()])
    assert found.status == "missing"


def test_time_is_judged_with_one_thread_and_never_emulated() -> None:
    slow = Latency(min=9, median=9, mean=9, p90=9, p99=9)
    assert (
        verdict({"max_median": "2 ms"}, measurement(), measurement(num_threads=4, latency_ms=slow))[0] == "pass"
    )
    assert verdict({"max_median": "2 ms"}, measurement(emulated=True)) == ("refused", None)


@pytest.mark.parametrize("kind", ["throttled", "swapped", "busy"])
def test_times_that_something_spoiled_are_refused_with_the_reason(kind: str) -> None:
    spoiled = measurement(warnings=(Doubt(kind=kind, text="what was seen", advice="mend it"),))
    (found,) = judge({"int8.tflite": Budget(max_median="2 ms")}, [artifact(measurement(), spoiled)])
    assert (found.status, found.actual) == ("refused", None)
    assert found.said == "these milliseconds are not judged: what was seen"


def test_other_doubts_and_other_thread_counts_do_not_keep_a_time_from_being_judged() -> None:
    governor = Doubt(kind="governor", text="it follows the load", advice="fix it")
    busy = Doubt(kind="busy", text="busy", advice="wait")
    records = (measurement(warnings=(governor,)), measurement(num_threads=4, warnings=(busy,)))
    assert verdict({"max_median": "2 ms"}, *records) == ("pass", 1.0)
    missing = (measurement(latency_ms=None), measurement(num_threads=4, warnings=(busy,)))
    assert verdict({"max_median": "2 ms"}, *missing) == ("missing", None)


@given(n_right=st.integers(0, 10_000), n_dense=st.integers(0, 10_000), limit=st.integers(0, 10_000))
def test_a_drop_of_whole_images_is_compared_without_dust(n_right: int, n_dense: int, limit: int) -> None:
    drop = (n_dense - n_right) / 10_000
    status, _ = verdict({"max_accuracy_drop": f"{limit / 100} pt"}, measurement(accuracy_drop=drop))
    assert status == ("pass" if n_dense - n_right <= limit else "fail")


def test_what_spoils_times_says_nothing_of_other_figures() -> None:
    """They are missing, not refused: measuring again would not help."""
    spoiled = measurement(emulated=True, peak_rss_bytes=None)
    assert verdict({"max_peak_rss": "50 MB"}, spoiled) == ("missing", None)
