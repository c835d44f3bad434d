"""The stage that cross-validates: of few pictures, how good is a network that is trained as the recipe says?

The pictures of train and validation are dealt into folds; for each, a network is trained on all others and
judged on it. Pictures that are nearly the same lie in one fold: a network that has seen a picture knows its
copy. The test part has no say. The networks are thrown away.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.data import Dataset
from edgecnn.data.duplicates import alike_groups
from edgecnn.errors import DataError
from edgecnn.progress import Silent
from edgecnn.stages import Stage
from edgecnn.steps.networks import CODE, Workshop, start_network, train_settings, training_inputs
from edgecnn.units import format_share


def folds_stage(shop: Workshop, n_folds: int) -> Stage:
    """Its facts: `accuracies`, that of the dense float network on each fold, 0..1, `n_images` in all, and
    `n_alike`, how many of these are nearly the same as others. Its work raises DataError where these are so
    many that a fold would be empty.
    """

    def work(folder: Path) -> dict[str, Any]:
        together = _together(shop.splits.train, shop.splits.validation)
        group_of = alike_groups(together.images_nhwc)
        fold_of = deal(together.labels, n_folds, shop.recipe.seed, group_of)
        # An interrupted run goes on with the fold that it was at: those before have all their epochs.
        accuracies = [
            _accuracy(
                shop, together, fold_of == fold, folder / f"checkpoint-{fold}", f"fold {fold + 1}/{n_folds}"
            )
            for fold in range(n_folds)
        ]
        sizes = np.bincount(group_of)
        return {"accuracies": accuracies, "n_images": len(together), "n_alike": int(sizes[sizes > 1].sum())}

    inputs = {**training_inputs(shop), "folds": n_folds}
    if shop.weights:
        inputs["weights"] = shop.weights.sha256
    return Stage("folds", inputs, work, (), (*CODE, "edgecnn.steps.folds"))


def folds_notes(facts: dict[str, Any]) -> list[str]:
    """What the report says of the facts of a folds stage."""
    accuracies = np.array(facts["accuracies"])
    mean, low, high = (format_share(value) for value in (accuracies.mean(), accuracies.min(), accuracies.max()))
    said = (
        f"{len(accuracies)}-fold cross-validation of the dense float network over the "
        f"{facts['n_images']:,} pictures of train and validation: "
        f"accuracy {mean} in the mean, {low} to {high} by fold"
    )
    if facts["n_alike"]:
        said += f"; {facts['n_alike']:,} that are nearly the same as others lie in one fold with them"
    return [said]


def deal(labels: NDArray[Any], n_folds: int, seed: int, group_of: NDArray[Any]) -> NDArray[Any]:
    """The fold of each picture, 0..n_folds-1: random, those of one group in one fold, and as many of each class
    in every fold as can be. Raises DataError where there are fewer groups than folds.
    """
    _, first, group = np.unique(group_of, return_index=True, return_inverse=True)
    sizes = np.bincount(group)
    if len(first) < n_folds:
        raise _too_few(len(labels), len(first), n_folds)
    members = np.split(np.argsort(group, kind="stable"), np.cumsum(sizes)[:-1])
    # Large groups first, while there is room for them; by class, and at random within a class.
    random = np.random.default_rng(seed).random(len(labels))
    fold_of = np.empty(len(labels), np.int64)
    of_class = np.zeros((int(labels.max()) + 1, n_folds), np.int64)
    for one in np.lexsort((random[first], labels[first], -sizes)):
        # To the fold with the fewest of its class; of these to the smallest, so that all are of one size, too.
        fold = np.lexsort((of_class.sum(axis=0), of_class[labels[first[one]]]))[0]
        fold_of[members[one]] = fold
        np.add.at(of_class[:, fold], labels[members[one]], 1)
    return fold_of


def _too_few(n_pictures: int, n_groups: int, n_folds: int) -> DataError:
    alike = f", only {n_groups} of them different," if n_groups < n_pictures else ""
    return DataError(
        f"{n_pictures} pictures to train on{alike} are too few for {n_folds} folds",
        where="data: folds",
        fix=f"write folds: {n_groups}, or add pictures" if n_groups > 1 else "leave folds out, or add pictures",
    )


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
