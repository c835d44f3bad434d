"""Tiny model files, made once and only read by the tests."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import tiny_models


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Paths of the tiny models, each with its manifest beside it."""
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
