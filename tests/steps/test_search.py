"""A search over real networks: 600 digits, LeNet-5, a few short trainings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from measurements_for_tests import measure_little

from edgecnn import data, pipeline, recipe_file
from edgecnn.errors import DivergedError, EdgeCNNError, RecipeError
from edgecnn.export import tflite
from edgecnn.progress import Silent
from edgecnn.recipe.steps import SearchStep
from edgecnn.records import Report
from edgecnn.search.workers import Processes
from edgecnn.stages import StageStore
from edgecnn.steps import quantization, search
from edgecnn.steps.compression import network_stages
from edgecnn.steps.networks import Workshop

RECIPE = """\
version: 1
name: searched
data: {npz: {path: data.npz, size: 28, channels: 1}}
model: {lenet5: {widths: [4, 8, 24, 16]}}
train: {epochs: 3, batch_size: 16, threads: 1}
compress:
  - search: {max_accuracy_drop: 40 pt, trials: 5, screen_epochs: 1, epochs: 2, finalists: 2}
  - quantize: {calibration_images: 20, engine: onnxruntime}
"""


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data.npz: 600 digits."""
    folder = tmp_path_factory.mktemp("digits")
    mnist = data.load("mnist").train
    np.savez(folder / "data.npz", images=mnist.images_nhwc[:600, ..., 0], labels=mnist.labels[:600])
    return folder


def recipe_in(folder: Path, text: str = RECIPE) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text.replace("data.npz", str(folder / "data.npz")))
    return path


def shop_for(digits: Path, build_folder: Path, *overrides: str, workers: Processes | None = None) -> Workshop:
    recipe = recipe_file.load(recipe_in(digits), overrides).recipe
    return Workshop(recipe, StageStore(build_folder), Silent(), workers=workers)


def searched(shop: Workshop) -> tuple[dict, str]:
    """The facts of the search stage, after all stages up to it have run; the sha256 of its weights."""
    stages = network_stages(shop)
    for stage in stages:
        shop.store.run(stage)
    record = shop.store.done(stages[-1])
    assert record is not None
    return record["facts"], record["files"]["network.safetensors"]


@pytest.fixture(scope="module")
def built(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    folder = tmp_path_factory.mktemp("built") / "out"
    with pytest.MonkeyPatch.context() as patch:
        measure_little(patch)
        return pipeline.build(recipe_in(digits), folder), folder


def test_a_build_ends_with_the_network_that_the_search_chose(built: tuple[Report, Path]) -> None:
    report, _ = built
    found = report.search
    assert found is not None and found.holds
    assert [one.extent for one in found.trials].count("screen") == 5
    chosen = next(one for one in found.trials if one.extent == "final" and one.widths == found.chosen)
    assert all(new <= old for new, old in zip(found.chosen, (4, 8, 24, 16), strict=True))
    # What the search said of the file, before there was one, is what lies there now.
    int8 = next(one for one in report.artifacts if one.key == "int8.tflite")
    assert int8.size_bytes == chosen.cost
    assert report.stages[-1].validation_accuracy == chosen.accuracy
    assert found.needed_accuracy == pytest.approx(report.stages[0].validation_accuracy - 0.4)
    assert any("search: 5 trials" in note for note in report.notes)


def test_a_second_build_does_nothing_again(
    built: tuple[Report, Path], digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder = built
    measure_little(monkeypatch)
    planned = pipeline.plan(digits / "recipe.yaml", folder)
    assert not any(one.will_run for one in planned)


def test_the_page_shows_the_trials(built: tuple[Report, Path]) -> None:
    from edgecnn.report.html.page import other_tables
    from edgecnn.report.html.search import search_figure

    report, _ = built
    figure = search_figure(report)
    assert figure is not None and report.search is not None
    for one in report.search.trials:
        assert "-".join(map(str, one.widths)) in figure.svg
    assert " kB" in figure.svg and "mathdefault" not in figure.svg
    assert "Search" not in {table.title for table in other_tables(report)}


@pytest.fixture(scope="module")
def whole(built: tuple[Report, Path], digits: Path) -> tuple[dict, str]:
    """What the search of the build found, in one process and in one go."""
    shop = shop_for(digits, built[1])
    assert all(shop.store.done(stage) for stage in network_stages(shop)), "nothing is searched anew"
    return searched(shop)


def test_a_search_that_was_cut_off_goes_on_and_ends_the_same(
    whole: tuple[dict, str], digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[search.TrialJob] = []
    trial_accuracy = search.trial_accuracy

    def cut_off_at_the_third(shop: Workshop, job: search.TrialJob) -> float:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(job)
        return trial_accuracy(shop, job)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(search, "trial_accuracy", cut_off_at_the_third)
        searched(shop_for(digits, tmp_path / "resumed"))
    trials = tmp_path / "resumed" / ".stages" / "1-trial"
    kept = {path: path.stat().st_mtime_ns for path in trials.glob("*/done.json")}
    assert len(kept) == 2
    assert searched(shop_for(digits, tmp_path / "resumed")) == whole
    assert all(path.stat().st_mtime_ns == written for path, written in kept.items()), "a trial was done again"


def test_two_workers_find_the_same_as_one(whole: tuple[dict, str], digits: Path, tmp_path: Path) -> None:
    pool = Processes(2)
    try:
        with_two = searched(shop_for(digits, tmp_path / "two", workers=pool))
    finally:
        pool.close()
    assert with_two == whole


def test_a_search_that_looks_at_the_test_images_is_caught(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_test_images(shop: Workshop, path: Path) -> np.ndarray:
        return shop.splits.test.labels

    monkeypatch.setattr(quantization, "_answers", on_test_images)
    with pytest.raises(EdgeCNNError, match="a choice looked at the test images"):
        searched(shop_for(digits, tmp_path / "out"))


def test_another_network_may_teach(digits: Path, tmp_path: Path) -> None:
    shop = shop_for(
        digits, tmp_path / "out", "compress.0.search.teacher=lenet5_caffe", "compress.0.search.trials=1"
    )
    searched(shop)
    assert list((tmp_path / "out" / ".stages" / "teacher").glob("*/network.safetensors"))


def test_macs_are_minimized_by_counting_them(digits: Path, tmp_path: Path) -> None:
    shop = shop_for(digits, tmp_path / "out", "compress.0.search.minimize=macs", "compress.0.search.trials=1")
    facts, _ = searched(shop)
    found = search.search_record(shop, network_stages(shop))
    assert found is not None and tuple(facts["widths"].values()) == found.chosen
    a, b, c, d = found.chosen
    # conv 5 x 5 on 28 x 28 padded, on 14 x 14; then three layers of products.
    assert found.trials[-1].cost == 784 * 25 * a + 100 * 25 * a * b + 25 * b * c + c * d + 10 * d


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("- prune: {ratio: 0.5}\n  - search: {max_accuracy_drop: 1 pt}", "search prunes and fine-tunes"),
        ("- search: {trials: 3}", "max_accuracy_drop"),
        ("- search: {max_accuracy_drop: 1 pt, screen_epochs: 9}", "screen_epochs must not be more than epochs"),
        ("- search: {max_accuracy_drop: 1 pt, teacher: resnet}", "there is no teacher 'resnet'"),
        ("- search", "max_accuracy_drop: the key is missing"),
    ],
)
def test_what_a_search_cannot_be_is_said(digits: Path, line: str, said: str) -> None:
    text = RECIPE.replace(
        "- search: {max_accuracy_drop: 40 pt, trials: 5, screen_epochs: 1, epochs: 2, finalists: 2}", line
    )
    with pytest.raises(RecipeError) as raised:
        recipe_file.load(recipe_in(digits, text), ())
    assert said in str(raised.value)


def test_a_teacher_that_takes_other_pictures_is_refused(digits: Path) -> None:
    text = RECIPE.replace("size: 28, channels: 1", "size: 32, channels: 3").replace(
        "{lenet5: {widths: [4, 8, 24, 16]}}", "squeezenet1_1"
    )
    text = text.replace("max_accuracy_drop: 40 pt", "max_accuracy_drop: 40 pt, teacher: lenet5_caffe")
    with pytest.raises(RecipeError, match="the teacher lenet5_caffe takes pictures of 28 x 28"):
        recipe_file.load(recipe_in(digits, text), ())


def test_networks_whose_widths_are_tied_or_unknown_are_refused(digits: Path) -> None:
    for model, said in (
        ("{squeezenet1_1: {simple_bypass: true}}", "ties them together"),
        ("{onnx: net.onnx}", "prune takes any network"),
    ):
        text = RECIPE.replace("{lenet5: {widths: [4, 8, 24, 16]}}", model)
        with pytest.raises(RecipeError, match=said):
            recipe_file.load(recipe_in(digits, text), ())


def test_a_trial_that_diverges_is_worth_nothing_and_the_search_goes_on(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, n_seen = search.train_network, []

    def diverges_once(*arguments: object) -> object:
        n_seen.append(1)
        if len(n_seen) == 2:
            raise DivergedError("training diverged: the loss is nan")
        return usual(*arguments)

    monkeypatch.setattr(search, "train_network", diverges_once)
    shop = shop_for(digits, tmp_path / "out")
    searched(shop)
    found = search.search_record(shop, network_stages(shop))
    assert found is not None and [one.accuracy for one in found.trials].count(0.0) == 1
    assert len(found.trials) > 5


def test_a_search_in_which_everything_diverges_says_so(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = shop_for(digits, tmp_path / "out", "compress.0.search.trials=1")
    shop.store.run(network_stages(shop)[0])  # the dense network does well

    n_trained = []

    def diverges(*_: object) -> object:
        n_trained.append(1)
        raise DivergedError("training diverged: the loss is nan")

    monkeypatch.setattr(search, "train_network", diverges)
    for _ in range(2):
        with pytest.raises(DivergedError, match="every whole training of the search diverged") as raised:
            searched(shop)
        assert "learning_rate" in raised.value.fix
        assert len(n_trained) == 2, "one short training, one whole; a search that goes on knows them"


def test_the_bytes_foreseen_are_those_of_a_trained_network_whose_biases_begin_at_zero(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    widths = [16, *[8, 16, 16] * 8]
    text = RECIPE.replace("{lenet5: {widths: [4, 8, 24, 16]}}", f"{{squeezenet1_1: {{widths: {widths}}}}}")
    recipe = recipe_file.load(recipe_in(digits, text), ("train.epochs=1",)).recipe
    shop = Workshop(recipe, StageStore(tmp_path / "out"), Silent())
    dense = network_stages(shop)[0]
    assert recipe.quantize is not None
    quantized = quantization.quantize_stage(shop, recipe.quantize, 1, dense, dense)
    for stage in (dense, quantized):
        shop.store.run(stage)
    real = tflite.convert(shop.store.folder(quantized) / quantization.QUANTIZED_FILE, unit_scales=True).data
    spec = next(step.search for step in recipe.compress if isinstance(step, SearchStep))
    asked = search._Search(shop, spec, 0, dense, tmp_path)
    # How the graph grows with each layer is not asked here: it is exported as it is, and not narrower 25 times.
    as_it_is = asked._untrained(tuple(widths))
    monkeypatch.setattr(asked, "_untrained", lambda _: as_it_is)
    assert asked._space().cost(tuple(widths)) == len(real)
