"""The smallest MNIST files at several levels of accuracy: size and test accuracy over five seeds.

    python benchmarks/frontier.py
    python benchmarks/frontier.py --rows lenet5_global_int4_5kB --seeds 0 1
    python benchmarks/frontier.py --workers 2           # two builds at a time, each on one thread
    python benchmarks/frontier.py --seeds 3 4 --add     # beside the seeds that the results have already

Each row is a recipe in benchmarks/frontier/. It is built once for each seed, and the accuracy is that of the
.tflite file itself on the official 10,000 test images, in LiteRT. Nothing was chosen on these, and every seed
counts. What is built already in `--work` is not built again. The figures go to
benchmarks/results/mnist_frontier.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

# Before torch is loaded, as a build does it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from edgecnn import files, pipeline, recipe_file, stages
from edgecnn.stages import TEACHER
from edgecnn.units import format_share, format_size

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "mnist_frontier.json"
RECIPES = {path.stem: path for path in sorted((HERE / "frontier").glob("*.yaml"))}
SEEDS = (0, 1, 2, 3, 4)
# BitNetMCU: weights and inference code in the flash of a microcontroller; a .tflite file holds no code, and
# needs a runtime. Deep Compression and MIRACLE: not files that a runtime loads, they must be decoded first.
REFERENCES = (
    ("BitNetMCU, with its code", 5.4e3, 0.9906),
    ("BitNetMCU, with its code", 9.3e3, 0.9944),
    ("BitNetMCU, with its code", 11.0e3, 0.9955),
    ("Deep Compression, to be decoded", 44e3, 0.9926),
    ("MIRACLE, to be decoded", 1.52e3, 0.9904),
    ("MIRACLE, to be decoded", 3.03e3, 0.9931),
)


def one(job: tuple[str, int, Path]) -> dict[str, Any]:
    """Builds a row's recipe with one seed; size, accuracy and parameters of its smallest file.

    Rows that begin with the same dense network, or learn from it, do not train it again.
    """
    name, seed, work = job
    folder = work / f"{name}-seed-{seed}"
    for other in sorted(set(work.glob(f"*-seed-{seed}")) - {folder}):
        for trained in ("train", TEACHER):
            for taken_as in ("train", TEACHER):
                take_stages(other, folder, trained, taken_as)
    report = pipeline.build(RECIPES[name], folder, overrides=(f"seed={seed}",))
    smallest = report.smallest
    assert smallest is not None
    measured = next(m for m in smallest.measurements if m.runtime == "litert" and m.num_threads == 1)
    validation = report.stages[-1].validation_accuracy
    return {
        "name": name,
        "seed": seed,
        "size_bytes": smallest.size_bytes,
        "accuracy": measured.accuracy,
        "validation_accuracy": validation,
        "n_params": smallest.n_params,
        "runtime": f"{measured.runtime} {measured.runtime_version}",
    }


def take_stages(source: Path, folder: Path, name: str = "*", taken_as: str | None = None) -> None:
    """Copies what stages of another build left, `taken_as` ones of this name; a build uses it where the key is
    its own.
    """
    for done in (source / stages.FOLDER).glob(f"{name}/*/{stages.DONE}"):
        stage, key = done.parts[-3:-1]
        taken = folder / stages.FOLDER / (taken_as or stage) / key
        if not taken.exists():
            shutil.copytree(done.parent, taken)


def row(name: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures of all seeds together."""
    accuracies = [run["accuracy"] for run in runs]
    return {
        "name": name,
        "size_bytes": max(run["size_bytes"] for run in runs),
        "accuracy": statistics.mean(accuracies),
        "accuracy_std": statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0,
        "n_params": runs[0]["n_params"],
        "runtime": runs[0]["runtime"],
        "recipe": row_recipe(name),
        "seeds": [
            {key: run[key] for key in ("seed", "accuracy", "validation_accuracy", "size_bytes")} for run in runs
        ],
    }


def stored(path: Path) -> list[dict[str, Any]]:
    """The runs that a file of results holds, of rows whose recipes are still the same."""
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    return [
        {"name": old["name"], "n_params": old["n_params"], "runtime": old["runtime"], **run}
        for old in rows
        if old["name"] in RECIPES and old["recipe"] == row_recipe(old["name"])
        for run in old["seeds"]
    ]


def row_recipe(name: str) -> dict[str, Any]:
    return recipe_file.load(RECIPES[name]).recipe.model_dump(mode="json")


def told(rows: list[dict[str, Any]]) -> str:
    """The rows among the references, by size."""
    lines = [(size, name, format_share(accuracy)) for name, size, accuracy in REFERENCES]
    for one_row in rows:
        accuracy, n = format_share(one_row["accuracy"]), len(one_row["seeds"])
        said = f"{accuracy} +- {100 * one_row['accuracy_std']:.2f} over {n} seeds"
        lines.append((one_row["size_bytes"], one_row["name"], said))
    table = [f"{name:<34} {format_size(size):>9}  {said}" for size, name, said in sorted(lines)]
    return "\n".join([f"{'':<34} {'size':>9}  accuracy (mean of seeds, spread)", *table])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--work", type=Path, default=Path("artifacts") / "frontier")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--add", action="store_true", help="keep what --output holds of other seeds and rows")
    options = parser.parse_args()
    kept = stored(options.output) if options.add else []
    again = set(product(options.rows, options.seeds))
    runs = [run for run in kept if (run["name"], run["seed"]) not in again]
    with ProcessPoolExecutor(options.workers) as pool:
        jobs = [(name, seed, options.work) for name, seed in product(options.rows, options.seeds)]
        for run in pool.map(one, jobs):
            runs.append(run)
            write(options.output, runs)
            told_now = f"{run['name']} seed {run['seed']}: {run['size_bytes']:,} bytes, {run['accuracy']:.2%}"
            print(told_now, flush=True)
    print(told(rows_of(runs)))


def rows_of(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    by_seed = sorted(runs, key=lambda run: int(run["seed"]))
    of_rows = {name: [run for run in by_seed if run["name"] == name] for name in RECIPES}
    return [row(name, its_runs) for name, its_runs in of_rows.items() if its_runs]


def write(path: Path, runs: list[dict[str, Any]]) -> None:
    files.write_text(path, json.dumps({"rows": rows_of(runs)}, indent=1) + "\n")


if __name__ == "__main__":
    main()
