"""Cross-validation: every picture of train and validation is judged once, by a network that has not seen it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgecnn import data, pipeline, recipe_file
from edgecnn.data import Dataset, Source, Splits
from edgecnn.errors import RecipeError
from edgecnn.progress import Silent
from edgecnn.recipe import Recipe
from edgecnn.stages import StageStore
from edgecnn.steps import folds
from edgecnn.steps.networks import Workshop

RECIPE = """\
version: 1
name: folds
data: {npz: {path: data.npz, size: 28, channels: 1, folds: 4}}
model: lenet5
train: {epochs: 2, batch_size: 16, threads: 1}
"""


def recipe(tmp_path: Path, *overrides: str) -> Recipe:
    path = tmp_path / "folds.yaml"
    path.write_text(RECIPE)
    return recipe_file.load(path, overrides).recipe


def part(mnist: Dataset, first: int, last: int, split: str) -> Dataset:
    return Dataset(mnist.images_nhwc[first:last], mnist.labels[first:last], mnist.class_names, split)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """A build of 600 digits; nothing may look at its test part."""
    mnist = data.load("mnist").train
    splits = Splits(part(mnist, 0, 540, "train"), part(mnist, 540, 600, "validation"), None)  # type: ignore[arg-type]
    found = Workshop(recipe(tmp_path), StageStore(tmp_path / "out"), Silent())
    found.__dict__.update(source=Source(mnist.class_names, "sha", lambda *_: splits), splits=splits)
    return found


def test_every_picture_is_left_out_once_and_classes_are_dealt_evenly() -> None:
    labels = np.random.default_rng(0).integers(0, 5, 203)
    fold_of = folds.deal(labels, 4, seed=0)
    assert sorted(np.bincount(fold_of)) == [50, 51, 51, 51]
    for label in range(5):
        counts = np.bincount(fold_of[labels == label], minlength=4)
        assert counts.max() - counts.min() <= 1
    assert np.array_equal(fold_of, folds.deal(labels, 4, seed=0))
    assert not np.array_equal(fold_of, folds.deal(labels, 4, seed=1))


def test_each_fold_is_judged_by_a_network_that_was_trained_on_the_others(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgecnn.training import loop

    seen: list[tuple[set[bytes], set[bytes]]] = []
    train = loop.train

    def spy(model, training, judged, *args, **kwargs):
        seen.append(tuple({image.numpy().tobytes() for image in p.images} for p in (training, judged)))
        return train(model, training, judged, *args, **kwargs)

    monkeypatch.setattr(loop, "train", spy)
    stage = folds.folds_stage(shop, 4)
    assert shop.store.run(stage)
    facts = shop.store.facts(stage)
    assert facts["n_images"] == 600
    assert len(seen) == len(facts["accuracies"]) == 4
    assert all(not (training & judged) for training, judged in seen)
    assert sum(len(judged) for _, judged in seen) == len(set.union(*(judged for _, judged in seen))) == 600
    assert 0.3 < np.mean(facts["accuracies"]) < 1
    assert not list(shop.store.folder(stage).glob("checkpoint*"))
    (note,) = folds.folds_notes(facts)
    mean, low = np.mean(facts["accuracies"]), min(facts["accuracies"])
    assert note.startswith(
        "4-fold cross-validation of the dense float network over the 600 pictures of train and"
    )
    assert f"accuracy {100 * mean:.2f} % in the mean, {100 * low:.2f} % to" in note


def test_an_interrupted_cross_validation_goes_on_with_the_same_result(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgecnn.training import loop

    stage = folds.folds_stage(shop, 3)
    train, calls = loop.train, []

    def cut_off(model, training, judged, settings, **kwargs):
        calls.append(kwargs["title"])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return train(model, training, judged, settings, **kwargs)

    monkeypatch.setattr(loop, "train", cut_off)
    with pytest.raises(KeyboardInterrupt):
        shop.store.run(stage)
    monkeypatch.setattr(loop, "train", train)
    steps = []
    monkeypatch.setattr(loop.Run, "one_epoch", _counting(loop.Run.one_epoch, steps))
    shop.store.run(stage)
    resumed = shop.store.facts(stage)["accuracies"]
    assert len(steps) == 2, "the epochs of the last fold alone"
    shop.store.forget((stage,))
    shop.store.run(stage)
    assert shop.store.facts(stage)["accuracies"] == resumed


def _counting(method, steps: list[int]):
    def counted(self, training, epoch, steps_an_epoch):
        steps.append(epoch)
        return method(self, training, epoch, steps_an_epoch)

    return counted


def test_recipes_without_it_have_no_such_stage_and_train_the_same(shop: Workshop, tmp_path: Path) -> None:
    assert [s.name for s in pipeline.BuildPlan(shop).stages][:2] == ["train", "folds"]
    without = Workshop(recipe(tmp_path, "data.npz.folds=null"), shop.store, Silent())
    without.__dict__.update(source=shop.source)
    stages = {stage.name: stage for stage in pipeline.BuildPlan(without).stages}
    assert "folds" not in stages
    assert stages["train"].key == pipeline.BuildPlan(shop).networks[0].key


def test_an_onnx_file_cannot_be_cross_validated(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="and this recipe trains none: leave folds out"):
        recipe(tmp_path, "model={onnx: net.onnx}")
