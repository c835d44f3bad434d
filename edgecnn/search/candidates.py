"""What the search tries: the widths of every layer, what the file would cost, what came of training it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Widths = tuple[int, ...]
"""The output channels of each layer, in the order of the network."""

Extent = Literal["screen", "final"]
"""A short training, or the whole one."""


DIVERGED = 0.0
"""The accuracy of a trial whose training diverged."""


@dataclass(frozen=True)
class Candidate:
    """Widths, their exact cost, and how the search came upon them: uniform, greedy, mutated."""

    widths: Widths
    cost: float
    origin: str


@dataclass(frozen=True)
class Trial:
    """A candidate after a training. `accuracy` is the quantized network's on the validation split, 0..1."""

    candidate: Candidate
    extent: Extent
    accuracy: float

    @property
    def cost(self) -> float:
        return self.candidate.cost

    @property
    def diverged(self) -> bool:
        return self.accuracy == DIVERGED


def front(trials: Iterable[Trial]) -> tuple[Trial, ...]:
    """Those that no other beats in cost without losing accuracy, the cheapest first."""
    kept: list[Trial] = []
    for trial in sorted(trials, key=lambda one: (one.cost, -one.accuracy, one.candidate.widths)):
        if not kept or trial.accuracy > kept[-1].accuracy:
            kept.append(trial)
    return tuple(kept)
