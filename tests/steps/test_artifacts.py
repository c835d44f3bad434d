"""The files that a build writes of one network."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from export.tflite.nets import lenet5, qdq
from onnx import numpy_helper

from edgecnn.export.tflite import convert
from edgecnn.steps.artifacts import WRITERS


def written(path: Path, precision: str) -> dict[str, bytes]:
    return {form: write(path, precision)[0] for form, write in WRITERS.items()}


def trained_for_it(model: onnx.ModelProto) -> None:
    """Weights that 4 bits hold, as training for 4 bits leaves them."""
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) > 1:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) // 20, tensor.name))


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_both_quantized_files_carry_the_same_scales(tmp_path: Path, precision: str) -> None:
    """The .tflite file is what becomes of the .onnx file beside it, with no choice of scales in between."""
    path = tmp_path / "quantized.onnx"
    model = qdq(lenet5())
    if precision == "int4":
        trained_for_it(model)
    onnx.save(model, path)
    files = written(path, precision)
    weights = "packed" if precision == "int4" else "as-is"
    assert convert(onnx.load_from_string(files["onnx"]), weights=weights).data == files["tflite"]
    assert convert(path, weights=weights).data != files["tflite"], "the scales were chosen"
    plain = convert(path, unit_scales=True).data
    assert (len(files["tflite"]) < 0.7 * len(plain)) == (precision == "int4")


def test_a_float_file_is_written_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(lenet5(), path)
    assert written(path, "fp32")["onnx"] == path.read_bytes()
