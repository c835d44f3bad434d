"""Budget x measurements -> verdicts. Pure: nothing is read, nothing written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from edgecnn.recipe import Budget
from edgecnn.records import Artifact, Measurement, Status, Verdict

# Differences of image counts, as fractions, are compared with room for floating-point dust only.
DUST = 1e-9


EMULATED = "emulated milliseconds are not judged"
# Doubts that make a time worth nothing to a gate. A busy machine shares its cores.
REFUSED_DOUBTS = ("throttled", "swapped", "busy")


def why_refused(measurement: Measurement) -> str:
    """Why the times of this record are not judged; empty where they are."""
    if measurement.emulated:
        return EMULATED
    doubts = [doubt.text for doubt in measurement.warnings if doubt.kind in REFUSED_DOUBTS]
    return f"these milliseconds are not judged: {'; '.join(doubts)}" if doubts else ""


def judge(budget: Mapping[str, Budget], artifacts: Iterable[Artifact]) -> tuple[Verdict, ...]:
    """One verdict for each limit in `budget` (by artifact key). A limit without its figure is `missing`."""
    found = {artifact.key: artifact for artifact in artifacts}
    return tuple(
        _verdict(metric, key, float(limit), found.get(key))
        for key, limits in budget.items()
        for metric, limit in limits.model_dump().items()
        if limit is not None
    )


def _verdict(metric: str, key: str, limit: float, artifact: Artifact | None) -> Verdict:
    figure, is_floor = FIGURES[metric]
    actual = figure(artifact) if artifact else None
    if actual is None:
        said = _refusal(artifact) if metric == "max_median_ms" and artifact else ""
        status: Status = "refused" if said else "missing"
        return Verdict(metric=metric, artifact=key, limit=limit, actual=None, status=status, said=said)
    holds = actual >= limit - DUST if is_floor else actual <= limit + DUST
    return Verdict(metric=metric, artifact=key, limit=limit, actual=actual, status="pass" if holds else "fail")


def _of_measurements(
    choose: Callable[[Iterable[float]], float],
    figure: Callable[[Measurement], float | None],
    concerns: Callable[[Measurement], bool] = lambda _: True,
) -> Callable[[Artifact], float | None]:
    """The worst figure over the records that a limit concerns: the file must hold on every runtime.

    None where there is no such record, or one of them lacks the figure.
    """

    def worst(artifact: Artifact) -> float | None:
        values = [figure(m) for m in artifact.measurements if concerns(m)]
        known = [value for value in values if value is not None]
        return choose(known) if known and len(known) == len(values) else None

    return worst


def _median_ms(measurement: Measurement) -> float | None:
    if measurement.latency_ms is None or why_refused(measurement):
        return None
    return measurement.latency_ms.median


def _has_one_thread(measurement: Measurement) -> bool:
    return measurement.num_threads == 1


def _refusal(artifact: Artifact) -> str:
    """The first reason among the records that a limit on times concerns."""
    return next((said for m in artifact.measurements if _has_one_thread(m) and (said := why_refused(m))), "")


# metric -> (its figure, whether the limit is a floor)
FIGURES: dict[str, tuple[Callable[[Artifact], float | None], bool]] = {
    "max_size_bytes": (lambda artifact: float(artifact.size_bytes), False),
    "max_accuracy_drop": (_of_measurements(max, lambda m: m.accuracy_drop), False),
    "min_accuracy": (_of_measurements(min, lambda m: m.accuracy), True),
    "max_median_ms": (_of_measurements(max, _median_ms, _has_one_thread), False),
    "max_peak_rss_bytes": (_of_measurements(max, lambda m: m.peak_rss_bytes), False),
}
