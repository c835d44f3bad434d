"""What quantization-aware training gives back of what rounding takes, on the smallest networks.

    python benchmarks/qat_gap.py
    python benchmarks/qat_gap.py --rows lenet5_global_int4_5kB --seeds 0 1 2

For rows of the frontier: the float32 file, the same network with its weights and activations rounded after
training to int8 and to int4, and after quantization-aware training of as many epochs as the row has. The
accuracy is that of each .tflite file on the official 10,000 test images, in LiteRT. Stages that `frontier.py`
left in `--work` are taken over. The figures go to benchmarks/results/qat_gap.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
from itertools import product
from pathlib import Path
from typing import Any

import frontier

from edgecnn import files, pipeline
from edgecnn.records import Report
from edgecnn.units import format_share

RESULTS = frontier.HERE / "results" / "qat_gap.json"
WEIGHTS = ("int8", "int4")
# An optimizer that does not move: what is left of the stage is its rounding.
ONLY_ROUNDED = "{epochs: 1, learning_rate: 1e-12}"


def accuracy_of(report: Report, key: str) -> float:
    """Of the file `key`, 0..1, in LiteRT."""
    artifact = next(one for one in report.artifacts if one.key == key)
    return next(m.accuracy for m in artifact.measurements if m.runtime == "litert")


def measure(row: str, seed: int, work: Path) -> dict[str, float]:
    """Test accuracy of the float network and of its four quantized files, 0..1, by what they are."""
    source = work / f"{row}-seed-{seed}"

    def built(variant: str, *overrides: str) -> Report:
        folder = work / f"{row}-seed-{seed}-{variant}"
        frontier.take_stages(source, folder, "[0-9t]*")
        return pipeline.build(
            frontier.RECIPES[row], folder, overrides=(f"seed={seed}", "budget={}", *overrides)
        )

    found: dict[str, float] = {}
    for weights in WEIGHTS:
        rounded = ONLY_ROUNDED.replace("}", f", weights: {weights}}}")
        after_training = built(f"{weights}-rounded", f"compress.3.qat={rounded}")
        found["float32"] = accuracy_of(after_training, "fp32.tflite")
        found[f"{weights}, rounded"] = accuracy_of(after_training, f"{weights}.tflite")
        trained = built(f"{weights}-qat", f"compress.3.qat.weights={weights}")
        found[f"{weights}, trained"] = accuracy_of(trained, f"{weights}.tflite")
    return found


def told(rows: list[dict[str, Any]]) -> str:
    lines = [f"{'':<26}{'weights':<9}{'float32':>9}{'rounded':>9}{'trained':>9}   gap to float32, in points"]
    for row, weights in product(rows, WEIGHTS):
        reference, rounded, trained = (
            row["accuracy"][key] for key in ("float32", f"{weights}, rounded", f"{weights}, trained")
        )
        shares = "".join(f"{format_share(value):>9}" for value in (reference, rounded, trained))
        gaps = " -> ".join(f"{100 * (reference - value):.2f}" for value in (rounded, trained))
        lines.append(f"{row['name']:<26}{weights:<9}{shares}   {gaps}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    small = ["lenet5_global_int4_5kB", "lenet5_global_int4_9kB"]
    parser.add_argument("--rows", nargs="+", choices=frontier.RECIPES, default=small)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--work", type=Path, default=Path("artifacts") / "frontier")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    rows = []
    for name in options.rows:
        runs = [measure(name, seed, options.work) for seed in options.seeds]
        means = {what: statistics.mean(run[what] for run in runs) for what in runs[0]}
        rows.append({"name": name, "seeds": options.seeds, "accuracy": means})
    files.write_text(options.output, json.dumps({"rows": rows}, indent=1) + "\n")
    print(told(rows))


if __name__ == "__main__":
    main()
