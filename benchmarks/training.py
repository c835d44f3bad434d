"""How fast edgecnn trains, against the usual way: a Dataset of PIL images, transforms, a DataLoader.

    python benchmarks/training.py [--images 20000] [--rounds 5] [--json]

Same network (LeNet-5), same optimizer (AdamW), same augmentation (one random shift, rotation and scale a
picture), same batch size, same threads. Both are timed in turns in one run, so that a slow minute of the
machine meets both; the figures are images per second (medians over the rounds) and their ratio.

- `pipeline`: the batches alone, made and thrown away.
- `step`: forward, backward and optimizer step on every batch. The usual way has torch's defaults (NCHW,
  AdamW unfused); edgecnn trains channels-last with the fused AdamW, as its loop does.
- `plain`: edgecnn's step without any augmentation, which is the ceiling.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import torch
from PIL import Image
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from edgecnn import data
from edgecnn.data import DATASETS, Dataset
from edgecnn.models import build_model
from edgecnn.training.augment import MAX_ROTATION_DEG, MAX_SCALE, MAX_SHIFT
from edgecnn.training.device import prepare
from edgecnn.training.loop import Pictures, Settings, laid_out, make_optimizer
from edgecnn.training.mix import Targets

BATCH_SIZE = 128
THREADS = 2
WORKERS = 2
AUGMENT = ("shift", "rotate", "scale")
SETTINGS = Settings(1, BATCH_SIZE, "adamw", 1e-3, "cosine", 0.01, 0.0, AUGMENT, 0)
PREPROCESSING = DATASETS["mnist"].preprocessing
Batches = Iterable[tuple[torch.Tensor, torch.Tensor | Targets]]


class PilImages(TorchDataset):
    """The usual way: one PIL image at a time, warped, turned into a tensor and normalized."""

    def __init__(self, split: Dataset) -> None:
        self.images = [Image.fromarray(image[:, :, 0]) for image in split.images_nhwc]
        self.labels = split.labels.tolist()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = warped(self.images[index])
        pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
        tensor = pixels.reshape(1, image.height, image.width).float().div(255)
        return tensor.sub(PREPROCESSING.mean[0]).div(PREPROCESSING.std[0]), self.labels[index]


def warped(image: Image.Image) -> Image.Image:
    """The affine map of `edgecnn.training.augment`, by PIL, about the centre, bilinear."""
    angle = math.radians(random.uniform(-MAX_ROTATION_DEG, MAX_ROTATION_DEG))
    zoom = 1 + random.uniform(-MAX_SCALE, MAX_SCALE)
    width, height = image.size
    shift_x, shift_y = (random.uniform(-MAX_SHIFT, MAX_SHIFT) * side for side in (width, height))
    cos, sin = math.cos(angle) * zoom, math.sin(angle) * zoom
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    matrix = (
        cos, -sin, centre_x - cos * centre_x + sin * centre_y + shift_x,
        sin, cos, centre_y - sin * centre_x - cos * centre_y + shift_y,
    )  # fmt: skip
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)


def consume(batches: Batches) -> None:
    for _ in batches:
        pass


def train_as_usual(batches: Batches) -> None:
    """One epoch of LeNet-5 with what torch does when nothing is said."""
    model = build_model("lenet5", in_channels=1, n_classes=10)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=SETTINGS.learning_rate, weight_decay=SETTINGS.weight_decay
    )
    train_on(batches, model, optimizer)


def train_as_edgecnn(batches: Batches) -> None:
    """One epoch of LeNet-5 with the memory format and the optimizer of `edgecnn.training.loop`."""
    model = laid_out(build_model("lenet5", in_channels=1, n_classes=10), torch.channels_last)
    train_on(batches, model, make_optimizer(model, SETTINGS))


def train_on(batches: Batches, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for images, labels in batches:
        targets = labels if isinstance(labels, Targets) else Targets(labels)
        loss = targets.loss(model(images), 0.0)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


def contestants(n_images: int) -> dict[str, Callable[[], None]]:
    """What is timed, by name; each call is one epoch over the same `n_images` pictures."""
    full = data.load("mnist").train
    split = Dataset(full.images_nhwc[:n_images], full.labels[:n_images], full.class_names, "train")
    pictures = Pictures(split, PREPROCESSING, torch.device("cpu"))
    # Workers are kept from epoch to epoch: starting them is not what is compared.
    loader = DataLoader(
        PilImages(split), BATCH_SIZE, shuffle=True, num_workers=WORKERS, persistent_workers=True
    )
    generator = torch.Generator().manual_seed(0)

    def ours(augmentations: tuple[str, ...] = AUGMENT) -> Iterator[tuple[torch.Tensor, Targets]]:
        return pictures.batches(replace(SETTINGS, augment=augmentations), generator)

    return {
        "pipeline, usual": lambda: consume(loader),
        "pipeline, edgecnn": lambda: consume(ours()),
        "step, usual": lambda: train_as_usual(loader),
        "step, edgecnn": lambda: train_as_edgecnn(ours()),
        "plain, edgecnn": lambda: train_as_edgecnn(ours(())),
    }


def measure(n_images: int, rounds: int) -> dict[str, list[float]]:
    """Images per second of every contestant in every round; the first round is the warm-up, and left out."""
    rates: dict[str, list[float]] = {}
    runs = contestants(n_images)
    for round_ in range(rounds + 1):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            if round_:
                rates.setdefault(name, []).append(n_images / (time.perf_counter() - started))
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    prepare(THREADS)
    rates = measure(options.images, options.rounds)
    # A ratio a round, then their median: both sides of a ratio met the same minute.
    ratios = {
        what: statistics.median(
            a / b for a, b in zip(rates[f"{what}, edgecnn"], rates[f"{what}, usual"], strict=True)
        )
        for what in ("pipeline", "step")
    }
    if options.json:
        print(json.dumps({"images_per_s": rates, "ratios": ratios}))
        return
    for name, values in rates.items():
        low, high = min(values), max(values)
        print(f"{name:<18} {statistics.median(values):>9,.0f} images/s   ({low:,.0f} to {high:,.0f})")
    print(f"\ndata pipeline alone: {ratios['pipeline']:.1f} times as fast (the aim: 5)")
    print(f"whole training step: {ratios['step']:.2f} times as fast (the aim: 1.8)")


if __name__ == "__main__":
    main()
