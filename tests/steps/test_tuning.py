"""A build that quantizes in one way after the other, until the accuracy holds: 600 digits, LeNet-5."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from measurements_for_tests import measure_little

from edgecnn import data, pipeline, recipe_file
from edgecnn.errors import EdgeCNNError, RecipeError
from edgecnn.models import build_model
from edgecnn.records import Report
from edgecnn.report import tables
from edgecnn.steps import quantization
from edgecnn.steps.networks import Workshop

RECIPE = """\
version: 1
name: tuned
data: {npz: {path: data.npz, size: 28, channels: 1, normalization: {mean: [0.1307], std: [0.3081]}}}
model: {lenet5: {weights: start.pth}}
train: {epochs: 0, threads: 1}
compress:
  - quantize: {calibration_images: 20, engine: onnxruntime, max_accuracy_drop: 3 pt}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 digits, and a LeNet-5 that knows them but whose channels are of very different sizes."""
    folder = tmp_path_factory.mktemp("digits")
    mnist = data.load("mnist").train
    images, labels = mnist.images_nhwc[:600, ..., 0], mnist.labels[:600]
    np.savez(folder / "data.npz", images=images, labels=labels)
    torch.set_num_threads(1)
    model = build_model("lenet5", in_channels=1, n_classes=10, seed=0)
    inputs = (torch.tensor(images[:, None]) / 255 - 0.1307) / 0.3081
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    for _ in range(40):
        for start in range(0, 600, 100):
            part = slice(start, start + 100)
            loss = torch.nn.functional.cross_entropy(model(inputs[part]), torch.tensor(labels[part]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        factors = torch.logspace(0, 3.5, 120)
        model.fc1.weight *= factors[:, None]
        model.fc1.bias *= factors
        model.fc2.weight /= factors
    torch.save(model.state_dict(), folder / "start.pth")
    return folder


def recipe_in(folder: Path, text: str = RECIPE) -> Path:
    path = folder / "recipe.yaml"
    for name in ("data.npz", "start.pth"):
        text = text.replace(name, str(folder / name))
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def report(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    with pytest.MonkeyPatch.context() as patch:
        measure_little(patch)
        return pipeline.build(recipe_in(folder), tmp_path_factory.mktemp("built") / "out")


def test_a_build_mends_what_quantizing_broke(report: Report) -> None:
    found = report.tuning
    assert found is not None and found.holds
    first, chosen = found.attempts[0], found.attempts[found.chosen]
    assert first.accuracy < found.needed_accuracy <= chosen.accuracy
    assert chosen.equalization and not chosen.float_layers
    assert found.needed_accuracy == pytest.approx(report.stages[0].validation_accuracy - 0.03)
    assert report.stages[-1].validation_accuracy == chosen.accuracy
    int8 = next(one for one in report.artifacts if one.key == "int8.tflite")
    assert int8.size_bytes == chosen.size_bytes


def test_the_report_lists_the_ways_that_were_tried(report: Report) -> None:
    assert report.tuning is not None
    table = next(one for one in tables.all_tables(report) if one.title == "Ways to quantize")
    assert len(table.rows) == len(report.tuning.attempts)
    assert [row[-1] for row in table.rows].count("chosen") == 1 and table.rows[0][-1] == "too inaccurate"
    assert any("channels equalized" in note and "ways tried" in note for note in report.notes)


def test_the_analysis_is_of_the_network_that_was_rounded(report: Report) -> None:
    """Equalized weights are not those of the float file: held against these, a layer would look broken."""
    assert all(one.divergence < 0.1 for one in report.sensitivity)


def test_what_was_found_can_be_written_into_the_recipe(
    folder: Path, report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure_little(monkeypatch)
    assert report.tuning is not None
    chosen = report.tuning.attempts[report.tuning.chosen]
    keys = (
        f"calibrator: {chosen.calibrator}, equalization: {str(chosen.equalization).lower()}, "
        f"bias_correction: {str(chosen.bias_correction).lower()}"
    )
    fixed = pipeline.build(recipe_in(folder, RECIPE.replace("max_accuracy_drop: 3 pt", keys)), tmp_path / "out")
    assert fixed.tuning is None
    assert [one.sha256 for one in fixed.artifacts] == [one.sha256 for one in report.artifacts]


def test_a_choice_on_the_test_images_is_caught(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_test_images(shop: Workshop, path: Path) -> np.ndarray:
        return shop.splits.test.labels

    monkeypatch.setattr(quantization, "_answers", on_test_images)
    with pytest.raises(EdgeCNNError, match="a choice looked at the test images"):
        pipeline.build(recipe_in(folder), tmp_path / "out")


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        (
            "- quantize: {max_accuracy_drop: 1 pt}\n  - qat",
            "leave float_layers and max_accuracy_drop out of quantize",
        ),
        (
            "- quantize: {float_layers: [fc1]}\n  - qat",
            "leave float_layers and max_accuracy_drop out of quantize",
        ),
        (
            "- search: {max_accuracy_drop: 1 pt}\n  - quantize: {max_accuracy_drop: 1 pt}",
            "search has a max_accuracy_drop of its own",
        ),
        ("- quantize\n  - qat: {int8_layers: [conv1]}", "int8_layers goes with weights: int4"),
        ("- quantize: {calibrator: median}", "calibrator"),
        ("- quantize: {max_accuracy_drop: 1 kB}", "max_accuracy_drop"),
    ],
)
def test_what_does_not_fit_together_is_said(folder: Path, steps: str, said: str) -> None:
    text = RECIPE[: RECIPE.index("  - quantize")] + f"  {steps}\n"
    with pytest.raises(RecipeError) as raised:
        recipe_file.load(recipe_in(folder, text), ())
    assert said in str(raised.value)


@pytest.mark.parametrize("n_images", [40, 1_500])
def test_layers_are_ranked_on_pictures_of_all_classes(n_images: int) -> None:
    """Those of a folder come class by class."""
    labels = np.repeat(np.arange(10), n_images // 10)
    chosen = quantization.ranking_images(n_images, seed=0)
    assert set(labels[chosen]) == set(range(10))
    assert len(set(chosen.tolist())) == min(n_images, quantization.N_RANKING_IMAGES)
