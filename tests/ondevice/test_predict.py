"""From picture files to names."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_models
from hypothesis import given
from hypothesis import strategies as st
from pictures_for_tests import truncated_jpeg
from PIL import Image

from edgecnn.ondevice import predict as module
from edgecnn.ondevice import runtimes
from edgecnn.ondevice.manifest import DeviceError, PictureError
from edgecnn.ondevice.predict import (
    Unreadable,
    classify_or_tell,
    picture_files,
    predict,
    softmax,
    told_unreadable,
)
from edgecnn.ondevice.preprocess import decode_picture
from edgecnn.ondevice.runtimes import load_model, preferred_runtime

PICTURE = tiny_models.random_images(1)[0]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.fromarray(PICTURE[:, :, 0]).save(tmp_path / "one.png")
    return tmp_path / "one.png"


def expected_probabilities() -> np.ndarray:
    return softmax(tiny_models.expected_logits(PICTURE[np.newaxis]))[0]


@pytest.mark.parametrize("kind", ["fp32_onnx", "fp32_tflite", "int8_onnx", "int8_tflite"])
def test_every_form_names_the_same_class(models, picture: Path, kind: str):
    path = getattr(models, kind)
    (prediction,) = predict(path, tiny_models.manifest_for(path, kind[:4]), [picture], top_k=3)
    expected = expected_probabilities()
    assert prediction.picture == str(picture)
    best = prediction.guesses[0]
    assert best.class_name == tiny_models.CLASS_NAMES[expected.argmax()]
    tolerance = 0.02 if kind.startswith("int8") else 1e-4
    for guess in prediction.guesses:
        assert guess.probability == pytest.approx(expected[guess.class_index], abs=tolerance)
    assert sum(guess.probability for guess in prediction.guesses) == pytest.approx(1)


def test_top_k_cuts_and_may_exceed_the_classes(models, picture: Path):
    manifest = tiny_models.manifest_for(models.fp32_onnx)
    assert len(predict(models.fp32_onnx, manifest, [picture], top_k=1)[0].guesses) == 1
    assert len(predict(models.fp32_onnx, manifest, [picture], top_k=9)[0].guesses) == 3
    with pytest.raises(DeviceError, match="0 classes asked for"):
        predict(models.fp32_onnx, manifest, [picture], top_k=0)


def best_of(probabilities: list[float], names: tuple[str, ...], models) -> list[str]:
    manifest = replace(tiny_models.manifest_for(models.fp32_onnx), class_names=names)
    return [guess.class_name for guess in module._best(np.array(probabilities), manifest, len(probabilities))]


def test_equal_classes_come_by_index(models):
    assert best_of([0.2, 0.3, 0.2, 0.3], ("a", "b", "c", "d"), models) == ["b", "d", "a", "c"]


def test_a_class_without_a_name_is_numbered(models):
    assert best_of([0.1, 0.9], ("a",), models) == ["class 1", "a"]


def test_outputs_that_are_probabilities_already_are_left_alone(models, picture: Path):
    manifest = replace(tiny_models.manifest_for(models.fp32_onnx), output="probabilities")
    guesses = predict(models.fp32_onnx, manifest, [picture], top_k=3)[0].guesses
    logits = tiny_models.expected_logits(PICTURE[np.newaxis])[0]
    assert guesses[0].probability == pytest.approx(logits.max(), abs=1e-4)


@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=10))
def test_softmax_is_a_distribution_in_the_order_of_the_logits(logits: list[float]):
    probabilities = softmax(np.array([logits]))[0]
    assert probabilities.sum() == pytest.approx(1) and (probabilities >= 0).all()
    assert probabilities[int(np.argmax(logits))] == probabilities.max()


def test_softmax_value():
    np.testing.assert_allclose(softmax(np.array([[0.0, np.log(3)]])), [[0.25, 0.75]])


def test_files_and_folders(tmp_path: Path):
    for name in ("b.PNG", "a.jpeg", "c.npy", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "inner.png").mkdir()
    (tmp_path / "._a.jpeg").touch()
    (tmp_path / "d.png").symlink_to(tmp_path / "gone.png")
    files = picture_files([tmp_path / "notes.txt", tmp_path])
    assert [path.name for path in files] == ["notes.txt", "a.jpeg", "b.PNG", "c.npy", "d.png"]


def test_bad_paths(tmp_path: Path):
    with pytest.raises(DeviceError, match="no such picture"):
        picture_files([tmp_path / "gone.png"])
    with pytest.raises(DeviceError, match="no pictures in"):
        picture_files([tmp_path])


def test_no_runtime_at_all(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runtimes, "available_runtimes", lambda model_format: ())
    with pytest.raises(DeviceError, match=r"no runtime for \.tflite files") as caught:
        preferred_runtime(Path("a.tflite"))
    assert caught.value.fix == "pip install ai-edge-litert"


def test_a_name_cannot_steer_the_terminal_or_begin_a_line():
    guess = module.Guess(0, "\x1b[2Jcat\n::error::x", 1.0)
    said = module.as_text(module.Prediction("pics/\x1b.png", (guess,), 1.0, 1.0))
    assert said.isprintable() and said.startswith("\\x1b.png: \\x1b[2Jcat\\x0a::error::x 100.0%")


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_is_no_regular_file_is_no_picture(kind: str, tmp_path: Path):
    path = tmp_path / "one.png"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(PictureError, match="no regular file"):
        decode_picture(path, tiny_models.preprocessing())


BROKEN = {
    "cut.jpg": (truncated_jpeg, "image file is truncated"),
    "text.png": (lambda path: path.write_text("no picture"), "cannot identify image file 'text.png'"),
    "gone.png": (lambda path: path.symlink_to(path.with_name("nowhere")), "No such file"),
    "large.npy": (lambda path: np.save(path, np.zeros((5, 4), np.uint8)), "an array of shape [5, 4, 1]; this"),
    "float.npy": (lambda path: np.save(path, np.zeros((4, 4))), "float64, not uint8"),
    "empty.npy": (lambda path: path.touch(), "No data left in file"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_picture_does_not_stop_the_others(models, tmp_path: Path, name: str):
    make, reason = BROKEN[name]
    make(tmp_path / name)
    manifest = tiny_models.manifest_for(models.fp32_onnx)
    runtime = load_model("onnxruntime", models.fp32_onnx, 1)
    told = classify_or_tell(runtime, manifest, tmp_path / name, 1)
    assert isinstance(told, Unreadable) and told.picture == str(tmp_path / name) and told.fix
    assert reason in told.error and str(tmp_path) not in told.error
    assert module.as_text(told) == f"{name}: cannot be read ({told.error})"


def test_what_no_picture_can_help_stops_at_once(models, picture: Path, monkeypatch: pytest.MonkeyPatch):
    """A Python without Pillow, a manifest of a newer kind: no fault of any one picture."""
    manifest = tiny_models.manifest_for(models.fp32_onnx)
    runtime = load_model("onnxruntime", models.fp32_onnx, 1)
    newer = replace(manifest, preprocessing=replace(manifest.preprocessing, fit="fold"))
    with pytest.raises(DeviceError, match="asks for fit 'fold'"):
        classify_or_tell(runtime, newer, picture, 1)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(DeviceError, match="needs Pillow"):
        classify_or_tell(runtime, manifest, picture, 1)


def test_broken_pictures_are_counted_and_named_up_to_a_number():
    broken = [Unreadable(f"pics/{n}.png", "why") for n in range(1200)]
    assert told_unreadable(broken[:2], 5) == "2 of 5 pictures cannot be read: 0.png (why), 1.png (why)"
    assert told_unreadable(broken[:1], 1) == "the picture cannot be read: 0.png (why)"
    told = told_unreadable(broken, 2000)
    assert told.startswith("1,200 of 2,000 pictures cannot be read: 0.png (why)")
    assert told.endswith(", 99.png (why) and 1,100 more")
