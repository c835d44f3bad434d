"""What training costs beside the network's own work: SqueezeNet 1.1 at 96 pixels, batch 128.

    python benchmarks/squeezenet_training.py
    python benchmarks/squeezenet_training.py --size 64 --steps 10 --rounds 5 --json

Contestants take turns in every round: the bare step (forward, loss, backward, optimizer on one batch that
lies ready, channels last), edgecnn's training loop on the same network, the loop in bfloat16 and with
everything that a recipe may ask of it for fine-tuning (crop and flip, moving average of the weights), and
edgecnn's batches alone. Printed are medians of rounds and the ratios of each round: the loop's rate against
the bare step's (the aim: at least 0.95 without augmentation), and the share of the loop's time that making
batches takes (at most 10 %).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from torch.nn import functional

from edgecnn.data import IMAGENET_MEAN, IMAGENET_STD, Dataset
from edgecnn.models import build_model
from edgecnn.ondevice.manifest import Preprocessing
from edgecnn.progress import Silent
from edgecnn.training.device import prepare
from edgecnn.training.loop import Pictures, Run, Settings, laid_out, make_optimizer

BATCH_SIZE = 128
THREADS = 2
N_CLASSES = 10
SETTINGS = Settings(1, BATCH_SIZE, "sgd", 1e-2, "one_cycle", 5e-4, 0.0, (), 0)
FINETUNING = replace(SETTINGS, augment=("crop", "flip"), ema=0.998)


def network() -> torch.nn.Module:
    model = build_model("squeezenet1_1", in_channels=3, n_classes=N_CLASSES, options={"stem": "imagenet"})
    return laid_out(model, torch.channels_last).train()


def pictures(size: int, n_images: int) -> Pictures:
    """Noise: what a picture shows does not change what it costs."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (n_images, size, size, 3), dtype=np.uint8)
    labels = random.integers(0, N_CLASSES, n_images)
    preprocessing = Preprocessing(size, size, 3, IMAGENET_MEAN, IMAGENET_STD)
    names = tuple(map(str, range(N_CLASSES)))
    return Pictures(Dataset(images, labels, names, "train"), preprocessing, torch.device("cpu"))


def bare_step(source: Pictures, n_steps: int) -> Callable[[], None]:
    model = network()
    optimizer = make_optimizer(model, SETTINGS)
    images, targets = next(source.batches(SETTINGS, torch.Generator().manual_seed(0)))

    def run() -> None:
        for _ in range(n_steps):
            loss = functional.cross_entropy(model(images), targets.labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    return run


def loop(source: Pictures, settings: Settings, n_steps: int) -> Callable[[], None]:
    training = Run(network(), settings, None, Silent())

    def run() -> None:
        for images, targets in endless(source, settings, n_steps):
            training.step(images, targets)

    return run


def batches_alone(source: Pictures, n_steps: int) -> Callable[[], None]:
    def run() -> None:
        for _ in endless(source, FINETUNING, n_steps):
            pass

    return run


def endless(source: Pictures, settings: Settings, n_steps: int) -> Iterator:
    def forever() -> Iterator:
        generator = torch.Generator().manual_seed(0)
        while True:
            yield from source.batches(settings, generator)

    return islice(forever(), n_steps)


def measure(size: int, n_steps: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of every contestant in every round; the first round is the warm-up, and left out."""
    source = pictures(size, BATCH_SIZE * 4)
    runs = {
        "bare step": bare_step(source, n_steps),
        "loop": loop(source, SETTINGS, n_steps),
        "loop, fine-tuning": loop(source, FINETUNING, n_steps),
        "loop, bfloat16": loop(source, replace(SETTINGS, precision="bfloat16"), n_steps),
        "batches, fine-tuning": batches_alone(source, n_steps),
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for round_ in range(rounds + 1):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            if round_:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def ratio(seconds: dict[str, list[float]], of: str, to: str) -> float:
    """The median over rounds: both sides of a ratio met the same minute."""
    return statistics.median(a / b for a, b in zip(seconds[of], seconds[to], strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    prepare(THREADS)
    seconds = measure(options.size, options.steps, options.rounds)
    ratios = {
        "loop to bare step": ratio(seconds, "bare step", "loop"),
        "fine-tuning to bare step": ratio(seconds, "bare step", "loop, fine-tuning"),
        "bfloat16 to float32": ratio(seconds, "loop", "loop, bfloat16"),
        "batches in fine-tuning": ratio(seconds, "batches, fine-tuning", "loop, fine-tuning"),
    }
    if options.json:
        print(json.dumps({"seconds": seconds, "ratios": ratios}))
        return
    for name, values in seconds.items():
        rates = [options.steps * BATCH_SIZE / one for one in values]
        spread = f"({min(rates):,.0f} to {max(rates):,.0f})"
        print(f"{name:<22} {statistics.median(rates):>8,.0f} images/s   {spread}")
    print(f"\nloop against the bare step: {ratios['loop to bare step']:.2f} (the aim: 0.95)")
    print(f"with crop, flip and averaging: {ratios['fine-tuning to bare step']:.2f}")
    print(f"bfloat16 against float32: {ratios['bfloat16 to float32']:.2f}")
    print(f"share of making batches: {ratios['batches in fine-tuning']:.0%} (the aim: at most 10 %)")


if __name__ == "__main__":
    main()
