"""Every form of the tiny model gives the outputs that its weights say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_models

from edgecnn.ondevice import evaluate as module
from edgecnn.ondevice.evaluate import batch_size, evaluate
from edgecnn.ondevice.manifest import DeviceError, Preprocessing, TensorSpec
from edgecnn.ondevice.preprocess import load_images, model_input
from edgecnn.ondevice.run import run
from edgecnn.ondevice.runtimes import available_runtimes, load_model

TFLITE = available_runtimes("tflite")
IMAGES = tiny_models.random_images(37)


def steps_of(images: np.ndarray) -> np.ndarray:
    """What exact arithmetic makes of the int8 model, before the last rounding: [n, classes] in steps."""
    manifest_spec = TensorSpec("x", (), "int8", tiny_models.INPUT_SCALE, tiny_models.INPUT_ZERO_POINT)
    x = model_input(images, tiny_models.preprocessing(), "NHWC", manifest_spec).astype(np.int64)
    sums = (x - tiny_models.INPUT_ZERO_POINT).reshape(len(x), -1) @ tiny_models.integer_weights().T
    return sums * (tiny_models.INPUT_SCALE * tiny_models.WEIGHT_SCALE / tiny_models.OUTPUT_SCALE)


def test_float_onnx(models):
    outputs = evaluate(models.fp32_onnx, tiny_models.manifest_for(models.fp32_onnx), IMAGES, "onnxruntime")
    assert outputs.dtype == np.float32 and outputs.shape == (37, 3)
    np.testing.assert_allclose(outputs, tiny_models.expected_logits(IMAGES), atol=1e-4)


@pytest.mark.parametrize("name", TFLITE)
def test_float_tflite(models, name: str):
    outputs = evaluate(models.fp32_tflite, tiny_models.manifest_for(models.fp32_tflite), IMAGES, name)
    assert outputs.dtype == np.float32 and outputs.shape == (37, 3)
    np.testing.assert_allclose(outputs, tiny_models.expected_logits(IMAGES), atol=1e-4)


@pytest.mark.parametrize("name", TFLITE)
@pytest.mark.parametrize("optimize", [True, False])
def test_int8_tflite_gives_its_integers(models, name: str, optimize: bool):
    manifest = tiny_models.manifest_for(models.int8_tflite, "int8")
    outputs = evaluate(models.int8_tflite, manifest, IMAGES, name, optimize=optimize)
    assert outputs.dtype == np.int8
    exact = np.clip(steps_of(IMAGES) + tiny_models.OUTPUT_ZERO_POINT, -128, 127)
    assert np.abs(outputs - exact).max() <= 1


def test_int8_onnx_gives_dequantized_floats_of_the_same_steps(models):
    manifest = tiny_models.manifest_for(models.int8_onnx, "int8")
    outputs = evaluate(models.int8_onnx, manifest, IMAGES, "onnxruntime", optimize=False)
    steps = outputs / np.float32(tiny_models.OUTPUT_SCALE)
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)
    low, high = -128 - tiny_models.OUTPUT_ZERO_POINT, 127 - tiny_models.OUTPUT_ZERO_POINT
    assert np.abs(np.rint(steps) - np.clip(steps_of(IMAGES), low, high)).max() <= 1


def test_colour_images_reach_both_layouts_in_the_same_order(tmp_path: Path):
    images = tiny_models.random_images(9, channels=3)
    expected = tiny_models.expected_logits(images)
    onnx_path = tiny_models.write_onnx(tmp_path / "c.onnx", channels=3)
    tflite_path = tiny_models.write_tflite(tmp_path / "c.tflite", quantized=False, channels=3)
    for path, name in ((onnx_path, "onnxruntime"), *((tflite_path, name) for name in TFLITE)):
        outputs = evaluate(path, tiny_models.manifest_for(path, channels=3), images, name)
        np.testing.assert_allclose(outputs, expected, atol=1e-3)


@pytest.mark.parametrize("batch", [1, 4])
def test_onnx_of_a_fixed_batch(tmp_path: Path, batch: int):
    path = tiny_models.write_onnx(tmp_path / "fixed.onnx", batch=batch)
    outputs = evaluate(path, tiny_models.manifest_for(path), IMAGES, "onnxruntime")
    np.testing.assert_allclose(outputs, tiny_models.expected_logits(IMAGES), atol=1e-4)


def test_batches_do_not_change_the_result(models, monkeypatch: pytest.MonkeyPatch):
    manifest = tiny_models.manifest_for(models.fp32_onnx)
    whole = evaluate(models.fp32_onnx, manifest, IMAGES, "onnxruntime")
    monkeypatch.setattr(module, "LARGEST_BATCH", 10)
    np.testing.assert_allclose(evaluate(models.fp32_onnx, manifest, IMAGES, "onnxruntime"), whole, atol=1e-6)


def test_images_may_be_mapped_from_a_file(models, tmp_path: Path):
    np.save(tmp_path / "images.npy", IMAGES)
    mapped = load_images(tmp_path / "images.npy")
    assert isinstance(mapped, np.memmap)
    manifest = tiny_models.manifest_for(models.int8_tflite, "int8")
    np.testing.assert_array_equal(
        evaluate(models.int8_tflite, manifest, mapped, TFLITE[0]),
        evaluate(models.int8_tflite, manifest, IMAGES, TFLITE[0]),
    )


@pytest.mark.parametrize("kind", ["fp32_onnx", "fp32_tflite"])
def test_no_images_give_no_rows(models, kind: str):
    path = getattr(models, kind)
    name = available_runtimes(path.suffix[1:])[0]
    assert evaluate(path, tiny_models.manifest_for(path), IMAGES[:0], name).shape == (0, 3)


def test_large_images_go_in_small_batches(models):
    manifest = tiny_models.manifest_for(models.fp32_onnx)
    assert batch_size(manifest) == 500
    big = replace(manifest, preprocessing=Preprocessing(224, 224, 3, (0.0,) * 3, (1.0,) * 3))
    assert batch_size(big) == 111
    huge = replace(manifest, preprocessing=Preprocessing(9000, 9000, 3, (0.0,) * 3, (1.0,) * 3))
    assert batch_size(huge) == 1


def test_an_integer_onnx_input_is_quantized_as_its_manifest_says(tmp_path: Path):
    path = tiny_models.write_integer_input_onnx(tmp_path / "integer.onnx")
    spec = TensorSpec("image", (0, 1, 4, 4), "uint8", 0.05, 30)
    manifest = replace(tiny_models.manifest_for(path), inputs=(spec,))
    outputs = evaluate(path, manifest, IMAGES, "onnxruntime")
    expected = model_input(IMAGES, manifest.preprocessing, "NCHW", spec).reshape(37, -1)[:, :3]
    np.testing.assert_array_equal(outputs, expected)


# What does not fit together


def test_a_manifest_of_another_dtype(models):
    manifest = tiny_models.manifest_for(models.fp32_tflite, "fp32")
    with pytest.raises(DeviceError, match="the manifest says that the input is float32; the file's is int8"):
        evaluate(models.int8_tflite, manifest, IMAGES, TFLITE[0])


def test_a_manifest_of_another_scale(models):
    manifest = tiny_models.manifest_for(models.int8_tflite, "int8")
    other = replace(manifest.inputs[0], zero_point=0)
    with pytest.raises(DeviceError, match=r"zero point 0; the file says .* and -10"):
        evaluate(models.int8_tflite, replace(manifest, inputs=(other,)), IMAGES, TFLITE[0])


def test_a_manifest_without_inputs(models):
    manifest = replace(tiny_models.manifest_for(models.fp32_onnx), inputs=())
    with pytest.raises(DeviceError, match="the manifest lists 0 inputs, the model has one"):
        evaluate(models.fp32_onnx, manifest, IMAGES, "onnxruntime")


def test_a_manifest_of_the_other_layout(models):
    manifest = replace(tiny_models.manifest_for(models.fp32_onnx), layout="NHWC")
    with pytest.raises(DeviceError, match=r"takes float32 \[0, 1, 4, 4\], not float32 \[37, 4, 4, 1\]"):
        evaluate(models.fp32_onnx, manifest, IMAGES, "onnxruntime")


def test_images_of_another_size(models):
    with pytest.raises(DeviceError, match=r"takes uint8 \[n, 4, 4, 1\]"):
        evaluate(
            models.fp32_onnx,
            tiny_models.manifest_for(models.fp32_onnx),
            np.zeros((1, 5, 4, 1), np.uint8),
            "onnxruntime",
        )


def test_run_takes_arrays_by_name_and_gives_outputs_by_name(models: SimpleNamespace) -> None:
    spec = load_model("litert", models.int8_tflite).single_input()
    rows = np.random.default_rng(0).integers(-128, 128, (3, *spec.shape)).astype(np.int8)
    (outputs,) = run(models.int8_tflite, {spec.name: rows}, "litert").values()
    runtime = load_model("litert", models.int8_tflite)
    assert np.array_equal(outputs, np.stack([runtime.run(row)[0] for row in rows]))
    with pytest.raises(DeviceError, match="the model takes the inputs"):
        run(models.int8_tflite, {"other": rows}, "litert")
    with pytest.raises(DeviceError, match="cannot run it"):
        run(models.int8_tflite, {spec.name: rows.astype(np.float32)}, "litert")
