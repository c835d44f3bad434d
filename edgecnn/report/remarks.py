"""Sentences that a table of figures needs beside it."""

from __future__ import annotations

from collections.abc import Iterable

from edgecnn.records import Artifact, Measurement

# Below this many multiply-accumulates, what onnxruntime spends on each node outweighs the arithmetic.
FEW_MACS = 5_000_000


def shown_measurement(artifact: Artifact) -> Measurement | None:
    """The record that a one-line summary shows: one thread on the preferred runtime."""
    single = [m for m in artifact.measurements if m.num_threads == 1]
    return next(iter(single), next(iter(artifact.measurements), None))


def on_speed(artifacts: Iterable[Artifact]) -> tuple[str, ...]:
    """One sentence for each runtime on which an int8 file is slower than its float twin, with the reason."""
    by_key = {artifact.key: artifact for artifact in artifacts}
    said = []
    for suffix in ("onnx", "tflite"):
        slow, fast = by_key.get(f"int8.{suffix}"), by_key.get(f"fp32.{suffix}")
        if slow is None or fast is None:
            continue
        float_ms = {(m.target, m.runtime): m.latency_ms.median for m in _timed(fast)}
        for m in _timed(slow):
            twin = float_ms.get((m.target, m.runtime))
            if twin is not None and m.latency_ms is not None and m.latency_ms.median > twin:
                factor = m.latency_ms.median / twin
                said.append(
                    f"{slow.key} is {factor:.1f}x slower than {fast.key} on {m.runtime}: {_reason(m, slow)}"
                )
    return tuple(said)


def _timed(artifact: Artifact) -> list[Measurement]:
    return [m for m in artifact.measurements if m.num_threads == 1 and m.latency_ms is not None]


def _reason(measurement: Measurement, artifact: Artifact) -> str:
    if measurement.runtime == "onnxruntime" and artifact.n_macs < FEW_MACS:
        return "the model is too small to repay its quantize nodes"
    if measurement.runtime == "tflite-runtime":
        return "it runs float through XNNPACK, int8 through its own kernels, which are made for Arm"
    if artifact.n_macs < FEW_MACS:
        return "the model is too small for int8 arithmetic to repay its rescaling"
    return "its int8 kernels are slower than its float ones on this machine"
