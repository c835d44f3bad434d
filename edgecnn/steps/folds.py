"""The stage that cross-validates: of few pictures, how good is a network that is trained as the recipe says?

The pictures of train and validation are dealt into folds; for each, a network is trained on all others and
judged on it. The test part has no say. The networks are thrown away.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.data import Dataset
from edgecnn.progress import Silent
from edgecnn.stages import Stage
from edgecnn.steps.networks import CODE, Workshop, start_network, train_settings, training_inputs
from edgecnn.units import format_share


def folds_stage(shop: Workshop, n_folds: int) -> Stage:
    """Its facts: `accuracies`, that of the dense float network on each fold, 0..1, and `n_images` in all."""

    def work(folder: Path) -> dict[str, Any]:
        together = _together(shop.splits.train, shop.splits.validation)
        fold_of = deal(together.labels, n_folds, shop.recipe.seed)
        # An interrupted run goes on with the fold that it was at: those before have all their epochs.
        accuracies = [
            _accuracy(
                shop, together, fold_of == fold, folder / f"checkpoint-{fold}", f"fold {fold + 1}/{n_folds}"
            )
            for fold in range(n_folds)
        ]
        return {"accuracies": accuracies, "n_images": len(together)}

    inputs = {**training_inputs(shop), "folds": n_folds}
    if shop.weights:
        inputs["weights"] = shop.weights.sha256
    return Stage("folds", inputs, work, (), (*CODE, "edgecnn.steps.folds"))


def folds_notes(facts: dict[str, Any]) -> list[str]:
    """What the report says of the facts of a folds stage."""
    accuracies = np.array(facts["accuracies"])
    mean, low, high = (format_share(value) for value in (accuracies.mean(), accuracies.min(), accuracies.max()))
    return [
        (
            f"{len(accuracies)}-fold cross-validation of the dense float network over the "
            f"{facts['n_images']:,} pictures of train and validation: accuracy {mean} in the mean, {low} to {high} by fold"  # noqa: E501
        )
    ]


def deal(labels: NDArray[Any], n_folds: int, seed: int) -> NDArray[Any]:
    """The fold of each picture, 0..n_folds-1: random, as many of each class in every fold as can be."""
    generator = np.random.default_rng(seed)
    # By class, at random within a class; dealt out in turn, so that the folds are of equal size, too.
    order = np.lexsort((generator.random(len(labels)), labels))
    fold_of = np.empty(len(labels), np.int64)
    fold_of[order] = np.arange(len(labels)) % n_folds
    return fold_of


def _together(train: Dataset, validation: Dataset) -> Dataset:
    return Dataset(
        np.concatenate([train.images_nhwc, validation.images_nhwc]),
        np.concatenate([train.labels, validation.labels]),
        train.class_names,
        "train",
    )


def _accuracy(
    shop: Workshop, together: Dataset, left_out: NDArray[Any], checkpoints: Path, title: str
) -> float:
    """The accuracy on the pictures `left_out` (bool [n]) of a network that was trained on the others."""
    from edgecnn.training.loop import train

    model = start_network(shop, Silent())  # what is to be said of it, training has said
    training, judged = (shop.on_device(_some(together, rows)) for rows in (~left_out, left_out))
    history = train(
        model,
        training,
        judged,
        train_settings(shop.recipe),
        checkpoints=checkpoints,
        progress=shop.progress,
        title=title,
    )
    return history[-1].validation_accuracy


def _some(dataset: Dataset, rows: NDArray[Any]) -> Dataset:
    return Dataset(dataset.images_nhwc[rows], dataset.labels[rows], dataset.class_names, dataset.split)
