"""Build folders for the tests of the check: real reports and recipes around files of chosen sizes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from measurements_for_tests import measurement
from recipes_for_tests import MINIMAL_RECIPE

from edgecnn import recipe_file
from edgecnn.records import Artifact, Measurement, ParityRecord, Report

ENVIRONMENT = {"target": "host", "cpu_model": "Cortex-A72", "arch": "aarch64"}


def artifact(folder: Path, key: str, content: bytes, *measurements: Measurement) -> Artifact:
    file = f"tiny.{key}"
    (folder / file).write_bytes(content)
    return Artifact(
        key=key,
        file=file,
        format="onnx" if key.endswith("onnx") else "tflite",
        variant="dense" if key.startswith("dense") else "final",
        precision="int8" if "int8" in key else "fp32",
        size_bytes=len(content),
        weight_bytes=0,
        overhead_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        n_params=0,
        n_macs=0,
        measurements=measurements,
    )


def build(
    folder: Path,
    *,
    size_bytes: int = 10_000,
    recipe: str = MINIMAL_RECIPE,
    environment: dict[str, Any] = ENVIRONMENT,
    dense: bytes = b"dense",
    environment_of_times: dict[str, Any] | None = None,
    **changes: Any,
) -> Path:
    """A build of a dense network and of its int8 pair; `changes` are of the int8 TFLite file's record."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(recipe)
    built = recipe_file.load(folder / "recipe.yaml").recipe
    artifacts = (
        artifact(folder, "dense.fp32.onnx", dense, measurement(runtime="onnxruntime", accuracy_drop=0.0)),
        artifact(folder, "int8.onnx", b"onnx", measurement(runtime="onnxruntime")),
        artifact(
            folder, "int8.tflite", b"t" * size_bytes, measurement(**changes, environment=environment_of_times)
        ),
    )
    report = Report(
        recipe={"name": built.name, "sha256": built.sha256},
        environment=environment,
        artifacts=artifacts,
        stages=(),
        parity=(
            ParityRecord(
                reference="int8.onnx on onnxruntime, optimizations off",
                candidate="int8.tflite",
                runtime="litert",
                top1_equal=1.0,
                max_lsb=1,
                lsb_histogram={"0": 99_990, "1": 10},
                n_images=10_000,
            ),
        ),
        verdicts=(),
    )
    (folder / "report.json").write_text(report.model_dump_json())
    return folder
