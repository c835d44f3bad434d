"""edgecnn: ONNX -> TFLite, and QDQ ONNX -> full int8."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx

from converters.runner import Conversion, Job, main
from edgecnn.compress.quantize import quantize
from edgecnn.export.tflite import convert
from edgecnn.recipe import QuantizeSpec

# What else than the bare network is written; the other converters write both.
EXTRAS = {
    "edgecnn": {},
    "edgecnn, signature": {"signature": True},
    "edgecnn, signature, names": {"signature": True, "debug_names": True},
}


def conversions(job: Job) -> list[Conversion]:
    sources = {"float32": job.inputs / "float.onnx", "int8": job.inputs / "qdq.onnx"}
    return [
        *(
            Conversion(contestant, precision, from_file(source, **options))
            for contestant, options in EXTRAS.items()
            for precision, source in sources.items()
        ),
        Conversion("edgecnn, dense per channel", "int8", from_file(job.inputs / "qdq_per_channel.onnx")),
        Conversion("edgecnn, with calibration", "int8", calibrated(job.inputs)),
    ]


def from_file(source: Path, **options: bool) -> Callable[[], bytes]:
    return lambda: convert(source, **options).data


def calibrated(inputs: Path) -> Callable[[], bytes]:
    """From the float ONNX file and pictures, as the other converters make their int8 files."""

    def make() -> bytes:
        images_nchw = np.ascontiguousarray(np.load(inputs / "calibration_nhwc.npy").transpose(0, 3, 1, 2))
        float_model = onnx.load(inputs / "float.onnx")
        return convert(quantize(float_model, images_nchw, QuantizeSpec(engine="onnxruntime")).model).data

    return make


if __name__ == "__main__":
    main(conversions, ("edgecnn", "onnx", "onnxruntime"))
