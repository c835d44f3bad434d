"""Which widths the demo prunes LeNet-5 to: candidates of one size, judged on the validation images alone.

    python benchmarks/demo_widths.py [--seeds 0 1] [--work DIR]

Each candidate takes the place of the widths of recipes/mnist_lenet5_int8.yaml, with and without the dense
network as teacher of the last fine-tuning, and goes through training, pruning and quantization. The figure is
the accuracy of the int8 network on the 5,000 validation images; the test images are not read. What is done
already in the folder `--work` is not done again.
"""

from __future__ import annotations

import argparse
import os
import statistics
from pathlib import Path

# Before torch is loaded, as a build does it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from edgecnn import recipe_file
from edgecnn.progress import Silent
from edgecnn.recipe import FinetuneStep, PruneStep, Recipe
from edgecnn.stages import StageStore
from edgecnn.steps.compression import network_stages
from edgecnn.steps.networks import Workshop
from edgecnn.steps.quantization import quantize_stage

RECIPE = Path(__file__).parents[1] / "recipes" / "mnist_lenet5_int8.yaml"
# Each gives an int8 .tflite of 11.5 to 11.9 kB.
CANDIDATES = ([6, 13, 20, 16], [5, 12, 24, 16], [6, 12, 22, 16], [4, 14, 20, 16])


def validation_accuracy(recipe: Recipe, work: Path) -> float:
    """Of the int8 network, 0..1."""
    shop = Workshop(recipe, StageStore(work / f"seed-{recipe.seed}"), Silent())
    networks = network_stages(shop)
    assert recipe.quantize is not None
    quantized = quantize_stage(shop, recipe.quantize, len(recipe.compress), networks[-1])
    for stage in (*networks, quantized):
        shop.store.run(stage)
    accuracy: float = shop.store.facts(quantized)["validation_accuracy"]
    return accuracy


def candidate(widths: list[int], teacher: bool, seed: int) -> Recipe:
    """The demo's recipe with other widths, seed, and with or without teacher."""
    recipe = recipe_file.load(RECIPE, (f"seed={seed}",)).recipe
    prune, finetune, quantize = recipe.compress
    assert isinstance(prune, PruneStep)
    assert isinstance(finetune, FinetuneStep)
    pruned = prune.prune.model_copy(update={"widths": tuple(widths)})
    tuned = finetune.finetune.model_copy(update={"teacher": "dense" if teacher else None})
    return recipe.model_copy(
        update={"compress": (PruneStep(prune=pruned), FinetuneStep(finetune=tuned), quantize)}
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--work", type=Path, default=Path("build/demo_widths"))
    options = parser.parse_args()
    print(f"{'widths':<18}{'teacher':<9}{'mean':>8}   seeds {options.seeds}")
    for teacher in (False, True):
        for widths in CANDIDATES:
            found = [
                validation_accuracy(candidate(widths, teacher, seed), options.work) for seed in options.seeds
            ]
            each = "  ".join(f"{accuracy:.2%}" for accuracy in found)
            print(
                f"{widths!s:<18}{'dense' if teacher else '-':<9}{statistics.mean(found):>8.2%}   {each}",
                flush=True,
            )


if __name__ == "__main__":
    main()
