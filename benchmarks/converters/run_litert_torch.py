"""litert-torch: a PyTorch module -> TFLite; ai-edge-quantizer makes the full int8 file of it."""

from __future__ import annotations

import litert_torch
import numpy as np
import torch
from ai_edge_quantizer import quantizer, recipe

from converters.networks import build
from converters.runner import Conversion, Job, main


def conversions(job: Job) -> list[Conversion]:
    example = (torch.zeros(1, *job.input_shape[1:], job.input_shape[0]),)

    def to_float() -> bytes:
        model = build(job.network)
        model.load_state_dict(torch.load(job.inputs / "weights.pt"))
        # NHWC pictures, as all the others take them; without it the file begins with a TRANSPOSE.
        nhwc_model = litert_torch.to_channel_last_io(model.eval(), args=[0])
        return bytes(litert_torch.convert(nhwc_model, example).model_content())

    def to_int8() -> bytes:
        from ai_edge_litert.interpreter import Interpreter

        float_file = to_float()
        images = np.load(job.inputs / "calibration_nhwc.npy")
        signature = Interpreter(model_content=float_file).get_signature_list()["serving_default"]
        samples = [{signature["inputs"][0]: image[None]} for image in images]
        tool = quantizer.Quantizer(bytearray(float_file), recipe.static_wi8_ai8())
        ranges = tool.calibrate({"serving_default": samples})
        return bytes(tool.quantize(ranges).quantized_model)

    return [Conversion("litert-torch", "float32", to_float), Conversion("litert-torch", "int8", to_int8)]


if __name__ == "__main__":
    main(conversions, ("litert-torch", "litert-converter", "ai-edge-quantizer", "torch"))
