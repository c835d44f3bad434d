"""The search itself: generations of short trainings, then finalists in full, until the trials are spent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgecnn.search import strategy
from edgecnn.search.candidates import Candidate, Extent, Trial
from edgecnn.search.strategy import Space

Evaluate = Callable[[Sequence[Candidate], Extent], list[Trial]]
"""Trains candidates, in any order or at once, and gives their trials in the order of the candidates."""


@dataclass(frozen=True)
class Found:
    """The trial that the search chose, whether it reaches what was asked for, and all trials, in order."""

    best: Trial
    holds: bool
    trials: tuple[Trial, ...]


def search(
    space: Space, evaluate: Evaluate, *, needed: float, n_trials: int, n_finalists: int, seed: int
) -> Found:
    """The cheapest widths whose quantized network has at least the accuracy `needed` on the validation split.

    `n_trials` short trainings and at most `n_finalists` whole ones, the first of them early: what it adds to
    the short one tells where to look. The same seed and the same outcomes give the same search.
    """
    generator = np.random.default_rng(seed)
    screened = evaluate(strategy.first_generation(space)[:n_trials], "screen")
    finals: list[Trial] = []

    def finish_one() -> bool:
        candidate = strategy.next_finalist(screened, finals, needed)
        if candidate is not None:
            finals.extend(evaluate([candidate], "final"))
        return candidate is not None

    finish_one()
    while len(screened) < n_trials:
        wanted = min(strategy.GENERATION, n_trials - len(screened))
        reach = needed - strategy.gain_of(screened, finals)
        children = strategy.next_generation(space, screened, reach, wanted, generator)
        if not children:
            break
        screened += evaluate(children, "screen")
    while len(finals) < n_finalists and finish_one():
        pass
    best = strategy.best(finals, needed)
    return Found(best, best.accuracy >= needed, (*screened, *finals))
