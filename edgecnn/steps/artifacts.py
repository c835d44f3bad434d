"""The stages that write model files: quantize (QDQ ONNX), then export (every file with its manifest)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

import edgecnn
from edgecnn import data, files
from edgecnn.data import DATASETS
from edgecnn.ondevice.manifest import Manifest, TensorSpec
from edgecnn.recipe import QuantizeSpec, Recipe
from edgecnn.records import Artifact
from edgecnn.stages import Stage
from edgecnn.steps.networks import ONNX_FILE, Workshop, installed_version, ledger_bytes

QUANTIZED_FILE = "quantized.onnx"
TOOLS = ("torch", "onnx", "onnxruntime", "neural-compressor", "ai-edge-litert")


def quantize_stage(shop: Workshop, spec: QuantizeSpec, position: int, source: Stage) -> Stage:
    """Float ONNX of `source` and calibration images of the training part -> QDQ ONNX."""
    recipe = shop.recipe

    def work(folder: Path) -> dict[str, Any]:
        import onnx

        from edgecnn.compress.quantize import quantize
        from edgecnn.export.tflite import convert
        from edgecnn.ondevice.preprocess import model_input

        shop.progress.start("quantize", total=2)
        model = onnx.load(shop.store.folder(source) / ONNX_FILE)
        pictures = data.calibration_images(shop.splits.train, spec.calibration_images, recipe.seed)
        preprocessing = DATASETS[recipe.data.name].preprocessing
        calibration = model_input(pictures, preprocessing, "NCHW", TensorSpec("", (), "float32"))
        quantized = quantize(model, calibration, spec)
        shop.progress.advance(1, f"{len(pictures)} images, {quantized.engine}")
        with files.replacing(folder / QUANTIZED_FILE) as temporary:
            onnx.save(quantized.model, temporary)
        accuracy = _validation_accuracy(shop, folder / QUANTIZED_FILE)
        shop.progress.finish(f"{quantized.engine}, validation {accuracy:.2%}")
        facts = shop.store.facts(source)
        return {
            "n_params": facts["n_params"],
            "n_macs": facts["n_macs"],
            **ledger_bytes(convert(quantized.model).data),
            "validation_accuracy": accuracy,
            "engine": quantized.engine,
            "notes": list(quantized.notes),
        }

    inputs = {
        "quantize": spec.model_dump(mode="json"),
        "seed": recipe.seed,
        **{tool: installed_version(tool) for tool in ("onnx", "onnxruntime", "neural-compressor")},
    }
    code = ("edgecnn.compress", "edgecnn.ondevice", "edgecnn.export", "edgecnn.steps.artifacts")
    return Stage(f"{position}-quantize", inputs, work, (source,), code)


def _validation_accuracy(shop: Workshop, qdq_path: Path) -> float:
    """The accuracy of the QDQ model on the validation split, on onnxruntime."""
    from edgecnn import metrics
    from edgecnn.ondevice.evaluate import evaluate

    validation = shop.splits.validation
    manifest = _manifest(shop.recipe, "int8.onnx", qdq_path.read_bytes(), (0, 0), *_onnx_specs(qdq_path))
    outputs = evaluate(qdq_path, manifest, validation.images_nhwc, "onnxruntime")
    return metrics.accuracy(metrics.top1(outputs), validation.labels)


@dataclass(frozen=True)
class _Source:
    """Where the ONNX graph of a file comes from, and the stage whose figures it shares."""

    onnx_path: Path
    stage: Stage


def export_stage(shop: Workshop, networks: tuple[Stage, ...], quantized: Stage | None) -> Stage:
    """Every file of the recipe, `<recipe name>.<key>`, with its manifest; the facts are `Artifact` records."""
    recipe = shop.recipe

    def work(folder: Path) -> dict[str, Any]:
        sources = {
            "dense.fp32": _Source(shop.store.folder(networks[0]) / ONNX_FILE, networks[0]),
            "fp32": _Source(shop.store.folder(networks[-1]) / ONNX_FILE, networks[-1]),
        }
        if quantized:
            sources["int8"] = _Source(shop.store.folder(quantized) / QUANTIZED_FILE, quantized)
        shop.progress.start("export", total=len(recipe.artifact_keys))
        artifacts, notes = [], []
        for key in recipe.artifact_keys:
            network, _, suffix = key.rpartition(".")
            source = sources[network]
            write = WRITERS[suffix]
            content, inputs, outputs, said = write(source.onnx_path)
            notes += [f"{key}: {note}" for note in said]
            facts = shop.store.facts(source.stage)
            artifact = _artifact(recipe, key, content, facts)
            manifest = _manifest(recipe, key, content, (artifact.n_params, artifact.n_macs), inputs, outputs)
            files.write_bytes(folder / artifact.file, content)
            files.write_text(Manifest.path_for(folder / artifact.file), manifest.to_json())
            artifacts.append(artifact.model_dump(mode="json"))
            shop.progress.advance(1, key)
        shop.progress.finish(f"{len(artifacts)} files")
        return {"artifacts": artifacts, "notes": notes}

    needs = tuple(dict.fromkeys(s for s in (networks[0], networks[-1], quantized) if s))
    inputs = {"name": recipe.name, "recipe": recipe.sha256, "formats": list(recipe.export)}
    return Stage(
        "export", inputs, work, needs, ("edgecnn.export", "edgecnn.ondevice", "edgecnn.steps.artifacts")
    )


_Written = tuple[bytes, tuple[TensorSpec, ...], tuple[TensorSpec, ...], tuple[str, ...]]


def _as_onnx(onnx_path: Path) -> _Written:
    return (onnx_path.read_bytes(), *_onnx_specs(onnx_path), ())


def _as_tflite(onnx_path: Path) -> _Written:
    from edgecnn.export.tflite import convert

    conversion = convert(onnx_path)
    return conversion.data, conversion.inputs, conversion.outputs, conversion.notes


WRITERS: dict[str, Callable[[Path], _Written]] = {"onnx": _as_onnx, "tflite": _as_tflite}


def _onnx_specs(path: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs of an ONNX file; an open dimension is 0."""
    import onnx

    graph = onnx.load(path).graph

    def spec(value: Any) -> TensorSpec:
        tensor = value.type.tensor_type
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)).name
        return TensorSpec(value.name, tuple(dim.dim_value for dim in tensor.shape.dim), dtype)

    return tuple(map(spec, graph.input)), tuple(map(spec, graph.output))


def _artifact(recipe: Recipe, key: str, content: bytes, facts: dict[str, Any]) -> Artifact:
    suffix = key.rpartition(".")[2]
    weight_bytes = _weight_bytes(content, suffix)
    return Artifact(
        key=key,
        file=f"{recipe.name}.{key}",
        format=cast(Literal["onnx", "tflite"], suffix),
        variant="dense" if key.startswith("dense.") else "final",
        precision="int8" if "int8" in key else "fp32",
        size_bytes=len(content),
        weight_bytes=weight_bytes,
        overhead_bytes=len(content) - weight_bytes,
        sha256=hashlib.sha256(content).hexdigest(),
        n_params=facts["n_params"],
        n_macs=facts["n_macs"],
    )


def _weight_bytes(content: bytes, suffix: str) -> int:
    import onnx

    from edgecnn.export import cost

    if suffix == "onnx":
        return cost.onnx_weight_bytes(onnx.load_from_string(content))
    return cost.tflite_weight_bytes(content)


def _manifest(
    recipe: Recipe,
    key: str,
    content: bytes,
    cost: tuple[int, int],
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
) -> Manifest:
    suffix = key.rpartition(".")[2]
    return Manifest(
        format=suffix,
        precision="int8" if "int8" in key else "fp32",
        variant="dense" if key.startswith("dense.") else "final",
        layout="NHWC" if suffix == "tflite" else "NCHW",
        preprocessing=DATASETS[recipe.data.name].preprocessing,
        inputs=inputs,
        outputs=outputs,
        class_names=DATASETS[recipe.data.name].class_names,
        n_params=cost[0],
        n_macs=cost[1],
        size_bytes=len(content),
        file_sha256=hashlib.sha256(content).hexdigest(),
        recipe_name=recipe.name,
        recipe_sha256=recipe.sha256,
        tool_versions={"edgecnn": edgecnn.__version__, **{tool: installed_version(tool) for tool in TOOLS}},
    )
