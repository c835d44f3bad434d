"""onnx2tf: ONNX -> TFLite, by its own writer (its default) and by TensorFlow's converter."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx2tf

from converters.runner import Conversion, Job, main

BACKENDS = {"onnx2tf": "flatbuffer_direct", "onnx2tf, TensorFlow": "tf_converter"}


def conversions(job: Job) -> list[Conversion]:
    source = job.output / "float.onnx"
    calibration = str(job.inputs / "calibration_nhwc.npy")
    no_normalization = [[[[0.0]]]], [[[[1.0]]]]
    integers = {
        "output_integer_quantized_tflite": True,
        "custom_input_op_name_np_data_path": [["images", calibration, *no_normalization]],
    }

    def restore() -> None:
        """It rewrites the .onnx file that it reads, so that it gets a fresh copy every time."""
        shutil.copyfile(job.inputs / "float.onnx", source)

    return [
        Conversion(contestant, precision, converted(source, backend, suffix, **options), restore)
        for contestant, backend in BACKENDS.items()
        for precision, suffix, options in (("float32", "float32", {}), ("int8", "full_integer_quant", integers))
    ]


def converted(source: Path, backend: str, suffix: str, **options: Any) -> Callable[[], bytes]:
    """It writes a folder of files (float16 and others too, which cannot be turned off); one of them counts."""

    def make() -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            onnx2tf.convert(
                input_onnx_file_path=str(source),
                output_folder_path=folder,
                tflite_backend=backend,
                batch_size=1,
                non_verbose=True,
                **options,
            )
            return (Path(folder) / f"{source.stem}_{suffix}.tflite").read_bytes()

    return make


if __name__ == "__main__":
    main(conversions, ("onnx2tf", "tensorflow", "onnxsim"))
