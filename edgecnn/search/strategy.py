"""Which widths to try next. Pure decisions: what a candidate costs and what training gives are asked of others.

The first generation spans the range of costs: at each level once the same share taken from every layer (what
a user would try by hand), once what the greedy path suggests. Later generations are mutations of the front near
the cheapest widths that may still hold, so trials gather where the answer lies. Finalists are trained in
full, one by one, each chosen by what those before it taught of the difference between short and whole training.

Sources: T.-J. Yang et al., "NetAdapt", 2018 (greedy, on empirical cost); P. Molchanov et al., "Importance
estimation for neural network pruning", 2019 (what a channel is worth); E. Real et al., "Regularized evolution",
2019 (mutation of the good ones).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.search.candidates import Candidate, Trial, Widths, front

GENERATION = 8
"""Trials that are chosen at once. They do not depend on one another: the number of workers changes nothing."""

# The first generation goes from half the dense network's cost down by halves.
LEVELS = GENERATION // 2
# The share of a layer's channels that a step of the greedy path takes.
GREEDY_SHARE = 0.1
# Mutated children cost between these shares of the cheapest widths that may hold.
CHEAPER = (0.6, 1.0)
# ... and between these multiples of the best so far, where none may.
DEARER = (1.0, 1.6)
# A layer's width is multiplied by e to a number between these.
MUTATION = (-0.4, 0.3)
MOST_DRAWS = 2_000


@dataclass(frozen=True)
class Space:
    """All widths that may be tried: each layer between `step` channels and what the dense network has, in
    multiples of `step`. `cost` is exact. `importance`: by layer, what each channel is worth, in any order.
    """

    dense: Widths
    step: int
    cost: Callable[[Widths], float]
    importance: tuple[NDArray[Any], ...]

    def rounded(self, widths: Sequence[float]) -> Widths:
        """The nearest widths of the space."""
        return tuple(
            min(dense, max(1, round(width / self.step)) * self.step)
            for width, dense in zip(widths, self.dense, strict=True)
        )

    def candidate(self, widths: Widths, origin: str) -> Candidate:
        return Candidate(widths, self.cost(widths), origin)


def first_generation(space: Space) -> list[Candidate]:
    """At each level of cost the uniform widths and the greedy ones, the dearest first; each once."""
    dense_cost = space.cost(space.dense)
    levels = [dense_cost / 2 ** (k + 1) for k in range(LEVELS)]
    path = greedy_path(space)
    below = space.candidate(space.dense, "greedy")
    chosen: dict[Widths, Candidate] = {}
    for level in levels:
        widths = uniform(space, level)
        chosen.setdefault(widths, space.candidate(widths, "uniform"))
        # The path ends where no layer can give more.
        while below.cost > level and (narrower := next(path, None)):
            below = narrower
        chosen.setdefault(below.widths, below)
    return list(chosen.values())


def uniform(space: Space, cost: float) -> Widths:
    """The widest widths of at most `cost` that take the same share of every layer; else the narrowest."""
    low, high = 0.0, 1.0
    for _ in range(20):
        share = (low + high) / 2
        fits = space.cost(space.rounded([width * share for width in space.dense])) <= cost
        low, high = (share, high) if fits else (low, share)
    return space.rounded([width * low for width in space.dense])


def greedy_path(space: Space) -> Iterator[Candidate]:
    """From the dense network on: each step takes the channels that are worth least for what they cost.

    A layer's price only rises as others shrink (there is less to save), so prices are worked out anew for the
    layer in front alone, until it stays in front.
    """
    worth = [_worth_of_least(values) for values in space.importance]
    widths = space.dense

    def price(layer: int) -> float:
        """What is lost for each unit of cost saved by making `layer` narrower once more."""
        width, dense = widths[layer], space.dense[layer]
        fewer = _narrower(space, layer, width)
        saved = space.cost(widths) - space.cost(_replaced(widths, layer, fewer))
        lost = worth[layer][dense - fewer] - worth[layer][dense - width]
        return float(lost / saved) if saved > 0 else math.inf

    queue = [(price(layer), layer) for layer in range(len(widths)) if _can_shrink(space, widths, layer)]
    heapq.heapify(queue)
    while queue:
        _, layer = heapq.heappop(queue)
        now = price(layer)
        if queue and now > queue[0][0]:
            heapq.heappush(queue, (now, layer))
            continue
        widths = _replaced(widths, layer, _narrower(space, layer, widths[layer]))
        if _can_shrink(space, widths, layer):
            heapq.heappush(queue, (price(layer), layer))
        yield space.candidate(widths, "greedy")


def _worth_of_least(importance: NDArray[Any]) -> NDArray[Any]:
    """What the n least important channels of a layer are worth together: [channels + 1], infinite for all.

    The sum for few of them; more as less of the layer is left, since the importance of each was found with all
    the others there.
    """
    removed = np.concatenate([[0.0], np.cumsum(np.sort(np.maximum(importance, 0)))])
    total = removed[-1] or 1.0
    with np.errstate(divide="ignore"):
        worth: NDArray[Any] = -total * np.log(np.maximum(0, 1 - removed / total))
    worth[-1] = np.inf
    return worth


def _replaced(widths: Widths, layer: int, width: int) -> Widths:
    return (*widths[:layer], width, *widths[layer + 1 :])


def _can_shrink(space: Space, widths: Widths, layer: int) -> bool:
    return _narrower(space, layer, widths[layer]) < widths[layer]


def _narrower(space: Space, layer: int, width: int) -> int:
    taken = max(1, round(width * GREEDY_SHARE / space.step)) * space.step
    return max(min(space.step, space.dense[layer]), width - taken)


def next_generation(
    space: Space, trials: Sequence[Trial], needed: float, n_children: int, generator: np.random.Generator
) -> list[Candidate]:
    """Up to `n_children` mutations of the front, none of which was tried. `needed` is the accuracy that a
    screened trial must have so that it may hold in the end.
    """
    parents = front(trials)
    holding = [trial for trial in parents if trial.accuracy >= needed]
    if holding:
        low, high = (share * holding[0].cost for share in CHEAPER)
    else:
        low, high = (factor * parents[-1].cost for factor in DEARER)
    # Parents whose cost is far off would need luck.
    ranked = sorted(parents, key=lambda trial: abs(math.log(trial.cost / high)))[: GENERATION // 2]
    known = {trial.candidate.widths for trial in trials}
    children: list[Candidate] = []
    for _ in range(MOST_DRAWS):
        if len(children) == n_children:
            break
        parent = ranked[int(generator.integers(len(ranked)))]
        widths = mutated(space, parent.candidate.widths, generator)
        if widths not in known and low <= space.cost(widths) <= high:
            known.add(widths)
            children.append(space.candidate(widths, "mutated"))
    return children


def mutated(space: Space, widths: Widths, generator: np.random.Generator) -> Widths:
    """`widths` with one to three layers of other width."""
    layers = generator.choice(len(widths), size=min(len(widths), int(generator.integers(1, 4))), replace=False)
    changed = [float(width) for width in widths]
    for layer in layers:
        changed[layer] *= math.exp(generator.uniform(*MUTATION))
    return space.rounded(changed)


def next_finalist(screened: Sequence[Trial], finals: Sequence[Trial], needed: float) -> Candidate | None:
    """The candidate to train in full: the cheapest that may reach `needed` and would be news. None: no other.

    What whole training adds to a short one is the mean over the finalists so far.
    """
    gain = gain_of(screened, finals)
    holds = min((trial.cost for trial in finals if trial.accuracy >= needed), default=math.inf)
    missed = [one for one in finals if one.accuracy < needed and one.cost < holds and not one.diverged]
    fails = max((trial.cost for trial in missed), default=0)
    done = {trial.candidate.widths for trial in finals}
    open_ = [trial for trial in front(screened) if trial.candidate.widths not in done and trial.cost < holds]
    likely = [trial for trial in open_ if trial.accuracy + gain >= needed]
    # Dearer than what failed is safer; only where nothing is left there, cheaper ones.
    for trials in ([one for one in likely if one.cost > fails], likely):
        if trials:
            return trials[0].candidate
    # Nothing seems to reach it: then the most accurate one, as long as nothing does.
    return open_[-1].candidate if open_ and math.isinf(holds) else None


def gain_of(screened: Sequence[Trial], finals: Sequence[Trial]) -> float:
    """What whole training adds to the accuracy after a short one: the mean, 0 where nothing is known. One that
    diverged says nothing of the others.
    """
    short = {trial.candidate.widths: trial.accuracy for trial in screened if not trial.diverged}
    known = [trial for trial in finals if trial.candidate.widths in short and not trial.diverged]
    gains = [trial.accuracy - short[trial.candidate.widths] for trial in known]
    return float(np.mean(gains)) if gains else 0.0


def best(finals: Sequence[Trial], needed: float) -> Trial:
    """The cheapest finalist that reaches `needed`; where none does, the most accurate."""
    holding = [trial for trial in finals if trial.accuracy >= needed]
    if holding:
        return min(holding, key=lambda trial: (trial.cost, -trial.accuracy, trial.candidate.widths))
    return max(finals, key=lambda trial: (trial.accuracy, -trial.cost))
