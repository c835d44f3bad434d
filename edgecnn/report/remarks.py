"""Sentences that a table of figures needs beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from edgecnn.records import Artifact, Measurement, QuantizationAttempt, Search, Tuning
from edgecnn.units import format_cost, format_share, format_size

# Below this many multiply-accumulates, what onnxruntime spends on each node outweighs the arithmetic.
FEW_MACS = 5_000_000
# Medians nearer to one another are not told apart on a machine that does other things, too.
WORTH_A_REMARK = 1.1


def shown_measurement(artifact: Artifact) -> Measurement | None:
    """The record that a one-line summary shows: one thread on the preferred runtime."""
    single = [m for m in artifact.measurements if m.num_threads == 1]
    return next(iter(single), next(iter(artifact.measurements), None))


def on_search(search: Search | None) -> tuple[str, ...]:
    """What a search chose, and of how many; that nothing was accurate enough."""
    if search is None:
        return ()
    chosen = next(one for one in search.trials if one.extent == "final" and one.widths == search.chosen)
    n_finals = sum(one.extent == "final" for one in search.trials)
    widths = "-".join(map(str, search.chosen))
    said = (
        f"search: {len(search.trials) - n_finals} trials and {n_finals} whole trainings chose widths {widths}: "
        f"{format_cost(search.minimize, chosen.cost)} at {format_share(chosen.accuracy)} on validation "
        f"(needed: {format_share(search.needed_accuracy)})"
    )
    advice = "" if search.holds else "; nothing was accurate enough: allow more drop, trials or epochs"
    return (said + advice,)


def on_tuning(tuning: Tuning | None) -> tuple[str, ...]:
    """Which way of quantizing was chosen, of how many; that none was accurate enough."""
    if tuning is None:
        return ()
    chosen = tuning.attempts[tuning.chosen]
    n = len(tuning.attempts)
    said = (
        f"quantize: {told_attempt(chosen)}: {format_size(chosen.size_bytes)} at "
        f"{format_share(chosen.accuracy)} on validation (needed: {format_share(tuning.needed_accuracy)}), "
        f"of {n} way{'s' * (n > 1)} tried"
    )
    advice = "; none was accurate enough: allow more drop, or add a qat step"
    return (said + ("" if tuning.holds else advice),)


def told_attempt(attempt: QuantizationAttempt) -> str:
    """A way to quantize in a few words: "percentile, biases corrected, conv1 in float32"."""
    said = [attempt.calibrator]
    said += ["channels equalized"] if attempt.equalization else []
    said += ["biases corrected"] if attempt.bias_correction else []
    said += ["dense weights per channel"] if attempt.dense_weights == "per_channel" else []
    said += [f"{', '.join(attempt.float_layers)} in float32"] if attempt.float_layers else []
    return ", ".join(said)


def on_speed(artifacts: Iterable[Artifact]) -> tuple[str, ...]:
    """One sentence for each runtime on which a quantized file is slower than its float twin, and why."""
    found = list(artifacts)
    by_key = {artifact.key: artifact for artifact in found}
    said = []
    for slow in found:
        fast = by_key.get(f"fp32.{slow.format}")
        if fast is None or not slow.is_quantized:
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


# Doubts about a figure itself; a governor that is not fixed is told, and compares alike for both files.
DISTURBED = frozenset({"busy", "rounds_disagree", "throttled", "swapped", "unsteady", "bimodal"})


def comparisons(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Of the records of `edgecnn benchmark`: whether each file is faster or slower than the first one, on the
    same runtime and thread count, or that this cannot be told. Times of an emulated machine are not compared.
    """
    lines = []
    by_run: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for record in records:
        if not record["emulated"]:
            by_run.setdefault((record["runtime"], record["num_threads"]), []).append(record)
    for (runtime, threads), of_run in by_run.items():
        first = of_run[0]
        for other in of_run[1:]:
            where = f"on {runtime}, {threads} thread{'s' if threads > 1 else ''}"
            lines.append(f"{other['file']} against {first['file']} {where}: {_faster_or_slower(first, other)}")
    return lines


def _faster_or_slower(first: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """By the 95 % intervals of the medians: apart, or not."""
    disturbed = {doubt["kind"] for one in (first, other) for doubt in one["warnings"]} & DISTURBED
    if disturbed:
        return f"cannot tell: {', '.join(sorted(disturbed))}"
    (low, high), (other_low, other_high) = first["median_interval_ms"], other["median_interval_ms"]
    factor = other["latency_ms"]["median"] / max(first["latency_ms"]["median"], 1e-9)
    if other_high < low:
        return f"faster, {factor:.2f} times its median"
    if other_low > high:
        return f"slower, {factor:.2f} times its median"
    return "cannot tell: their 95 % intervals overlap"
