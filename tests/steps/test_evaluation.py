"""Which parts of a test set run with how many threads."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgecnn.steps import evaluation

N_FIRST, N_IMAGES = 4, 10


class ScriptedTarget:
    """Its outputs are the numbers of the images, with `odd` threads others; a run takes a second, with `slow`
    threads two, on a clock of its own.
    """

    def __init__(self, *, slow: int, odd: int | None = None) -> None:
        self.slow, self.odd = slow, odd
        self.runs: list[tuple[int, int]] = []
        self.now_s = 0.0

    def evaluate(
        self, _path: Path, _manifest: Any, images: np.ndarray, _runtime: str, *, num_threads: int
    ) -> np.ndarray:
        self.runs.append((num_threads, len(images)))
        self.now_s += 2 if num_threads == self.slow else 1
        outputs: np.ndarray = images.reshape(-1, 1) + (num_threads == self.odd)
        return outputs


@pytest.fixture
def outputs_of(models: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(evaluation, "N_COMPARED", N_FIRST)
    monkeypatch.setattr(evaluation, "thread_counts", lambda _environment: (1, 2))

    def outputs(target: ScriptedTarget, n_images: int = N_IMAGES) -> dict[int, list[int]]:
        test: Any = SimpleNamespace(images_nhwc=np.arange(n_images).reshape(-1, 1, 1, 1))
        environment: Any = None
        monkeypatch.setattr(evaluation, "time", SimpleNamespace(monotonic=lambda: target.now_s))
        path = models.int8_tflite
        found = evaluation._with_all_threads(path, "litert", test, target, environment)  # type: ignore[arg-type]
        return {threads: one[:, 0].tolist() for threads, one in found.items()}

    return outputs


@pytest.mark.parametrize(("slow", "quick"), [(1, 2), (2, 1)])
def test_what_is_quicker_does_the_rest(outputs_of: Any, slow: int, quick: int) -> None:
    target = ScriptedTarget(slow=slow)
    assert outputs_of(target) == {1: list(range(10)), 2: list(range(10))}
    assert target.runs == [(1, 4), (2, 4), (quick, 6)]


def test_what_gives_other_bits_runs_over_all_by_itself(outputs_of: Any) -> None:
    target = ScriptedTarget(slow=2, odd=2)
    assert outputs_of(target) == {1: list(range(10)), 2: list(range(1, 11))}
    assert target.runs == [(1, 4), (2, 4), (1, 6), (2, 10)]


def test_few_images_run_once_with_each(outputs_of: Any) -> None:
    target = ScriptedTarget(slow=2)
    assert outputs_of(target, n_images=3) == {1: [0, 1, 2], 2: [0, 1, 2]}
    assert target.runs == [(1, 3), (2, 3)]
