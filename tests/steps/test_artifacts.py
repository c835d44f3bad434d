"""The files that a build writes of one network."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from export.tflite.nets import lenet5, qdq

from edgecnn.export.tflite import convert
from edgecnn.steps.artifacts import WRITERS


def written(path: Path, precision: str) -> dict[str, bytes]:
    return {form: write(path, precision)[0] for form, write in WRITERS.items()}


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_both_quantized_files_carry_the_same_scales(tmp_path: Path, precision: str) -> None:
    """The .tflite file is what becomes of the .onnx file beside it, with no choice of scales in between."""
    path = tmp_path / "quantized.onnx"
    onnx.save(qdq(lenet5()), path)
    files = written(path, precision)
    weights = "int4" if precision == "int4" else "as-is"
    assert convert(onnx.load_from_string(files["onnx"]), weights=weights).data == files["tflite"]
    assert convert(path, weights=weights).data != files["tflite"], "the scales were chosen"


def test_a_float_file_is_written_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(lenet5(), path)
    assert written(path, "fp32")["onnx"] == path.read_bytes()
