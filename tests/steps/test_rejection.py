"""The threshold of "none of these" keeps what the recipe says, and the figures count what it does."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
import tiny_models
from hypothesis import given
from hypothesis import strategies as st
from measurements_for_tests import measurement
from rich.console import Console

from edgecnn import recipe_file
from edgecnn.data import Dataset
from edgecnn.errors import RecipeError
from edgecnn.ondevice.manifest import Manifest
from edgecnn.ondevice.predict import as_text, predict, probabilities
from edgecnn.records import Artifact, Rejection, Report
from edgecnn.report import markdown, tables, terminal
from edgecnn.steps.rejection import figures, highest_threshold, threshold


@given(st.lists(st.floats(0.1, 1), min_size=1, max_size=200), st.floats(0.01, 1))
def test_the_threshold_is_the_highest_that_keeps_enough(best: list[float], keep: float) -> None:
    limit = highest_threshold(np.array(best), keep)
    wanted = math.ceil(keep * len(best) - 1e-9)
    assert sum(p >= limit for p in best) >= wanted
    assert 0 <= sorted(best)[-wanted] - limit <= 1.1e-6, "but for the rounding, of the last one that is kept"


def test_95_of_100_is_95() -> None:
    best = np.arange(1, 101) / 100
    assert (best >= highest_threshold(best, 0.95)).sum() == 95
    assert (best >= highest_threshold(best, 1.0)).sum() == 100


def with_limit(manifest: Manifest, limit: float) -> Manifest:
    return Manifest.from_json(json.dumps({**json.loads(manifest.to_json()), "reject_below": limit}))


@pytest.fixture
def float_model(tmp_path: Path) -> Path:
    return tiny_models.write_onnx(tmp_path / "fp32.onnx")


@pytest.fixture
def int8_model(tmp_path: Path) -> Path:
    return tiny_models.write_tflite(tmp_path / "int8.tflite", quantized=True)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_real_file_answers_on_what_was_asked(
    tmp_path: Path, float_model: Path, int8_model: Path, precision: str
) -> None:
    model = float_model if precision == "fp32" else int8_model
    manifest = tiny_models.manifest_for(model, precision)
    images = tiny_models.random_images(40)
    validation = Dataset(images, np.zeros(40, np.int64), tiny_models.CLASS_NAMES, "validation")
    limit = threshold(model, manifest, validation, keep=0.75)
    pictures = [tmp_path / f"{index}.npy" for index in range(40)]
    for picture, image in zip(pictures, images, strict=True):
        np.save(picture, image)
    found = predict(model, with_limit(manifest, limit), pictures)
    assert [one.rejected for one in found] == [one.guesses[0].probability < limit for one in found]
    n_rejected = sum(one.rejected for one in found)
    assert n_rejected == 10 if precision == "fp32" else 0 < n_rejected <= 10
    assert not any(one.rejected for one in predict(model, manifest, pictures)), "no threshold, no rejection"
    rejected = next(one for one in found if one.rejected)
    assert f": none of these ({rejected.guesses[0].class_name} " in as_text(rejected)


def test_the_figures_are_of_what_is_answered(float_model: Path) -> None:
    manifest = tiny_models.manifest_for(float_model)
    logits = np.log(np.array([[0.9, 0.05, 0.05], [0.5, 0.3, 0.2], [0.2, 0.7, 0.1], [0.4, 0.35, 0.25]]))
    test = Dataset(np.zeros((4, 1, 1, 1), np.uint8), np.array([0, 0, 0, 0]), ("a", "b", "c"), "test")
    rejecting = with_limit(manifest, 0.45)
    np.testing.assert_allclose(probabilities(logits, rejecting).max(axis=1), [0.9, 0.5, 0.7, 0.4])
    assert figures(logits, rejecting, test) == Rejection(
        threshold=0.45, n_answered=3, coverage=0.75, accuracy=2 / 3
    )
    nothing = figures(logits, with_limit(manifest, 0.95), test)
    assert nothing is not None and (nothing.n_answered, nothing.accuracy) == (0, None)
    assert figures(logits, manifest, test) is None


def test_a_manifest_without_a_threshold_is_the_one_of_before(float_model: Path) -> None:
    assert "reject_below" not in tiny_models.manifest_for(float_model).to_json()


def test_the_recipe_says_how_much_is_kept(recipe_path: Path) -> None:
    plain = recipe_file.load(recipe_path).recipe
    assert "reject" not in plain.model_dump(mode="json")
    said = recipe_file.load(recipe_path, ("reject={keep: 95 %}",)).recipe
    assert said.reject is not None and said.reject.keep == pytest.approx(0.95)
    assert said.sha256 != plain.sha256
    for value, expected in (
        ("{keep: 0.95}", "expected a number with its unit"),
        ("{keep: 0 %}", "keep must be more than 0 %"),
        ("{kep: 95 %}", "unknown key (did you mean 'keep'?); known keys: keep"),
        ("95", "--set reject=95"),
    ):
        with pytest.raises(RecipeError) as fault:
            recipe_file.load(recipe_path, (f"reject={value}",))
        assert expected in str(fault.value)


def test_the_report_says_it() -> None:
    rejection = Rejection(threshold=0.62, n_answered=9_512, coverage=0.9512, accuracy=0.9987)
    artifact = Artifact(
        key="int8.tflite", file="m.int8.tflite", format="tflite", variant="final", precision="int8",
        size_bytes=1000, weight_bytes=900, overhead_bytes=100, sha256="", n_params=1, n_macs=1,
        measurements=(measurement(rejection=rejection),),
    )  # fmt: skip
    report = Report(
        recipe={"name": "m"}, environment={}, artifacts=(artifact,), stages=(), parity=(), verdicts=()
    )
    expected = (
        "int8.tflite answers on 95.12 % of the test images, and right on 99.87 % of those; "
        "below 62.00 % its answer is none of these"
    )
    assert expected in tables.remarks(report)
    assert "## None of these" in markdown.render(report) and "9,512 of 10,000" in markdown.render(report)
    assert Report.model_validate_json(report.model_dump_json()) == report
    silent = artifact.model_copy(update={"measurements": (measurement(),)})
    assert "None of these" not in markdown.render(report.model_copy(update={"artifacts": (silent,)}))


@pytest.mark.parametrize("rejected", [True, False])
def test_the_terminal_says_it_with_the_guesses(rejected: bool) -> None:
    guess = {"class_index": 0, "class_name": "cat", "probability": 0.41}
    said = io.StringIO()
    console = Console(file=said, width=100)
    prediction = {"picture": "a.png", "guesses": [guess], "rejected": rejected, "reject_below": 0.62}
    terminal.print_predictions([prediction], console)
    assert ("none of these: the best guess has less than 62.00 %" in said.getvalue()) is rejected
    assert "41.00%  cat" in said.getvalue()
