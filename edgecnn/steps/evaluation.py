"""What the files are worth on a machine: every artifact over the test images, scored and compared."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn import metrics
from edgecnn.data import Dataset
from edgecnn.ondevice.predict import softmax
from edgecnn.progress import Progress
from edgecnn.records import Agreement, Artifact, ClassFigures, FloatParity, Measurement, ParityRecord
from edgecnn.steps.manifests import read_manifest
from edgecnn.targets.record import Environment
from edgecnn.targets.target import Target

# What every drop is measured against.
DENSE = "dense.fp32.onnx"
# The float files of the compressed network, the preferred one first: what `agreement` is measured against.
FLOAT_KEYS = ("fp32.onnx", "fp32.tflite")
# Of more classes the matrix would be most of the report.
LARGEST_CONFUSION = 100
# Images that are run with every thread count.
N_COMPARED = 1_000
PARITY_REFERENCES = (("onnxruntime, optimizations off", False), ("onnxruntime, as users run it", True))


def thread_counts(environment: Environment) -> tuple[int, ...]:
    """One thread, and all cores."""
    return tuple(sorted({1, environment.n_cores}))


Outputs = dict[tuple[str, str, int], NDArray[Any]]
"""(artifact key, runtime, threads) -> raw outputs [n_images, classes], in the output's own dtype."""


def run_all(
    folder: Path,
    artifacts: Sequence[Artifact],
    test: Dataset,
    target: Target,
    environment: Environment,
    progress: Progress,
) -> Outputs:
    """Every artifact over the test set, on every runtime and thread count that the target has for it."""
    runs = [(artifact, runtime) for artifact in artifacts for runtime in target.runtimes_for(artifact.format)]
    progress.start("evaluate", total=len(runs))
    outputs: Outputs = {}
    for artifact, runtime in runs:
        for threads, raw in _with_all_threads(
            folder / artifact.file, runtime, test, target, environment
        ).items():
            outputs[artifact.key, runtime, threads] = raw
        progress.advance(1, f"{artifact.key} on {runtime}")
    progress.finish(f"{len(outputs)} runs over {len(test):,} test images")
    return outputs


def _with_all_threads(
    path: Path, runtime: str, test: Dataset, target: Target, environment: Environment
) -> dict[int, NDArray[Any]]:
    """The outputs by thread count. A first part of the test set runs with each, the rest with the one that was
    quickest: on a busy machine that is one thread, by far, for several wait for one another. Where another
    gives the same bits for the first part, as it does but for rare kernels, so would it for the rest.
    """
    manifest = read_manifest(path)

    def run(images: NDArray[np.uint8], threads: int) -> tuple[NDArray[Any], float]:
        start = time.monotonic()
        outputs = target.evaluate(path, manifest, images, runtime, num_threads=threads)
        return outputs, time.monotonic() - start

    images = test.images_nhwc
    first = {threads: run(images[:N_COMPARED], threads) for threads in thread_counts(environment)}
    quickest = min(first, key=lambda threads: first[threads][1])
    whole, _ = first[quickest]
    if len(images) > N_COMPARED:
        whole = np.concatenate([whole, run(images[N_COMPARED:], quickest)[0]])
    return {
        threads: whole if np.array_equal(part, first[quickest][0]) else run(images, threads)[0]
        for threads, (part, _) in first.items()
    }


def accuracy_records(
    artifacts: Sequence[Artifact],
    outputs: Outputs,
    test: Dataset,
    environment: Environment,
    reference: Outputs | None = None,
    kind: str = "logits",
) -> dict[str, list[Measurement]]:
    """By artifact key, one record a run: accuracy and what belongs to it; no times yet.

    `reference`: outputs of this machine, for the float networks that a board has no runtime for. `kind`: what
    the networks give, "logits" or "probabilities".
    """
    predicted = {run: metrics.top1(logits) for run, logits in outputs.items()}
    known = {
        **predicted,
        **{run: metrics.top1(raw) for run, raw in (reference or {}).items() if run not in predicted},
    }
    dense = next(classes for (key, _, _), classes in known.items() if key == DENSE)
    float_key = next((key for key in FLOAT_KEYS if any(run[0] == key for run in known)), None)
    float_run = next((run for run in known if run[0] == float_key), None)
    float_logits = {**(reference or {}), **outputs}[float_run] if float_run else None
    records: dict[str, list[Measurement]] = {artifact.key: [] for artifact in artifacts}
    for (key, runtime, threads), classes in predicted.items():
        scores = metrics.score(classes, test.labels, len(test.class_names))
        drop = metrics.accuracy_drop(dense, classes, test.labels)
        follows = None
        if float_logits is not None and key not in (DENSE, float_key):
            wanted = float_logits if kind == "probabilities" else softmax(float_logits)
            follows = metrics.follows(outputs[key, runtime, threads], wanted)
        records[key].append(
            Measurement(
                runtime=runtime,
                runtime_version=environment.runtimes[runtime],
                target=environment.target,
                emulated=environment.emulated,
                num_threads=threads,
                n_images=len(test),
                accuracy=scores.accuracy,
                accuracy_drop=drop.drop,
                accuracy_drop_interval=(drop.low, drop.high),
                mcnemar_p=drop.mcnemar_p,
                macro_recall=scores.macro_recall,
                macro_f1=scores.macro_f1,
                agreement=follows.top1 if follows else None,
                follows=Agreement(**asdict(follows)) if follows else None,
                per_class=tuple(
                    ClassFigures(name=name, **asdict(figures))
                    for name, figures in zip(test.class_names, scores.per_class, strict=True)
                ),
                confusion=scores.confusion if len(test.class_names) <= LARGEST_CONFUSION else (),
            )
        )
    return records


def dense_classes(outputs: Outputs) -> NDArray[Any]:
    """What the dense float32 network says of each image: the labels of pictures that have none."""
    return metrics.top1(next(raw for (key, _, _), raw in outputs.items() if key == DENSE))


def parity_records(
    folder: Path, artifacts: Sequence[Artifact], outputs: Outputs, test: Dataset, target: Target
) -> list[ParityRecord]:
    """The quantized TFLite file on each runtime against the quantized ONNX file, in integer logits, one thread.

    Both quantize the same preprocessed images by the same arithmetic, so both see the same int8 input.
    """
    quantized = {a.format: a for a in artifacts if a.is_quantized}
    if quantized.keys() != {"onnx", "tflite"}:
        return []
    onnx_path, tflite_path = (folder / quantized[one].file for one in ("onnx", "tflite"))
    output = read_manifest(tflite_path).outputs[0]
    if output.scale is None or output.zero_point is None:
        return []
    records = []
    for reference, optimize in PARITY_REFERENCES:
        logits = target.evaluate(
            onnx_path,
            read_manifest(onnx_path),
            test.images_nhwc,
            "onnxruntime",
            optimize=optimize,
            num_threads=max(threads for _, _, threads in outputs),
        )
        expected = metrics.integer_logits(logits, output.scale, output.zero_point)
        for (key, runtime, threads), raw in outputs.items():
            if key != quantized["tflite"].key or threads != 1:
                continue
            found = metrics.parity(expected, metrics.integer_logits(raw, output.scale, output.zero_point))
            records.append(
                ParityRecord(
                    reference=f"{quantized['onnx'].key} on {reference}",
                    candidate=key,
                    runtime=runtime,
                    **asdict(found),
                )
            )
    return records


def float_parity_records(outputs: Outputs) -> list[FloatParity]:
    """The float32 TFLite file on each runtime against the float32 ONNX file on onnxruntime, with one thread."""
    expected = outputs.get(("fp32.onnx", "onnxruntime", 1))
    if expected is None:
        return []
    return [
        FloatParity(
            reference="fp32.onnx on onnxruntime",
            candidate=key,
            runtime=runtime,
            largest_difference=float(np.abs(logits - expected).max() / np.abs(expected).max()),
            n_images=len(expected),
        )
        for (key, runtime, threads), logits in outputs.items()
        if key == "fp32.tflite" and threads == 1
    ]
