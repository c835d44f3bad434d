"""The stage that quantizes: float ONNX and calibration images -> QDQ ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgecnn import data, files, metrics
from edgecnn.errors import QuantizationError
from edgecnn.ondevice.evaluate import evaluate
from edgecnn.ondevice.manifest import DeviceError, TensorSpec
from edgecnn.ondevice.preprocess import model_input
from edgecnn.recipe import QuantizeSpec
from edgecnn.stages import Stage
from edgecnn.steps.manifests import manifest_for, onnx_specs
from edgecnn.steps.networks import ONNX_FILE, Workshop, installed_version

QUANTIZED_FILE = "quantized.onnx"


def quantize_stage(shop: Workshop, spec: QuantizeSpec, position: int, source: Stage) -> Stage:
    """Float ONNX of `source` and calibration images of the training part -> QDQ ONNX."""
    recipe = shop.recipe

    def work(folder: Path) -> dict[str, Any]:
        import onnx

        from edgecnn.compress.quantize import quantize

        shop.progress.start("quantize", total=2)
        model = onnx.load(shop.store.folder(source) / ONNX_FILE)
        pictures = data.calibration_images(shop.splits.train, spec.calibration_images, recipe.seed)
        calibration = model_input(pictures, recipe.preprocessing, "NCHW", TensorSpec("", (), "float32"))
        quantized = quantize(model, calibration, spec)
        shop.progress.advance(1, f"{len(pictures)} images, {quantized.engine}")
        with files.replacing(folder / QUANTIZED_FILE) as temporary:
            onnx.save(quantized.model, temporary)
        accuracy = _validation_accuracy(shop, folder / QUANTIZED_FILE)
        shop.progress.finish(f"{quantized.engine}, validation {accuracy:.2%}")
        return {
            "validation_accuracy": accuracy,
            "engine": quantized.engine,
            "notes": list(quantized.notes),
        }

    inputs = {
        "quantize": spec.model_dump(mode="json"),
        "seed": recipe.seed,
        **{tool: installed_version(tool) for tool in ("onnx", "onnxruntime", "neural-compressor")},
    }
    code = (
        "edgecnn.compress",
        "edgecnn.data",
        "edgecnn.export.onnx",
        "edgecnn.metrics",
        "edgecnn.ondevice",
        "edgecnn.steps.quantization",
        "edgecnn.steps.manifests",
    )
    return Stage(f"{position}-quantize", inputs, work, (source,), code)


def _validation_accuracy(shop: Workshop, qdq_path: Path) -> float:
    """The accuracy of the QDQ model on the validation split, on onnxruntime."""
    validation = shop.splits.validation
    inputs, outputs = onnx_specs(qdq_path)
    manifest = manifest_for(
        shop.recipe,
        "int8.onnx",
        qdq_path.read_bytes(),
        inputs,
        outputs,
        class_names=shop.source.class_names,
        n_params=0,
        n_macs=0,
    )
    try:
        logits = evaluate(qdq_path, manifest, validation.images_nhwc, "onnxruntime")
    except DeviceError as fault:
        raise QuantizationError(f"the quantized model does not run: {fault.what}", fix=fault.fix) from fault
    return metrics.accuracy(metrics.top1(logits), validation.labels)
