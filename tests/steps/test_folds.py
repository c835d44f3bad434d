"""Cross-validation: every picture of train and validation is judged once, by a network that has not seen it."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from edgecnn import data, pipeline, recipe_file
from edgecnn.data import Dataset, Source, Splits
from edgecnn.errors import DataError, RecipeError
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
    alone = np.arange(203)
    fold_of = folds.deal(labels, 4, 0, alone)
    assert sorted(np.bincount(fold_of)) == [50, 51, 51, 51]
    for label in range(5):
        counts = np.bincount(fold_of[labels == label], minlength=4)
        assert counts.max() - counts.min() <= 1
    assert np.array_equal(fold_of, folds.deal(labels, 4, 0, alone))
    assert not np.array_equal(fold_of, folds.deal(labels, 4, 1, alone))


def test_a_group_lies_in_one_fold_and_the_others_make_up_for_it() -> None:
    random = np.random.default_rng(1)
    labels, group_of = random.integers(0, 3, 200), np.arange(200)
    group_of[:30], group_of[30:45], group_of[random.permutation(range(45, 200))[:40]] = 7, 40, 60
    fold_of = folds.deal(labels, 5, 0, group_of)
    for group in (7, 40, 60):
        assert len(set(fold_of[group_of == group])) == 1
    assert sorted(np.bincount(fold_of)) == [39, 40, 40, 40, 41]
    assert np.array_equal(fold_of, folds.deal(labels, 5, 0, group_of))


@pytest.mark.parametrize(
    ("group_of", "what", "fix"),
    [
        ([0, 0, 2, 2, 2, 5], "6 pictures to train on, only 3 of them different, are too few", "write folds: 3"),
        ([0, 1, 2], "3 pictures to train on are too few for 4 folds", "write folds: 3, or add pictures"),
        ([0, 0, 0, 0], "only 1 of them different, are too few for 4 folds", "leave folds out, or add pictures"),
    ],
)
def test_no_fold_is_left_without_pictures(group_of: list[int], what: str, fix: str) -> None:
    with pytest.raises(DataError) as fault:
        folds.deal(np.zeros(len(group_of), np.int64), 4, 0, np.array(group_of))
    assert what in str(fault.value) and fix in str(fault.value) and "data: folds" in str(fault.value)


def test_no_network_is_judged_on_a_copy_of_what_it_has_seen(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 60 digits each lies there four times, a little brighter each time; the last ten in validation."""
    splits = shop.splits
    images = np.concatenate([np.minimum(splits.train.images_nhwc[:60], 230) + k for k in range(4)])
    labels = np.tile(splits.train.labels[:60], 4)
    parts = [Dataset(images[rows], labels[rows], splits.train.class_names, split)
             for split, rows in (("train", slice(0, 230)), ("validation", slice(230, 240)))]  # fmt: skip
    shop.__dict__["splits"] = Splits(*parts, None)  # type: ignore[arg-type]
    seen = []

    def judged_on(_shop, together, left_out, *_):
        seen.append(np.flatnonzero(left_out) % 60)
        return 0.5

    monkeypatch.setattr(folds, "_accuracy", judged_on)
    stage = folds.folds_stage(shop, 4)
    shop.store.run(stage)
    assert sorted(np.concatenate(seen)) == sorted(np.tile(np.arange(60), 4))
    for one, other in itertools.combinations(seen, 2):
        assert not set(one) & set(other)
    facts = shop.store.facts(stage)
    assert (facts["n_images"], facts["n_alike"]) == (240, 240)
    assert folds.folds_notes(facts)[0].endswith(
        "; 240 that are nearly the same as others lie in one fold with them"
    )


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


def test_few_pictures_without_folds_are_told_of(
    shop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    class Listening(Silent):
        def say(self, line: str) -> None:
            said.append(line)

    def told(n_train: int, *overrides: str) -> list[str]:
        said.clear()
        mnist = data.load("mnist").train
        parts = [part(mnist, 0, n_train, "train"), part(mnist, 0, 20, "validation"), part(mnist, 0, 30, "test")]
        found = Workshop(recipe(tmp_path, *overrides), shop.store, Listening())
        found.__dict__["source"] = Source(mnist.class_names, "sha", lambda *_: Splits(*parts))
        assert len(found.splits.train) == n_train
        return [line for line in said if "folds" in line]

    (line,) = told(400, "data.npz.folds=null")
    assert line.startswith("450 pictures, and the recipe has no folds: with folds: 5 in its data, five more")
    assert not told(400), "there are folds"
    assert not told(950, "data.npz.folds=null"), "1,000 pictures are enough"
    assert not recipe(tmp_path, "data=mnist").lacks_folds
    unlabelled = ("data={pictures: p}", "train.epochs=0", "model={squeezenet1_1: {weights: imagenet}}")
    assert not recipe(tmp_path, *unlabelled).lacks_folds


def test_an_onnx_file_cannot_be_cross_validated(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="and this recipe trains none: leave folds out"):
        recipe(tmp_path, "model={onnx: net.onnx}")
