"""A measurement to build records from, and builds that measure briefly."""

from __future__ import annotations

from typing import Any

import pytest

from edgecnn.records import Latency, Measurement
from edgecnn.steps import evaluation, measurements


def measure_briefly(patch: pytest.MonkeyPatch) -> None:
    """Until the patch ends, a build times its files for a moment: the figures themselves are worth nothing."""
    patch.setattr(measurements, "ROUNDS", 1)
    patch.setattr(measurements, "MIN_TOTAL_S", 0.05)


def measure_little(patch: pytest.MonkeyPatch) -> None:
    """Briefly, and with one thread alone: half the processes. For tests of other things than measurements."""
    measure_briefly(patch)
    for module in (evaluation, measurements):
        patch.setattr(module, "thread_counts", lambda _environment: (1,))


def measurement(**changes: Any) -> Measurement:
    median = changes.pop("median", 1.0)
    values: dict[str, Any] = {
        "runtime": "litert",
        "runtime_version": "2.1",
        "target": "host",
        "emulated": False,
        "num_threads": 1,
        "n_images": 10_000,
        "accuracy": 0.99,
        "accuracy_drop": 0.002,
        "accuracy_drop_interval": (0.001, 0.003),
        "mcnemar_p": 0.5,
        "macro_recall": 0.99,
        "macro_f1": 0.99,
        "per_class": (),
        "confusion": (),
        "latency_ms": Latency(min=median, median=median, mean=median, p90=median, p99=median),
    }
    return Measurement(**{**values, **changes})
