"""The stages that quantize: float ONNX and calibration images -> QDQ ONNX, which may be trained on."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgecnn import data, files, metrics
from edgecnn.errors import QuantizationError
from edgecnn.ondevice.manifest import DeviceError, TensorSpec
from edgecnn.ondevice.preprocess import model_input
from edgecnn.recipe import QatSpec, QuantizeSpec
from edgecnn.stages import Stage
from edgecnn.steps.manifests import onnx_outputs
from edgecnn.steps.networks import (
    ONNX_FILE,
    Workshop,
    finetune_settings,
    installed_version,
    teacher_of,
    told_accuracy,
    train_network,
    training_inputs,
)

QUANTIZED_FILE = "quantized.onnx"


QUANTIZE_CODE = (
    "edgecnn.compress",
    "edgecnn.data",
    "edgecnn.export.onnx",
    "edgecnn.metrics",
    "edgecnn.ondevice",
    "edgecnn.steps.quantization",
    "edgecnn.steps.manifests",
)


def quantization_stages(shop: Workshop, networks: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """Those of the recipe: none, quantize, or quantize and then qat. The file of the last is exported."""
    recipe = shop.recipe
    if not recipe.quantize:
        return ()
    position = len(recipe.compress) - (1 if recipe.qat else 0)
    quantized = quantize_stage(shop, recipe.quantize, position, networks[-1])
    if not recipe.qat:
        return (quantized,)
    return (quantized, qat_stage(shop, recipe.qat, position + 1, quantized, networks[0]))


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
        shop.progress.finish(f"{quantized.engine}{told_accuracy(accuracy)}")
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
    return Stage(f"{position}-quantize", inputs, work, (source,), QUANTIZE_CODE)


def qat_stage(shop: Workshop, spec: QatSpec, position: int, quantized: Stage, dense: Stage) -> Stage:
    """The QDQ ONNX of `quantized`, trained with its roundings -> QDQ ONNX with other integers and scales."""

    def work(folder: Path) -> dict[str, Any]:
        import onnx

        torch_device = shop.torch_device
        from edgecnn.compress.qat import QatNetwork, read_graph, trained_model

        model = onnx.load(shop.store.folder(quantized) / QUANTIZED_FILE)
        network = QatNetwork(read_graph(model), weight_bits=int(spec.weights.removeprefix("int")))
        network.to(torch_device)
        settings = finetune_settings(shop.recipe, spec.epochs, spec.learning_rate, position, 0)
        # bfloat16 has fewer steps than int8: integers would be trained on that no file can hold.
        settings = replace(settings, precision="float32")
        checkpoints = folder / "checkpoint"
        history = train_network(shop, network, settings, checkpoints, "qat", teacher_of(shop, spec, dense))
        with files.replacing(folder / QUANTIZED_FILE) as temporary:
            onnx.save(trained_model(model, network.cpu()), temporary)
        shutil.rmtree(checkpoints)
        accuracy = _validation_accuracy(shop, folder / QUANTIZED_FILE)
        return {"validation_accuracy": accuracy, "history": history, "notes": []}

    inputs = {**training_inputs(shop), "qat": spec.model_dump(mode="json")}
    needs = (quantized, dense) if spec.teacher else (quantized,)
    return Stage(
        f"{position}-qat", inputs, work, needs, (*QUANTIZE_CODE, "edgecnn.training", "edgecnn.steps.networks")
    )


def _validation_accuracy(shop: Workshop, qdq_path: Path) -> float | None:
    """The accuracy of the QDQ model on the validation split, on onnxruntime; None where it has no labels."""
    validation = shop.splits.validation
    try:
        logits = onnx_outputs(shop, qdq_path, validation.images_nhwc)
    except DeviceError as fault:
        raise QuantizationError(f"the quantized model does not run: {fault.what}", fix=fault.fix) from fault
    return metrics.accuracy(metrics.top1(logits), validation.labels) if shop.is_labelled else None
