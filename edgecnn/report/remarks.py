"""Sentences that a table of figures needs beside it."""

from __future__ import annotations

from collections.abc import Iterable

from edgecnn.records import Artifact, Measurement

# Below this many multiply-accumulates, what onnxruntime spends on each node outweighs the arithmetic.
FEW_MACS = 5_000_000
# Medians nearer to one another are not told apart on a machine that does other things, too.
WORTH_A_REMARK = 1.1


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
        float_medians = {(m.target, m.runtime): median for m, median in _medians(fast)}
        for m, median in _medians(slow):
            factor = median / float_medians.get((m.target, m.runtime), median)
            if factor > WORTH_A_REMARK:
                said.append(
                    f"{slow.key} takes {factor:.1f} times as long as {fast.key} on {m.runtime}: "
                    f"{_reason(m, slow)}"
                )
    return tuple(said)


def _medians(artifact: Artifact) -> list[tuple[Measurement, float]]:
    """The records with one thread, each with its median latency in ms."""
    return [
        (m, m.latency_ms.median)
        for m in artifact.measurements
        if m.num_threads == 1 and m.latency_ms is not None
    ]


def _reason(measurement: Measurement, artifact: Artifact) -> str:
    if measurement.runtime == "onnxruntime" and artifact.n_macs < FEW_MACS:
        return "the model is too small to repay its quantize nodes"
    if measurement.runtime == "tflite-runtime":
        # Seen in the interpreter's operators: float ends in a DELEGATE, full int8 in none.
        return "it hands float to XNNPACK, and runs int8 on its own kernels"
    if artifact.n_macs < FEW_MACS:
        return "the model is too small for int8 arithmetic to repay its rescaling"
    return "its int8 kernels are slower than its float ones on this machine"
