"""The search on a made-up network whose accuracy is a formula of its widths."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn.search import strategy
from edgecnn.search.candidates import DIVERGED, Candidate, Extent, Trial, front
from edgecnn.search.search import Found, search
from edgecnn.search.strategy import Space

DENSE = (6, 16, 120, 84)
# What the layers need: the accuracy falls where one is narrower. The last ones are far wider than they must be.
NEEDED = (4.0, 10.0, 20.0, 12.0)


def cost(widths: tuple[int, ...]) -> float:
    a, b, c, d = widths
    return 3000 + 25 * a + 25 * a * b + 16 * b * c + c * d + 10 * d


def accuracy(widths: tuple[int, ...], extent: Extent) -> float:
    lost = sum(math.exp(-3 * width / need) for width, need in zip(widths, NEEDED, strict=True))
    return 0.996 - 0.05 * lost - (0.003 if extent == "screen" else 0)


def importance(dense: tuple[int, ...] = DENSE) -> tuple[np.ndarray, ...]:
    # Falls off as the formula does.
    return tuple(np.exp(-3 * np.arange(width) / need) for width, need in zip(dense, NEEDED, strict=True))


def space(step: int = 1) -> Space:
    return Space(DENSE, step, cost, importance())


def run(
    n_trials: int = 40, needed: float = 0.988, seed: int = 0, n_finalists: int = 4, diverging: int | None = None
) -> Found:
    """The search; its whole training number `diverging` diverges."""
    finals = itertools.count()

    def evaluate(candidates: Sequence[Candidate], extent: Extent) -> list[Trial]:
        return [
            Trial(
                one,
                extent,
                DIVERGED if extent == "final" and next(finals) == diverging else accuracy(one.widths, extent),
            )
            for one in candidates
        ]

    return search(space(), evaluate, needed=needed, n_trials=n_trials, n_finalists=n_finalists, seed=seed)


def test_it_finds_what_is_accurate_enough_and_much_smaller_than_uniform_pruning() -> None:
    found = run()
    assert found.holds and found.best.extent == "final" and found.best.accuracy >= 0.988
    shares = np.linspace(0, 1, 2001)
    uniform = {space().rounded([share * width for width in DENSE]) for share in shares}
    smallest_uniform = min(cost(one) for one in uniform if accuracy(one, "final") >= 0.988)
    assert found.best.cost < 0.8 * smallest_uniform


@pytest.mark.parametrize("diverging", [0, 1, 2])
def test_a_whole_training_that_diverges_says_nothing_of_the_others(diverging: int) -> None:
    found, undisturbed = run(diverging=diverging), run()
    assert found.holds and found.best.cost < 1.1 * undisturbed.best.cost
    assert len(found.trials) >= len(undisturbed.trials) - 1


def test_it_keeps_to_its_trials_and_never_tries_the_same_twice() -> None:
    found = run(n_trials=21, n_finalists=3)
    screened = [trial.candidate.widths for trial in found.trials if trial.extent == "screen"]
    finals = [trial.candidate.widths for trial in found.trials if trial.extent == "final"]
    assert len(screened) == len(set(screened)) == 21
    assert len(finals) == len(set(finals)) <= 3 and set(finals) <= set(screened)


def test_the_same_seed_gives_the_same_search_and_another_one_another() -> None:
    assert run(seed=3) == run(seed=3)
    assert run(seed=3).trials != run(seed=4).trials


def test_more_trials_do_not_give_a_dearer_network() -> None:
    assert run(n_trials=60).best.cost <= run(n_trials=8).best.cost


def test_where_nothing_is_accurate_enough_the_most_accurate_finalist_is_given() -> None:
    found = run(needed=0.9999)
    assert not found.holds
    finals = [trial for trial in found.trials if trial.extent == "final"]
    assert found.best.accuracy == max(trial.accuracy for trial in finals)


def test_one_trial_is_enough_for_an_answer() -> None:
    found = run(n_trials=1, n_finalists=1)
    assert [trial.extent for trial in found.trials] == ["screen", "final"]


def test_the_first_generation_has_uniform_and_greedy_widths_at_every_level() -> None:
    # At the fourth level nearly nothing is left, by either way.
    first = strategy.first_generation(space())[:6]
    assert [one.origin for one in first] == ["uniform", "greedy"] * 3
    dense = cost(DENSE)
    for level, pair in enumerate(zip(first[::2], first[1::2], strict=True), start=1):
        # A step of the greedy path takes a tenth of a layer, so it may end a little below.
        assert all(0.7 * dense / 2**level < one.cost <= dense / 2**level for one in pair)
    best = {origin: accuracy(one.widths, "final") for one in first[4:6] for origin in [one.origin]}
    assert best["greedy"] > best["uniform"]


def test_the_greedy_path_never_empties_a_layer_and_only_ever_gets_cheaper() -> None:
    path = list(strategy.greedy_path(space()))
    costs = [cost(DENSE), *(one.cost for one in path)]
    assert all(after < before for before, after in itertools.pairwise(costs))
    assert all(min(one.widths) >= 1 for one in path) and path[-1].widths == (1, 1, 1, 1)


@given(
    widths=st.tuples(*(st.integers(1, width) for width in DENSE)),
    step=st.sampled_from([1, 2, 4, 8]),
    seed=st.integers(0, 2**32 - 1),
)
def test_mutations_stay_in_the_space(widths: tuple[int, ...], step: int, seed: int) -> None:
    one = space(step)
    for layer, width in enumerate(strategy.mutated(one, one.rounded(widths), np.random.default_rng(seed))):
        assert 1 <= width <= DENSE[layer]
        assert width % step == 0 or width == DENSE[layer]


def trial(n: int, accuracy: float, extent: Extent = "screen") -> Trial:
    return Trial(Candidate((n,), float(n), "mutated"), extent, accuracy)


@given(st.lists(st.tuples(st.integers(1, 50), st.floats(0, 1))))
def test_nothing_beats_the_front_and_the_front_beats_the_rest(points: list[tuple[int, float]]) -> None:
    trials = [trial(*point) for point in points]
    kept = front(trials)
    for one in trials:
        as_good = [other for other in kept if other.cost <= one.cost and other.accuracy >= one.accuracy]
        assert as_good
    for cheap, dear in itertools.pairwise(kept):
        assert cheap.cost < dear.cost and cheap.accuracy < dear.accuracy


@pytest.mark.parametrize(
    ("finals", "expected"),
    [
        pytest.param([], 30, id="the cheapest that reaches it after a short training"),
        pytest.param([trial(30, 0.95, "final")], 10, id="whole training adds: a cheaper one may do"),
        pytest.param([trial(30, 0.89, "final")], 40, id="it failed: a dearer one"),
        pytest.param([trial(30, 0.89, "final"), trial(40, 0.93, "final")], None, id="between them is nothing"),
    ],
)
def test_the_next_finalist_is_chosen_by_what_the_ones_before_taught(
    finals: list[Trial], expected: int | None
) -> None:
    screened = [trial(10, 0.86), trial(20, 0.83), trial(30, 0.90), trial(40, 0.91)]
    chosen = strategy.next_finalist(screened, finals, needed=0.9)
    assert (chosen.widths[0] if chosen else None) == expected
