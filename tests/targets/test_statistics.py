"""Figures of known samples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn.targets.statistics import median_interval, summarize


def test_known_samples():
    summary = summarize([5.0, 1.0, 2.0, 4.0, 3.0])
    assert (summary.min, summary.median, summary.mean, summary.max) == (1, 3, 3, 5)
    assert summary.p90 == pytest.approx(4.6) and summary.p99 == pytest.approx(4.96)


@given(st.lists(st.floats(1e-4, 1e4), min_size=1, max_size=200))
def test_figures_are_in_order(samples: list[float]):
    one = summarize(samples)
    assert one.min <= one.median <= one.p90 <= one.p99 <= one.max
    assert one.min * (1 - 1e-9) <= one.mean <= one.max * (1 + 1e-9)


@pytest.mark.parametrize("samples", [[], [[1.0, 2.0]]])
def test_nothing_to_summarize(samples: list):
    with pytest.raises(ValueError, match="no samples"):
        summarize(samples)


def test_the_interval_holds_the_median_and_is_seeded():
    rounds = [np.random.default_rng(k).normal(10, 1, 500).tolist() for k in range(3)]
    low, high = median_interval(rounds)
    assert low <= np.median(np.concatenate(rounds)) <= high
    assert high - low < 0.3
    assert (low, high) == median_interval(rounds)


def test_rounds_that_disagree_widen_the_interval():
    """2,000 samples a round say nothing about what the next process will do."""
    random = np.random.default_rng(0)
    rounds = [random.normal(mean, 0.01, 2000) for mean in (10, 12, 14)]
    low, high = median_interval(rounds)
    assert low < 10.1 and high > 13.9


def test_one_constant_round():
    assert median_interval([[2.0, 2.0, 2.0]]) == (2.0, 2.0)
