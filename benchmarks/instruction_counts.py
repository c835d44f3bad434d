"""Arm instructions of one inference of LeNet-5 and SqueezeNet: float, int8 and pruned, on three cores.

    python benchmarks/instruction_counts.py                    # what `edgecnn count` needs must be there
    python benchmarks/instruction_counts.py --cpu cortex-a72 --json counts.json --keep files/

The networks are those of two recipes, as they are and in the widths that the recipe prunes them to. Their
weights are random: what a kernel retires depends on shapes and precisions, not on numbers, so a trained file of
these widths counts the same. No board's milliseconds follow from any of it: instructions are not cycles.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from edgecnn import counting, data, recipe_file
from edgecnn.compress.quantize import quantize
from edgecnn.export.onnx import export_onnx
from edgecnn.export.tflite import convert
from edgecnn.models import build_model
from edgecnn.ondevice.manifest import TensorSpec
from edgecnn.ondevice.preprocess import model_input
from edgecnn.recipe import PruneStep, Recipe
from edgecnn.report import tables, terminal

RECIPES = Path(__file__).parents[1] / "recipes"
NETWORKS = {"lenet5": "mnist_lenet5_int8.yaml", "squeezenet": "mnist_squeezenet_int8.yaml"}
# Ranges of activations do not matter here, only that there are some.
N_CALIBRATION_IMAGES = 20


def pruned_widths(recipe: Recipe) -> dict[str, int]:
    """What each layer keeps when the recipe's prune steps are done."""
    widths = recipe.model.layer_widths
    for step in recipe.compress:
        if isinstance(step, PruneStep):
            widths = step.prune.kept(recipe.model.name, widths)
    return widths


def tflite_files(recipe: Recipe, widths: dict[str, int]) -> Iterator[tuple[str, bytes]]:
    """(precision, content) of the untrained network with these widths: fp32, then int8."""
    splits = data.load(recipe.data.name)
    pre = recipe.preprocessing
    model = build_model(
        recipe.model.name,
        seed=recipe.seed,
        in_channels=pre.channels,
        n_classes=len(splits.test.class_names),
        widths=widths,
        options=recipe.model_options,
    )
    onnx_model = export_onnx(model, (pre.channels, pre.height, pre.width))
    pictures = data.calibration_images(splits.train, N_CALIBRATION_IMAGES, recipe.seed)
    calibration = model_input(pictures, pre, "NCHW", TensorSpec("", (), "float32"))
    assert recipe.quantize is not None
    yield "fp32", convert(onnx_model).data
    yield "int8", convert(quantize(onnx_model, calibration, recipe.quantize).model).data


def write_files(folder: Path, names: list[str]) -> list[Path]:
    """The .tflite files to count: NETWORK[-pruned].PRECISION.tflite."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name in names:
        recipe = recipe_file.load(RECIPES / NETWORKS[name]).recipe
        for title, widths in ((name, recipe.model.layer_widths), (f"{name}-pruned", pruned_widths(recipe))):
            for precision, content in tflite_files(recipe, widths):
                paths.append(folder / f"{title}.{precision}.tflite")
                paths[-1].write_bytes(content)
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--cpu", nargs="+", choices=counting.CPUS, default=list(counting.CPUS))
    parser.add_argument("--root", type=Path, help="the arm64 system; default: as for `edgecnn count`")
    parser.add_argument("--keep", type=Path, help="a folder for the files that are counted")
    parser.add_argument("--json", type=Path, help="where the counts go, as `edgecnn count --json` prints them")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edgecnn-counts-") as temporary:
        counts = []
        for path in write_files(options.keep or Path(temporary), options.networks):
            print(f"{path.name} ...", file=sys.stderr, flush=True)
            counts += [asdict(counting.count(path, cpu, root=options.root)) for cpu in options.cpu]
    if options.json:
        options.json.write_text(json.dumps(counts, indent=1) + "\n", encoding="utf-8")
    terminal.print_table(tables.counts(counts), terminal.make_console())


if __name__ == "__main__":
    main()
