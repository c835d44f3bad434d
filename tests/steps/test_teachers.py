"""Steps that learn from another network than the dense one: real trainings, 200 digits, small networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgecnn import data, pipeline, recipe_file
from edgecnn.data import DATASETS
from edgecnn.progress import Silent
from edgecnn.stages import Stage, StageStore
from edgecnn.steps import networks
from edgecnn.steps.compression import network_stages
from edgecnn.steps.networks import Workshop
from edgecnn.steps.quantization import quantization_stages

RECIPE = """\
version: 1
name: taught
data: {npz: {path: data.npz, size: 28, channels: 1}}
model: {lenet5: {widths: [2, 4, 8, 8]}}
train: {epochs: 1, batch_size: 16, threads: 1}
compress:
  - finetune: {epochs: 1, teacher: TEACHER}
  - quantize: {calibration_images: 20, engine: onnxruntime}
  - qat: {epochs: 1, teacher: TEACHER}
"""
OTHER = "{lenet5_caffe: {widths: [4, 6, 20]}}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("digits")
    mnist = data.load("mnist").train
    np.savez(made / "data.npz", images=mnist.images_nhwc[:200, ..., 0], labels=mnist.labels[:200])
    return made


def built(folder: Path, teacher: str) -> tuple[StageStore, tuple[Stage, ...], list[bool]]:
    """The store and stages of a build with `teacher`, and which of these it ran."""
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.replace("data.npz", str(folder / "data.npz")).replace("TEACHER", teacher))
    shop = Workshop(recipe_file.load(path).recipe, StageStore(folder / "out"), Silent())
    trained = network_stages(shop)
    stages = (*trained, *quantization_stages(shop, trained))
    return shop.store, stages, [shop.store.run(stage) for stage in stages]


def test_a_teacher_sees_the_pictures_as_the_network_that_learns_from_it_does(folder: Path) -> None:
    """Weights from ImageNet want its normalization: a LeNet that teaches such a network is trained with it."""
    text = RECIPE.replace("data.npz", str(folder / "data.npz")).replace("TEACHER", "lenet5_caffe")
    path = folder / "pretrained.yaml"
    path.write_text(text.replace("{lenet5: {widths: [2, 4, 8, 8]}}", "{squeezenet1_1: {weights: imagenet}}"))
    shop = Workshop(recipe_file.load(path).recipe, StageStore(folder / "unused"), Silent())
    assert shop.recipe.preprocessing.mean != DATASETS["mnist"].preprocessing.mean
    teacher = shop.recipe.teachers[0, "finetune"]
    before = networks._teaching(shop, teacher)
    assert before.recipe.preprocessing == shop.recipe.preprocessing
    pictures = shop.pictures
    assert networks._teaching(shop, teacher).pictures is pictures


def test_a_plan_shows_the_teacher_in_front_of_what_learns_from_it(folder: Path) -> None:
    path = folder / "planned.yaml"
    path.write_text(RECIPE.replace("data.npz", str(folder / "data.npz")).replace("TEACHER", OTHER))
    planned = [one.stage.name for one in pipeline.plan(path, folder / "planned")]
    assert planned[:5] == ["train", "teacher", "1-finetune", "2-quantize", "3-qat"]
    assert planned.count("teacher") == 1


def test_another_network_is_trained_once_and_teaches_finetune_and_qat(folder: Path) -> None:
    store, (dense, finetuned, *_, trained), ran = built(folder, OTHER)
    assert all(ran)
    (teacher,) = (store.root / "teacher").glob("*/")
    assert store.facts(dense)["widths"] == {"conv1": 2, "conv2": 4, "fc1": 8, "fc2": 8}
    assert '"conv1": 4' in (teacher / "done.json").read_text()
    assert not any(built(folder, OTHER)[2])

    # Another teacher is another training, of all that learns from it and of nothing else.
    for name in ("dense", "lenet5_caffe", "null"):
        other, (_, finetuned_otherwise, *_, trained_otherwise), (again, *learnt) = built(folder, name)
        assert not again and all(learnt), name
        for one, two in ((finetuned, finetuned_otherwise), (trained, trained_otherwise)):
            losses = [other.facts(stage)["history"][0]["train_loss"] for stage in (one, two)]
            assert losses[0] != losses[1], name
    assert len(list((store.root / "teacher").glob("*/"))) == 2
