"""From samples to figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.targets.record import LatencySummary


def summarize(samples_ms: Sequence[float] | NDArray[Any]) -> LatencySummary:
    """Order statistics of all samples; percentiles are interpolated linearly between neighbours."""
    samples = np.asarray(samples_ms, dtype=np.float64)
    if samples.ndim != 1 or len(samples) == 0:
        raise ValueError("no samples to summarize")
    p50, p90, p99 = np.percentile(samples, [50, 90, 99])
    return LatencySummary(
        min=float(samples.min()),
        median=float(p50),
        mean=float(samples.mean()),
        p90=float(p90),
        p99=float(p99),
        max=float(samples.max()),
    )


def median_interval(
    rounds_ms: Sequence[Sequence[float]], *, confidence: float = 0.95, n_resamples: int = 500, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the median over all rounds, in ms.

    Two stages (Davison and Hinkley, Bootstrap Methods, section 3.8): rounds are drawn with replacement, then
    samples within each. Samples of one process share its luck with memory and clock; resampling them
    alone would claim a certainty that the next process does not confirm.
    """
    random = np.random.default_rng(seed)
    rounds = [np.asarray(samples, dtype=np.float64) for samples in rounds_ms]
    medians = np.empty(n_resamples)
    for i in range(n_resamples):
        drawn = [rounds[k] for k in random.integers(len(rounds), size=len(rounds))]
        medians[i] = np.median(np.concatenate([one[random.integers(len(one), size=len(one))] for one in drawn]))
    tail = (1 - confidence) / 2
    low, high = np.quantile(medians, [tail, 1 - tail])
    return float(low), float(high)
