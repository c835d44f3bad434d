"""What many tests share."""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

# Before any library starts its thread pool: tests run on small, shared machines.
os.environ.setdefault("OMP_NUM_THREADS", "1" if "PYTEST_XDIST_WORKER" in os.environ else "2")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# A shell starts background jobs deaf to Ctrl-C, and children inherit that: tests that interrupt would wait.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
from recipes_for_tests import MINIMAL_RECIPE


@pytest.fixture(scope="session", autouse=True)
def translations_read_once() -> Iterator[None]:
    """Torch reads its translations to ONNX anew for each export, which is half the time of a small one."""
    if "torch" not in sys.modules:
        yield
        return
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(functools.cache(ONNXRegistry.from_torchlib)))
        yield


@pytest.fixture
def recipe_path(tmp_path: Path) -> Path:
    """A small valid recipe, to be changed by the test that asks for it."""
    path = tmp_path / "recipe.yaml"
    path.write_text(MINIMAL_RECIPE)
    return path


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Paths of the tiny models, each with its manifest beside it: made once, and only read by the tests."""
    import tiny_models

    folder = tmp_path_factory.mktemp("models")
    made = SimpleNamespace(
        fp32_onnx=tiny_models.write_onnx(folder / "fp32.onnx"),
        int8_onnx=tiny_models.write_qdq_onnx(folder / "int8.onnx"),
        fp32_tflite=tiny_models.write_tflite(folder / "fp32.tflite", quantized=False),
        int8_tflite=tiny_models.write_tflite(folder / "int8.tflite", quantized=True),
    )
    for path in vars(made).values():
        precision = "int8" if path.name.startswith("int8") else "fp32"
        manifest = tiny_models.manifest_for(path, precision)
        manifest.path_for(path).write_text(manifest.to_json())
    return made
