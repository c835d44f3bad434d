"""Trials per hour of a search with 1 and 2 workers, on the cores of this machine.

    python benchmarks/search_workers.py
    python benchmarks/search_workers.py --workers 1 2 4 --rounds 3

The search prunes LeNet-5 on MNIST; every trial prunes the same trained network, trains it for an epoch on one
thread, quantizes it and judges it on the 5,000 validation images. A round is a search from nothing with each
number of workers in turn, starting of processes included; all find the same network.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
from contextlib import closing
from pathlib import Path

# Before torch is loaded, as a build does it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import frontier

from edgecnn import pipeline
from edgecnn.search.workers import chosen_workers

RECIPE = """\
version: 1
name: searched
data: mnist
model: lenet5
train: {epochs: 2, threads: 1}
compress:
  - search: {max_accuracy_drop: 1 pt, trials: 8, screen_epochs: 1, epochs: 1, finalists: 2}
  - quantize: {calibration_images: 300, engine: onnxruntime}
export: [tflite]
"""


def search(recipe: Path, folder: Path, trained: Path, n_workers: int) -> tuple[float, tuple[int, ...]]:
    """Trials per hour, and the widths that were found."""
    frontier.take_stages(trained, folder, "train")
    with closing(chosen_workers(n_workers, None)) as workers:
        report = pipeline.build(recipe, folder, workers=workers)
    assert report.search is not None
    seconds = report.stages[1].seconds  # after that of training
    return 3600 * len(report.search.trials) / seconds, report.search.chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        trained = work / "trained"
        recipe = work / "recipe.yaml"
        recipe.write_text(RECIPE)
        pipeline.build(recipe, trained)
        per_hour: dict[int, list[float]] = {n: [] for n in options.workers}
        for _ in range(options.rounds):
            found = set()
            for n_workers in options.workers:
                folder = work / "search"
                rate, widths = search(recipe, folder, trained, n_workers)
                shutil.rmtree(folder)
                per_hour[n_workers].append(rate)
                found.add(widths)
            assert len(found) == 1, "another number of workers found another network"
    first = statistics.median(per_hour[options.workers[0]])
    for n_workers, rates in per_hour.items():
        median = statistics.median(rates)
        spread = f"({min(rates):.0f} to {max(rates):.0f})"
        print(
            f"{n_workers} workers: {median:5.0f} trials per hour {spread}, {median / first:.2f} times as many"
        )


if __name__ == "__main__":
    main()
