"""A measurement to build records from."""

from __future__ import annotations

from typing import Any

from edgecnn.records import Latency, Measurement


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
