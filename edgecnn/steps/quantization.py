"""The stages that quantize: float ONNX and calibration images -> QDQ ONNX, which may be trained on."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecnn import data, files, metrics
from edgecnn.errors import QuantizationError, TargetError
from edgecnn.ondevice.manifest import TensorSpec
from edgecnn.ondevice.preprocess import model_input
from edgecnn.recipe import QatSpec, QuantizeSpec
from edgecnn.records import QuantizationAttempt, Tuning
from edgecnn.report import remarks
from edgecnn.stages import Stage
from edgecnn.steps import foreign
from edgecnn.steps.manifests import onnx_outputs
from edgecnn.steps.networks import (
    ONNX_FILE,
    Workshop,
    finetune_settings,
    installed_version,
    taught,
    teacher_of,
    told_accuracy,
    train_network,
    training_inputs,
)
from edgecnn.units import format_share

if TYPE_CHECKING:
    import onnx

    from edgecnn.compress.tuning import Attempt

QUANTIZED_FILE = "quantized.onnx"
# Validation images that rank the layers.
N_RANKING_IMAGES = 128


QUANTIZE_CODE = (
    "edgecnn.analysis",
    "edgecnn.compress",
    "edgecnn.confined",
    "edgecnn.data",
    "edgecnn.export",
    "edgecnn.metrics",
    "edgecnn.ondevice",
    "edgecnn.records",
    "edgecnn.steps.foreign",
    "edgecnn.steps.manifests",
    "edgecnn.steps.quantization",
    "edgecnn.targets",
)


def quantization_stages(shop: Workshop, networks: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """Those of the recipe: none, quantize, or quantize and then qat. The file of the last is exported."""
    recipe = shop.recipe
    if not recipe.quantize:
        return ()
    position = len(recipe.compress) - (1 if recipe.qat else 0)
    quantized = quantize_stage(shop, recipe.quantize, position, networks[-1], networks[0])
    if not recipe.qat:
        return (quantized,)
    return (quantized, qat_stage(shop, recipe.qat, position + 1, networks[-1], quantized, networks[0]))


def quantize_stage(shop: Workshop, spec: QuantizeSpec, position: int, source: Stage, dense: Stage) -> Stage:
    """Float ONNX of `source` and calibration images of the training part -> QDQ ONNX.

    With a `max_accuracy_drop` other ways to quantize are tried until one is as near to `dense` as it must be;
    the fact `tuning` lists them. `equalized` says whether the float weights were equalized first.
    """
    recipe = shop.recipe

    def work(folder: Path) -> dict[str, Any]:
        import onnx

        from edgecnn.compress import tuning

        model = onnx.load(shop.store.folder(source) / ONNX_FILE)
        pictures = data.calibration_images(shop.splits.train, spec.calibration_images, recipe.seed)
        calibration = model_input(pictures, recipe.preprocessing, "NCHW", TensorSpec("", (), "float32"))
        judge = _Judge(shop.sealed(), folder, model, calibration, shop.store.folder(dense) / ONNX_FILE)
        record = None
        if spec.max_accuracy_drop is None:
            shop.progress.start("quantize", total=1)
            best = judge.attempt(spec)
        else:
            shop.progress.start("quantize", total=1 + tuning.n_remedies(spec))
            needed = judge.dense_accuracy - spec.max_accuracy_drop
            best, made = tuning.tune(spec, needed, judge.attempt, judge.layers_by_worth)
            record = _tuning_record(needed, best, made)
        with files.replacing(folder / QUANTIZED_FILE) as temporary:
            onnx.save(best.quantized.model, temporary)
        accuracy = best.accuracy if shop.is_labelled else None
        shop.progress.finish(f"{best.quantized.engine}{told_accuracy(accuracy)}")
        return {
            "validation_accuracy": accuracy,
            "engine": best.quantized.engine,
            "equalized": best.spec.equalization,
            "tuning": record.model_dump(mode="json") if record else None,
            "notes": [*best.quantized.notes, *remarks.on_tuning(record)],
        }

    inputs = {
        "quantize": spec.model_dump(mode="json"),
        "seed": recipe.seed,
        **{tool: installed_version(tool) for tool in ("onnx", "onnxruntime", "neural-compressor")},
    }
    needs = (source,) if spec.max_accuracy_drop is None else (source, dense)
    return Stage(f"{position}-quantize", inputs, work, needs, QUANTIZE_CODE)


class _Judge:
    """Quantizes one float network in different ways, and says what each is worth on the validation images.

    Without labels the answers of the dense network at `dense_path` stand for them.
    """

    def __init__(
        self, shop: Workshop, folder: Path, model: onnx.ModelProto, calibration: NDArray[Any], dense_path: Path
    ) -> None:
        self.shop, self.folder, self.model, self.calibration = shop, folder, model, calibration
        self.dense_path = dense_path

    @cached_property
    def labels(self) -> NDArray[Any]:
        validation = self.shop.splits.validation
        return validation.labels if self.shop.is_labelled else self.dense_answers

    @cached_property
    def dense_answers(self) -> NDArray[Any]:
        return _answers(self.shop, self.dense_path)

    @property
    def dense_accuracy(self) -> float:
        return metrics.accuracy(self.dense_answers, self.labels)

    def attempt(self, spec: QuantizeSpec) -> Attempt:
        import onnx

        from edgecnn.compress.quantize import quantize
        from edgecnn.compress.tuning import Attempt

        quantized = foreign.run(self.shop, quantize, self.model, self.calibration, spec)
        path = self.folder / QUANTIZED_FILE
        with files.replacing(path) as temporary:
            onnx.save(quantized.model, temporary)
        accuracy = metrics.accuracy(_answers(self.shop, path), self.labels)
        self.shop.progress.advance(1, f"{quantized.engine}, {format_share(accuracy)}")
        return Attempt(spec, quantized, accuracy, self._size_bytes(quantized.model))

    def _size_bytes(self, model: onnx.ModelProto) -> int:
        from edgecnn.export.tflite import convert

        as_tflite = "tflite" in self.shop.recipe.export
        return len(convert(model, unit_scales=True).data) if as_tflite else model.ByteSize()

    def layers_by_worth(self, attempt: Attempt) -> list[str]:
        """The layers of `attempt`, that first whose quantization costs the most for each of its weights."""
        import onnx

        from edgecnn.analysis.matching import layer_name
        from edgecnn.analysis.sensitivity import layer_sensitivity
        from edgecnn.compress.equalization import equalize

        original = onnx.ModelProto()
        original.CopyFrom(self.model)
        if attempt.spec.equalization:
            equalize(original)
        validation = self.shop.splits.validation
        chosen = ranking_images(len(validation), self.shop.recipe.seed)
        spec = TensorSpec("", (), "float32")
        images = model_input(validation.images_nhwc[chosen], self.shop.recipe.preprocessing, "NCHW", spec)
        labels = self.labels[chosen]
        found = foreign.run(self.shop, layer_sensitivity, original, attempt.quantized.model, images, labels)
        sizes = {
            layer_name(tensor.name): int(np.prod(tensor.dims))
            for tensor in original.graph.initializer
            if len(tensor.dims) > 1
        }
        return [one.layer for one in sorted(found, key=lambda one: -one.divergence / sizes[one.layer])]


def ranking_images(n_images: int, seed: int) -> NDArray[np.int64]:
    """Positions of the images by which layers are ranked. Drawn: a folder of pictures comes class by class."""
    return np.sort(np.random.default_rng(seed).permutation(n_images)[:N_RANKING_IMAGES])


def _tuning_record(needed: float, best: Attempt, made: list[Attempt]) -> Tuning:
    fields = ("calibrator", "equalization", "bias_correction", "dense_weights", "float_layers")
    attempts = tuple(
        QuantizationAttempt(
            **{name: getattr(one.spec, name) for name in fields},
            size_bytes=one.size_bytes,
            accuracy=one.accuracy,
        )
        for one in made
    )
    return Tuning(needed_accuracy=needed, attempts=attempts, chosen=made.index(best))


def qat_stage(
    shop: Workshop, spec: QatSpec, position: int, source: Stage, quantized: Stage, dense: Stage
) -> Stage:
    """The QDQ ONNX of `quantized`, which the float network of `source` became, trained with its roundings ->
    QDQ ONNX with other integers and scales.
    """

    def work(folder: Path) -> dict[str, Any]:
        import onnx

        torch_device = shop.torch_device
        from edgecnn.compress.qat import prepare, trained_model

        original = onnx.load(shop.store.folder(source) / ONNX_FILE)
        model, network = prepare(original, onnx.load(shop.store.folder(quantized) / QUANTIZED_FILE), spec)
        network.to(torch_device)
        settings = finetune_settings(shop.recipe, spec.epochs, spec.learning_rate, position, 0)
        # bfloat16 has fewer steps than int8: integers would be trained on that no file can hold.
        settings = replace(settings, precision="float32")
        checkpoints = folder / "checkpoint"
        history = train_network(shop, network, settings, checkpoints, "qat", teacher_of(shop, spec, dense))
        with files.replacing(folder / QUANTIZED_FILE) as temporary:
            onnx.save(trained_model(model, network.cpu()), temporary)
        accuracy = _validation_accuracy(shop, folder / QUANTIZED_FILE)
        equalized = shop.store.facts(quantized)["equalized"]
        return {"validation_accuracy": accuracy, "history": history, "equalized": equalized, "notes": []}

    inputs = {**training_inputs(shop), "qat": spec.model_dump(mode="json")}
    needs = taught(shop, spec, dense, quantized)
    return Stage(
        f"{position}-qat", inputs, work, needs, (*QUANTIZE_CODE, "edgecnn.training", "edgecnn.steps.networks")
    )


def _validation_accuracy(shop: Workshop, qdq_path: Path) -> float | None:
    """The accuracy of the QDQ model on the validation split; None where it has no labels."""
    labels = shop.splits.validation.labels
    return metrics.accuracy(_answers(shop, qdq_path), labels) if shop.is_labelled else None


def _answers(shop: Workshop, path: Path) -> NDArray[Any]:
    """The class [n] that an ONNX model gives each validation image, on onnxruntime."""
    try:
        return metrics.top1(onnx_outputs(shop, path, shop.splits.validation.images_nhwc))
    except TargetError as fault:
        raise QuantizationError(f"the quantized model does not run: {fault.what}", fix=fault.fix) from fault
