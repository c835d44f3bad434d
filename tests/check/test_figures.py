"""What is compared of a model: the worst of its records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from check.builds import ENVIRONMENT, artifact, measurement

from edgecnn.check.figures import Figures, LatencyFigure, of_model
from edgecnn.check.models import Model, find
from edgecnn.records import Measurement, ParityRecord


def figures(folder: Path, *measurements: Measurement, **of_the_model: Any) -> Figures:
    built = artifact(folder, "int8.tflite", b"12345", *measurements)
    model = Model("m", "int8.tflite", built, environment=ENVIRONMENT, reference_sha256="d", **of_the_model)
    found = of_model(model)
    assert found is not None
    return found


def test_the_worst_record_counts_with_its_own_drop_and_interval(tmp_path: Path) -> None:
    worse = measurement(
        runtime="tflite-runtime", accuracy=0.98, accuracy_drop=0.012, accuracy_drop_interval=(0.01, 0.016)
    )
    for records in ((measurement(), worse), (worse, measurement())):
        found = figures(tmp_path, *records)
        assert (found.accuracy, found.accuracy_drop) == (0.98, 0.012)
        assert found.accuracy_drop_half_width == pytest.approx(0.003)


def test_latency_is_of_one_thread_by_runtime(tmp_path: Path) -> None:
    records = (
        measurement(num_threads=4, median=9.0),
        measurement(),
        measurement(num_threads=2, median=8.0),
        measurement(runtime="tflite-runtime", runtime_version="2.14", median=2.0, emulated=True),
    )
    assert figures(tmp_path, *records).latency == {
        "host litert": LatencyFigure(median_ms=1.0, machine="Cortex-A72, aarch64, litert 2.1, 1 thread"),
        "host tflite-runtime": LatencyFigure(
            median_ms=2.0,
            machine="Cortex-A72, aarch64, tflite-runtime 2.14, 1 thread",
            emulated=True,
            refused="emulated milliseconds are not judged",
        ),
    }


@pytest.mark.parametrize(
    ("environment", "machine"),
    [
        ({"cpu_model": None, "arch": "x86_64"}, None),
        ({}, None),
        ({"cpu_model": "C", "arch": "a", "board_model": "Pi 4"}, "C, a, Pi 4, litert 2.1, 1 thread"),
    ],
)
def test_the_machine_is_told_by_cpu_board_and_runtime(
    tmp_path: Path, environment: dict[str, Any], machine: str | None
) -> None:
    built = artifact(tmp_path, "int8.tflite", b"1", measurement())
    found = of_model(Model("m", "int8.tflite", built, environment=environment))
    assert found is not None
    assert found.latency["host litert"].machine == machine


def test_the_worst_parity_counts(tmp_path: Path) -> None:
    parity = tuple(
        ParityRecord(
            reference="int8.onnx on onnxruntime",
            candidate="int8.tflite",
            runtime=runtime,
            top1_equal=top1_equal,
            max_lsb=max_lsb,
            lsb_histogram={},
            n_images=10_000,
        )
        for runtime, top1_equal, max_lsb in (("a", 1.0, 3), ("b", 0.99, 1))
    )
    found = figures(tmp_path, parity=parity)
    assert (found.top1_equal, found.max_lsb, found.accuracy) == (0.99, 3, None)


def test_of_a_bare_file_the_size_is_known_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a.ONNX").write_bytes(b"123")
    (model,) = find([tmp_path], tmp_path)
    assert model.name == "a.ONNX"
    assert of_model(model) == Figures(size_bytes=3)


def test_of_a_file_that_is_gone_nothing_is_known() -> None:
    assert of_model(Model("m", "int8.tflite", None)) is None
