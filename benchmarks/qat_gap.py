"""What quantization-aware training gives back of what rounding takes, on the smallest networks.

    python benchmarks/qat_gap.py
    python benchmarks/qat_gap.py --rows lenet5_global_int4_5kB --seeds 0 1 2

For rows of the frontier: the float32 file, the same network with its weights and activations rounded after
training to int8 and to int4, and after quantization-aware training of as many epochs as the row has. Where
rounding takes less than 0.2 points there is little to give back, and nothing is trained. The accuracy is that
of each .tflite file on the official 10,000 test images, in LiteRT. Stages that `frontier.py` left in `--work`
are taken over. The figures go to benchmarks/results/qat_gap.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import frontier

from edgecnn import files, pipeline
from edgecnn.records import Report
from edgecnn.units import format_share

RESULTS = frontier.HERE / "results" / "qat_gap.json"
WEIGHTS = ("int8", "int4")
# An optimizer that does not move: what is left of the stage is its rounding.
ONLY_ROUNDED = ("epochs=1", "learning_rate=1e-12")
# What rounding takes, 0..1, from which on training is worth its time.
WORTH_TRAINING = 0.002


def mean_accuracy(reports: list[Report], variant: str) -> float:
    """Of the .tflite files `variant`, 0..1, in LiteRT."""
    return statistics.mean(accuracy_of(report, f"{variant}.tflite") for report in reports)


def accuracy_of(report: Report, key: str) -> float:
    artifact = next(one for one in report.artifacts if one.key == key)
    return next(m.accuracy for m in artifact.measurements if m.runtime == "litert")


def built(row: str, seed: int, work: Path, variant: str, *settings: str) -> Report:
    """The row's network with other `settings` of its last stage, in a folder of its own."""
    folder = work / f"{row}-seed-{seed}-{variant}"
    frontier.take_stages(work / f"{row}-seed-{seed}", folder)
    of_last_stage = (f"compress.3.qat.{setting}" for setting in settings)
    overrides = (f"seed={seed}", "budget={}", *of_last_stage)
    return pipeline.build(frontier.RECIPES[row], folder, overrides=overrides)


def measure(row: str, seeds: list[int], work: Path) -> list[dict[str, Any]]:
    """For each width of weights the mean test accuracy, 0..1: float32, rounded, trained (or None)."""
    found = []
    for weights in WEIGHTS:
        asked = f"weights={weights}"
        rounded = [built(row, seed, work, f"{weights}-rounded", asked, *ONLY_ROUNDED) for seed in seeds]
        reference = mean_accuracy(rounded, "fp32")
        after_training = mean_accuracy(rounded, weights)
        trained = None
        if reference - after_training >= WORTH_TRAINING:
            runs = [built(row, seed, work, f"{weights}-qat", asked) for seed in seeds]
            trained = mean_accuracy(runs, weights)
        found.append(
            {
                "name": row,
                "seeds": seeds,
                "weights": weights,
                "float32": reference,
                "rounded": after_training,
                "trained": trained,
            }
        )
    return found


def told(rows: list[dict[str, Any]]) -> str:
    lines = [f"{'':<26}{'weights':<9}{'float32':>9}{'rounded':>9}{'trained':>9}   gap to float32, in points"]
    for row in rows:
        values = [row[key] for key in ("float32", "rounded", "trained")]
        shares = "".join(f"{'-' if value is None else format_share(value):>9}" for value in values)
        reference, *quantized = values
        gaps = " -> ".join(f"{100 * (reference - value):.2f}" for value in quantized if value is not None)
        lines.append(f"{row['name']:<26}{row['weights']:<9}{shares}   {gaps}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    small = ["lenet5_global_int4_5kB", "lenet5_global_int4_9kB"]
    parser.add_argument("--rows", nargs="+", choices=frontier.RECIPES, default=small)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--work", type=Path, default=Path("artifacts") / "frontier")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    rows = [one for name in options.rows for one in measure(name, options.seeds, options.work)]
    files.write_text(options.output, json.dumps({"rows": rows}, indent=1) + "\n")
    print(told(rows))


if __name__ == "__main__":
    main()
