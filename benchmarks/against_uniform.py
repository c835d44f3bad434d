"""A recipe's pruned network against one-shot uniform pruning to the same size: test accuracy of the int8 files.

    python benchmarks/against_uniform.py recipes/cifar10_squeezenet_int8.yaml            # hours on two cores
    python benchmarks/against_uniform.py recipes/mnist_lenet5_int8.yaml --set train.epochs=4

`--set train.precision=bfloat16 --set train.threads=1` takes half the time on a core that has AMX.

The recipe is built as it is. Then it is built again with the same trained network, the same share of every
layer's channels pruned in one step by the same criterion, to the smallest file that is not smaller than the
recipe's own, and the same training after it. The figures go to benchmarks/results/against_uniform_NAME.json.
"""

from __future__ import annotations

import argparse
import json
import os
from bisect import bisect_left
from pathlib import Path
from typing import Any

# Before torch is loaded, as a build does it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import frontier
import numpy as np

from edgecnn import files, pipeline, recipe_file
from edgecnn.compress.quantize import quantize
from edgecnn.export.onnx import export_onnx
from edgecnn.export.tflite import convert
from edgecnn.models import build_model
from edgecnn.ondevice.manifest import Manifest
from edgecnn.recipe import PruneStep, Recipe
from edgecnn.recipe.model_spec import target_widths
from edgecnn.records import Report
from edgecnn.training.layers import scatter_vectors
from edgecnn.units import format_share, format_size

KEY = "int8.tflite"
SHARES = np.linspace(0.99, 0.01, 99)
"""Of the channels that are pruned; the fewer, the larger the file."""


def int8_size(recipe: Recipe, widths: dict[str, int], n_classes: int) -> int:
    """Bytes of the int8 .tflite file of the recipe's network with these widths: its numbers do not count."""
    pre = recipe.preprocessing
    shape = (pre.channels, pre.height, pre.width)
    model = build_model(
        recipe.model.name,
        in_channels=pre.channels,
        n_classes=n_classes,
        widths=widths,
        options=recipe.model_options,
    )
    scatter_vectors(model, recipe.seed)
    images = np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)
    assert recipe.quantize is not None
    graph = quantize(export_onnx(model, shape), images, recipe.quantize).model
    return len(convert(graph, unit_scales=True).data)


def uniform_widths(recipe: Recipe, size_bytes: int, n_classes: int) -> dict[str, int]:
    """The narrowest uniformly pruned network whose file has at least `size_bytes`."""
    dense = recipe.model.layer_widths

    def widths(share: float) -> dict[str, int]:
        return target_widths(dense, share, 1)

    at = bisect_left(SHARES, size_bytes, key=lambda share: int8_size(recipe, widths(share), n_classes))
    return widths(SHARES[at])


def row(name: str, report: Report) -> dict[str, Any]:
    artifact = next(one for one in report.artifacts if one.key == KEY)
    measured = next(m for m in artifact.measurements if m.runtime == "litert")
    return {
        "name": name,
        "size_bytes": artifact.size_bytes,
        "accuracy": measured.accuracy,
        "accuracy_drop": measured.accuracy_drop,
        "n_params": artifact.n_params,
    }


def compare(path: Path, work: Path, overrides: tuple[str, ...]) -> list[dict[str, Any]]:
    recipe = recipe_file.load(path, overrides).recipe
    step = recipe.compress[0]
    assert isinstance(step, PruneStep), "the recipe begins with pruning"
    ours, uniform = work / f"{recipe.name}-ours", work / f"{recipe.name}-uniform"
    rows = [row("ours", pipeline.build(path, ours, overrides=(*overrides, "budget={}")))]
    model = next(ours.glob(f"*.{KEY}"))
    n_classes = len(Manifest.read_for(model).class_names)
    widths = list(uniform_widths(recipe, rows[0]["size_bytes"], n_classes).values())
    frontier.take_stages(ours, uniform, "train")
    # What the recipe spends on fine-tuning between steps of pruning goes into one training after the only one.
    prune = {
        "widths": widths,
        "criterion": step.prune.criterion,
        "finetune_epochs": step.prune.steps * step.prune.finetune_epochs,
    }
    one_shot = (*overrides, "budget={}", f"compress.0.prune={json.dumps(prune)}")
    rows.append(row("uniform, one shot", pipeline.build(path, uniform, overrides=one_shot)))
    rows[-1]["widths"] = widths
    return rows


def told(rows: list[dict[str, Any]]) -> str:
    lines = [f"{'':<20}{'int8 .tflite':>14}{'parameters':>12}{'accuracy':>10}{'drop':>9}"]
    for one in rows:
        drop = f"{100 * one['accuracy_drop']:.2f} pt"
        shown = f"{format_size(one['size_bytes']):>14}{one['n_params']:>12,}{format_share(one['accuracy']):>10}"
        lines.append(f"{one['name']:<20}{shown}{drop:>9}")
    lines.append(f"ours is ahead by {100 * (rows[0]['accuracy'] - rows[1]['accuracy']):.2f} points")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as of edgecnn build")
    parser.add_argument("--work", type=Path, default=Path("artifacts") / "against_uniform")
    options = parser.parse_args()
    rows = compare(options.recipe, options.work, tuple(options.set))
    output = frontier.HERE / "results" / f"against_uniform_{options.recipe.stem}.json"
    files.write_text(output, json.dumps({"recipe": options.recipe.name, "rows": rows}, indent=1) + "\n")
    print(told(rows))


if __name__ == "__main__":
    main()
