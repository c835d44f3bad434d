"""Each runtime loads a model, says what it takes and gives, and tells what is wrong."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import numpy as np
import pytest
import tiny_models

from edgecnn.ondevice import runtimes
from edgecnn.ondevice.manifest import DeviceError, TensorSpec
from edgecnn.ondevice.runtimes import RUNTIMES, available_runtimes, load_model, runtime_class
from edgecnn.ondevice.runtimes.quiet import quiet_stderr

TFLITE = available_runtimes("tflite")


def test_the_registry_names_classes_that_exist():
    assert list(RUNTIMES) == ["onnxruntime", "litert", "tflite-runtime"]
    for name in RUNTIMES:
        assert runtime_class(name).model_format in ("onnx", "tflite")


def test_available_runtimes_come_in_order_of_preference(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runtimes, "is_installed", lambda name: True)
    assert available_runtimes("onnx") == ("onnxruntime",)
    assert available_runtimes("tflite") == ("litert", "tflite-runtime")
    monkeypatch.setattr(runtimes, "is_installed", lambda name: name != "litert")
    assert available_runtimes("tflite") == ("tflite-runtime",)
    assert available_runtimes("h5") == ()


def test_versions_are_those_of_the_installed_packages():
    import onnxruntime

    assert runtimes.installed_versions()["onnxruntime"] == onnxruntime.__version__


def test_a_runtime_that_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runtime_class("litert"), "package", "no_such_package")
    monkeypatch.setattr(runtime_class("litert"), "distribution", "no-such-package")
    assert runtimes.installed_version("litert") is None
    assert "litert" not in runtimes.installed_versions()


def test_onnxruntime_tells_shapes_and_types(models):
    runtime = load_model("onnxruntime", models.fp32_onnx)
    assert runtime.inputs == (TensorSpec("image", (0, 1, 4, 4), "float32"),)
    assert runtime.outputs == (TensorSpec("logits", (0, 3), "float32"),)
    assert runtime.version[0].isdigit()


@pytest.mark.parametrize("name", TFLITE)
def test_tflite_tells_scales_too(models, name: str):
    runtime = load_model(name, models.int8_tflite)
    (image,), (logits,) = runtime.inputs, runtime.outputs
    assert (image.shape, image.dtype, image.zero_point) == (
        (1, 4, 4, 1),
        "int8",
        tiny_models.INPUT_ZERO_POINT,
    )
    assert np.float32(image.scale) == np.float32(tiny_models.INPUT_SCALE)
    assert (logits.shape, logits.zero_point) == ((1, 3), tiny_models.OUTPUT_ZERO_POINT)
    assert load_model(name, models.fp32_tflite).inputs[0].scale is None


def test_the_delegate_is_told(models):
    litert = load_model("litert", models.int8_tflite)
    assert (litert.delegate, litert.delegate_version) == ("XNNPACK", f"as in ai-edge-litert {litert.version}")
    reference = load_model("litert", models.int8_tflite, optimize=False)
    assert (reference.delegate, reference.delegate_version) == ("none", None)
    assert load_model("onnxruntime", models.fp32_onnx).delegate == "none"


@pytest.mark.skipif("tflite-runtime" not in TFLITE, reason="tflite-runtime is not installed")
def test_the_older_runtime_keeps_int8_from_its_delegate(models):
    assert load_model("tflite-runtime", models.fp32_tflite).delegate == "XNNPACK"
    assert load_model("tflite-runtime", models.int8_tflite).delegate == "none"


@pytest.mark.parametrize("name", TFLITE)
@pytest.mark.parametrize("optimize", [True, False])
def test_prepare_invoke_and_result_are_run_in_three_steps(models, name: str, optimize: bool):
    runtime = load_model(name, models.fp32_tflite, optimize=optimize)
    first, second = np.random.default_rng(0).random((2, 1, 4, 4, 1)).astype(np.float32)
    whole = runtime.run(first)[0]
    runtime.prepare(second)
    runtime.invoke()
    assert not np.array_equal(runtime.result()[0], whole), "a result must be a copy"
    expected = first.reshape(1, -1) @ tiny_models.float_weights().T
    np.testing.assert_allclose(whole, expected, rtol=1e-4, atol=1e-5)


def test_onnxruntime_runs_the_prepared_batch(models):
    runtime = load_model("onnxruntime", models.fp32_onnx, optimize=False)
    batch = np.random.default_rng(0).random((5, 1, 4, 4)).astype(np.float32)
    expected = batch.reshape(5, -1) @ tiny_models.float_weights().T
    np.testing.assert_allclose(runtime.run(batch)[0], expected, rtol=1e-4, atol=1e-5)


def test_the_telemetry_of_onnxruntime_is_off_before_it_is_imported(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    seen = []
    from edgecnn.ondevice.runtimes import onnxruntime as ours

    monkeypatch.setattr(
        ours.importlib, "import_module", lambda name: seen.append((name, os.environ["ORT_DISABLE_TELEMETRY"]))
    )
    ours.OnnxRuntime.import_package()
    assert seen == [("onnxruntime", "1")]


def test_onnxruntime_gets_the_threads_and_the_optimization_asked_for(models):
    import onnxruntime

    from edgecnn.ondevice.runtimes.onnxruntime import _options

    options = _options(onnxruntime, 3, optimize=False)
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 1)
    assert options.execution_mode == onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    assert options.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    every = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    assert _options(onnxruntime, 1, optimize=True).graph_optimization_level == every


# What is wrong, and how to mend it


def message_and_fix(name: str, model: Path, **options) -> tuple[str, str]:
    with pytest.raises(DeviceError) as caught:
        load_model(name, model, **options)
    return caught.value.what, caught.value.fix or ""


def test_unknown_runtime(models):
    what, fix = message_and_fix("tensorrt", models.fp32_onnx)
    assert what == "unknown runtime 'tensorrt'" and "onnxruntime, litert, tflite-runtime" in fix


def test_a_runtime_for_the_other_format(models):
    what, fix = message_and_fix("litert", models.fp32_onnx)
    assert what == "litert does not run .onnx files" and fix == "use one of: onnxruntime"
    what, fix = message_and_fix("onnxruntime", models.fp32_tflite)
    assert fix == "use one of: litert, tflite-runtime"


def test_neither_format(tmp_path: Path):
    assert "neither an .onnx nor a .tflite" in message_and_fix("litert", tmp_path / "a.h5")[0]


def test_missing_file_and_folder(tmp_path: Path):
    assert "no such model file" in message_and_fix("litert", tmp_path / "gone.tflite")[0]
    (tmp_path / "folder.onnx").mkdir()
    assert "no such model file" in message_and_fix("onnxruntime", tmp_path / "folder.onnx")[0]


def test_no_threads(models):
    assert "0 threads" in message_and_fix("onnxruntime", models.fp32_onnx, num_threads=0)[0]


def test_not_installed(models, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runtime_class("litert"), "package", "no_such_package")
    what, fix = message_and_fix("litert", models.fp32_tflite)
    assert what == "litert is not installed" and fix == "pip install ai-edge-litert"


def test_installed_and_broken(models, monkeypatch: pytest.MonkeyPatch):
    import_module = importlib.import_module

    def broken(name: str):
        if name == "onnxruntime":
            raise ImportError("libstdc++ is too old")
        return import_module(name)

    monkeypatch.setattr(importlib, "import_module", broken)
    what, fix = message_and_fix("onnxruntime", models.fp32_onnx)
    assert what == "onnxruntime does not import (libstdc++ is too old)" and "force-reinstall" in fix


def test_tflite_runtime_beside_numpy_2(models, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runtimes, "is_installed", lambda name: True)
    monkeypatch.setattr(np, "__version__", "2.4.1")
    what, fix = message_and_fix("tflite-runtime", models.fp32_tflite)
    assert what == "tflite-runtime does not work with numpy 2.4.1" and '"numpy<2"' in fix


@pytest.mark.parametrize("name", ["onnxruntime", *TFLITE])
@pytest.mark.parametrize("content", [b"", b"not a model at all, but long enough to look like one"])
def test_a_file_that_is_no_model(tmp_path: Path, name: str, content: bytes):
    path = tmp_path / ("bad." + runtime_class(name).model_format)
    path.write_bytes(content)
    what, fix = message_and_fix(name, path)
    assert f"cannot load {path.name}" in what and "damaged" in fix


def test_a_batch_that_does_not_fit(models):
    runtime = load_model("onnxruntime", models.fp32_onnx)
    with pytest.raises(DeviceError, match=r"takes float32 \[0, 1, 4, 4\], not float32 \[1, 4, 4, 1\]"):
        runtime.prepare(np.zeros((1, 4, 4, 1), np.float32))
    with pytest.raises(DeviceError, match=r"not float64 \[2, 1, 4, 4\]"):
        runtime.prepare(np.zeros((2, 1, 4, 4)))


def test_models_that_are_no_classifier(tmp_path: Path):
    two = load_model("onnxruntime", tiny_models.write_two_input_onnx(tmp_path / "two.onnx"))
    with pytest.raises(DeviceError, match=r"the model has 2 inputs \(left, right\)"):
        two.single_input()
    outputs = load_model("onnxruntime", tiny_models.write_onnx(tmp_path / "outputs.onnx", n_outputs=2))
    with pytest.raises(DeviceError, match=r"the model has 2 outputs \(logits, extra1\)"):
        outputs.single_output()


def test_quiet_stderr_passes_a_pipe_through(capfd: pytest.CaptureFixture[str]):
    with quiet_stderr():
        os.write(2, b"last words\n")
    assert capfd.readouterr().err == "last words\n"


def test_quiet_stderr_keeps_a_terminal_clean_unless_something_fails(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(os, "isatty", lambda descriptor: True)
    with quiet_stderr():
        os.write(2, b"banner\n")
    assert capfd.readouterr().err == ""
    with pytest.raises(ValueError), quiet_stderr():
        os.write(2, b"the cause\n")
        raise ValueError
    assert capfd.readouterr().err == "the cause\n"
    os.write(2, b"open again\n")
    assert capfd.readouterr().err == "open again\n"
