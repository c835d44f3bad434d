"""Builds to draw pages of: every part of a report and of an analysis, without training anything."""

from __future__ import annotations

from typing import Any

import numpy as np
from measurements_for_tests import measurement

from edgecnn.analysis.disagreements import png_base64
from edgecnn.analysis.records import (
    ActivationRange,
    Analysis,
    Disagreement,
    Disagreements,
    Epoch,
    FileBytes,
    LayerBytes,
    QuantizationAnalysis,
    WeightRange,
)
from edgecnn.records import (
    Artifact,
    ClassFigures,
    Doubt,
    FloatParity,
    Latency,
    Measurement,
    ParityRecord,
    Report,
    StageFigures,
    Verdict,
)
from edgecnn.report.build import Build

KEYS = ("dense.fp32.onnx", "fp32.onnx", "fp32.tflite", "int8.onnx", "int8.tflite")
FLOAT_KEYS = KEYS[:3]
SIZES = (248_592, 38_342, 37_984, 11_672, 11_584)


def a_report(
    name: str = "quick",
    class_names: tuple[str, ...] = ("cat", "dog", "owl"),
    precision: str = "int8",
    **changes: Any,
) -> Report:
    keys = (*FLOAT_KEYS, f"{precision}.onnx", f"{precision}.tflite")
    values: dict[str, Any] = {
        "recipe": {
            "name": name, "seed": 0, "data": {"name": "mnist"}, "model": {"name": "lenet5", "widths": None},
            "compress": [{"prune": {"ratio": 0.5}}, {"quantize": {"engine": "onnxruntime"}}],
            "sha256": "ab" * 32,
        },
        "environment": {
            "target": "host", "cpu_model": "Cortex-A72", "arch": "aarch64", "memory_bytes": 4_000_000_000,
            "runtimes": {"litert": "2.1"}, "emulated": False, "boot_id": "secret", "governor": None,
        },
        "artifacts": tuple(
            an_artifact(name, key, size, class_names) for key, size in zip(keys, SIZES, strict=True)
        ),
        "stages": tuple(
            StageFigures(
                stage=stage, n_params=9_145, n_macs=319_580, weight_bytes=size - 2_000, file_bytes=size,
                gzip_bytes=size - 500, entropy_bytes=size // 2, n_zeros=100,
                zero_share=0.0125, zero_bytes=400, validation_accuracy=0.99, seconds=12.0,
            )
            for stage, size in (("train", 248_224), ("1-prune", 37_984), ("2-quantize", 11_584))
        ),
        "parity": (
            ParityRecord(
                reference=f"{keys[3]} on onnxruntime, optimizations off", candidate=keys[4],
                runtime="litert", top1_equal=1.0, max_lsb=1, lsb_histogram={"0": 99, "1": 1}, n_images=1000,
            ),
        ),
        "float_parity": (
            FloatParity(
                reference="fp32.onnx on onnxruntime", candidate="fp32.tflite", runtime="litert",
                largest_difference=1e-7, n_images=1000,
            ),
        ),
        "verdicts": (
            Verdict(metric="max_size_bytes", artifact=keys[4], limit=12_000, actual=11_584, status="pass"),
            Verdict(metric="max_accuracy_drop", artifact=keys[4], limit=0.01, actual=0.002, status="pass"),
        ),
    }  # fmt: skip
    return Report(**{**values, **changes})


def an_artifact(name: str, key: str, size: int, class_names: tuple[str, ...]) -> Artifact:
    return Artifact(
        key=key,
        file=f"{name}.{key}",
        format="tflite" if key.endswith("tflite") else "onnx",
        variant="dense" if key.startswith("dense") else "final",
        precision=key.split(".")[-2],
        size_bytes=size,
        weight_bytes=size - 2_000,
        overhead_bytes=2_000,
        sha256=f"{SIZES.index(size)}" * 64,
        n_params=61_706,
        n_macs=416_520,
        measurements=tuple(a_measurement(key, threads, class_names) for threads in (1, 2)),
    )


def a_measurement(key: str, threads: int, class_names: tuple[str, ...]) -> Measurement:
    samples = 0.02 * np.exp(0.1 * np.random.default_rng(len(key)).standard_normal(1500))
    median, p90 = np.percentile(samples, [50, 90])
    n = len(class_names)
    confusion = np.full((n, n), 2) + np.diag([330] * n)
    doubts = (Doubt(kind="busy", text="the machine was busy", advice="measure again"),) if threads > 1 else ()
    return measurement(
        runtime="onnxruntime" if key.endswith("onnx") else "litert",
        num_threads=threads,
        accuracy=0.99 if key.startswith("dense") else 0.988,
        accuracy_drop=0.0 if key.startswith("dense") else 0.002,
        samples_ms=tuple(samples.tolist()),
        latency_ms=Latency(
            min=samples.min(),
            median=median,
            mean=samples.mean(),
            p90=p90,
            p99=float(np.percentile(samples, 99)),
        ),
        load_ms=3.0,
        first_run_ms=0.4,
        peak_rss_bytes=50_000_000,
        per_class=tuple(
            ClassFigures(name=one, precision=0.99, recall=0.98, f1=0.985, n_images=334) for one in class_names
        ),
        confusion=tuple(map(tuple, confusion.tolist())),
        warnings=doubts,
    )


def unlabelled(report: Report) -> Report:
    """`report` of pictures without labels."""
    stages = tuple(stage.model_copy(update={"validation_accuracy": None}) for stage in report.stages)
    return report.model_copy(update={"stages": stages})


def an_analysis(report: Report, layer: str = "conv1") -> Analysis:
    layers = ((layer, 624), ("fc1", 6_580))
    smallest = report.artifacts[-1].key
    picture = np.arange(784, dtype=np.uint8).reshape(28, 28, 1)
    return Analysis(
        sha256={artifact.key: artifact.sha256 for artifact in report.artifacts},
        training=tuple(
            Epoch(
                stage=stage, title=title, epoch=epoch, train_loss=0.5 / epoch, train_accuracy=1 - 0.1 / epoch,
                validation_accuracy=1 - 0.05 / epoch,
            )
            for stage, title, n in (("train", "train", 4), ("1-prune", "prune 1/1", 2))
            for epoch in range(1, n + 1)
        ),
        files={
            artifact.key: FileBytes(
                bytes_by_kind={
                    "weights": artifact.weight_bytes, "biases": 300, "quantization": 500, "names": 1_200,
                },
                layers=tuple(
                    LayerBytes(layer=layer, operator="Conv", n_params=n, weight_bytes=n) for layer, n in layers
                ),
            )
            for artifact in report.artifacts
        },
        quantization=QuantizationAnalysis(
            split="validation",
            n_images=64,
            activations=tuple(
                ActivationRange(
                    tensor=tensor, operator="Conv + Relu", scale=0.03, zero_point=0, low=0.0, high=8.0,
                    float_low=0.0, float_high=8.3, clipped=0.001, sqnr_db=error, own_sqnr_db=44.0,
                )
                for tensor, error in (("images", 47.5), (layer, 41.0), ("fc1", None))
            ),
            weights=tuple(
                WeightRange(
                    layer=layer, shape=(6, 1, 5, 5), granularity="per-channel", low=-0.6, high=0.5, sqnr_db=46.0
                )
                for layer, _ in layers
            ),
            n_unmatched=1,
        ),
        disagreements=Disagreements(
            float_run="fp32.onnx on onnxruntime", int8_run=f"{smallest} on litert", n_images=1000,
            n_only_float_right=1, n_only_int8_right=1, n_both_wrong=1,
            shown=tuple(
                Disagreement(
                    image=image, label=label, float_class=0, int8_class=1, float_outputs=(3.0, 2.0, -1.0),
                    int8_outputs=(2.0, 2.5, -1.0), png=png_base64(picture),
                )
                for image, label in ((17, 0), (23, 1), (4, 2))
            ),
        ),
    )  # fmt: skip


def a_build(name: str = "quick", layer: str = "conv1", *, is_labelled: bool = True, **changes: Any) -> Build:
    report = a_report(name, **changes)
    return Build(
        folder=f"artifacts/{name}",
        report=report if is_labelled else unlabelled(report),
        analysis=an_analysis(report, layer),
        recipe_text=f"version: 1\nname: {name}\n",
        tool_versions={"edgecnn": "0.1.0"},
    )
