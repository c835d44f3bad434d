"""The stage that writes the model files, each with its manifest, and the ledger of what every stage saved."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from edgecnn import files
from edgecnn.export.cost import Cost, count, onnx_weight_bytes, tflite_storage, tflite_weight_bytes
from edgecnn.export.tflite import convert
from edgecnn.export.unit_scales import unit_scales
from edgecnn.ondevice.manifest import Manifest, TensorSpec
from edgecnn.recipe import Recipe
from edgecnn.records import Artifact
from edgecnn.stages import Stage
from edgecnn.steps.manifests import (
    format_of,
    manifest_for,
    onnx_specs,
    output_of,
    precision_of,
    tool_versions,
    variant_of,
)
from edgecnn.steps.networks import ONNX_FILE, Workshop
from edgecnn.steps.quantization import QUANTIZED_FILE
from edgecnn.steps.rejection import threshold


def export_stage(shop: Workshop, networks: tuple[Stage, ...], quantizations: tuple[Stage, ...]) -> Stage:
    """Every file of the recipe, `<recipe name>.<key>`, with its manifest.

    The facts are `artifacts` (as in the report), `ledger` (what each stage's network would weigh) and `notes`.
    """
    recipe = shop.recipe

    def work(folder: Path) -> dict[str, Any]:
        graphs = {"dense.fp32": _graph_of(shop, networks[0]), "fp32": _graph_of(shop, networks[-1])}
        costs = {"dense.fp32": _cost_of(shop, networks[0]), "fp32": _cost_of(shop, networks[-1])}
        if recipe.quantized_precision:
            graphs[recipe.quantized_precision] = _graph_of(shop, quantizations[-1])
            costs[recipe.quantized_precision] = costs["fp32"]
        shop.progress.start("export", total=len(recipe.artifact_keys))
        artifacts, notes, kind = [], [], output_of(shop.store.folder(networks[-1]) / ONNX_FILE)
        for key in recipe.artifact_keys:
            network, _, suffix = key.rpartition(".")
            content, inputs, outputs, said = WRITERS[suffix](graphs[network], network)
            notes += [f"{key}: {note}" for note in said]
            artifact = _artifact(recipe, key, content, costs[network])
            manifest = manifest_for(
                recipe,
                key,
                content,
                inputs,
                outputs,
                class_names=shop.source.class_names,
                n_params=artifact.n_params,
                n_macs=artifact.n_macs,
                output=kind,
            )
            files.write_bytes(folder / artifact.file, content)
            if recipe.reject:
                limit = threshold(folder / artifact.file, manifest, shop.splits.validation, recipe.reject.keep)
                manifest = replace(manifest, reject_below=limit)
            files.write_text(Manifest.path_for(folder / artifact.file), manifest.to_json())
            artifacts.append(artifact.model_dump(mode="json"))
            shop.progress.advance(1, key)
        shop.progress.finish(f"{len(artifacts)} files")
        return {"artifacts": artifacts, "ledger": _ledger(shop, networks, quantizations), "notes": notes}

    needs = (*networks, *quantizations)
    inputs = {
        "name": recipe.name,
        "recipe": recipe.sha256,
        "formats": list(recipe.export),
        # They stand in the manifests.
        **tool_versions(),
    }
    code = (
        "edgecnn.data",
        "edgecnn.export",
        "edgecnn.ondevice",
        "edgecnn.records",
        "edgecnn.steps.artifacts",
        "edgecnn.steps.manifests",
        "edgecnn.steps.rejection",
    )
    return Stage("export", inputs, work, needs, code)


def _graph_of(shop: Workshop, stage: Stage) -> Path:
    """The ONNX file that a stage left: QDQ where it quantized, float otherwise."""
    quantized = shop.store.folder(stage) / QUANTIZED_FILE
    return quantized if quantized.is_file() else shop.store.folder(stage) / ONNX_FILE


def _cost_of(shop: Workshop, network: Stage) -> Cost:
    import onnx

    return count(onnx.load(shop.store.folder(network) / ONNX_FILE))


def _ledger(
    shop: Workshop, networks: tuple[Stage, ...], quantizations: tuple[Stage, ...]
) -> list[dict[str, Any]]:
    """By stage: parameters, MACs, and what the network weighs as the .tflite that it would be."""
    rows = []
    last = (*networks, *quantizations)[-1]
    for stage in (*networks, *quantizations):
        precision = shop.recipe.quantized_precision if stage is last else None
        tflite, *_ = _as_tflite(_graph_of(shop, stage), precision or "")
        weight = {
            "weight_bytes": tflite_weight_bytes(tflite),
            "file_bytes": len(tflite),
            # mtime=0: the same network gives the same figure.
            "gzip_bytes": len(gzip.compress(tflite, mtime=0)),
            **asdict(tflite_storage(tflite)),
        }
        network = networks[-1] if stage in quantizations else stage
        rows.append({"stage": stage.name, **asdict(_cost_of(shop, network)), **weight})
    return rows


_Written = tuple[bytes, tuple[TensorSpec, ...], tuple[TensorSpec, ...], tuple[str, ...]]


def _as_onnx(onnx_path: Path, _: str) -> _Written:
    """With the scales that the .tflite file has; a float model as it is, byte for byte."""
    import onnx

    model = onnx.load(onnx_path)
    chosen = unit_scales(model)
    content = onnx_path.read_bytes() if chosen is model else chosen.SerializeToString()
    return (content, *onnx_specs(onnx_path), ())


def _as_tflite(onnx_path: Path, precision: str) -> _Written:
    # What was trained in 4 bits needs no more; a layer that keeps 8 needs them.
    weights = "packed" if precision == "int4" else "as-is"
    conversion = convert(onnx_path, weights=weights, unit_scales=True)
    return conversion.data, conversion.inputs, conversion.outputs, conversion.notes


WRITERS: dict[str, Callable[[Path, str], _Written]] = {"onnx": _as_onnx, "tflite": _as_tflite}


def _artifact(recipe: Recipe, key: str, content: bytes, cost: Cost) -> Artifact:
    weight_bytes = _weight_bytes(content, format_of(key))
    return Artifact(
        key=key,
        file=f"{recipe.name}.{key}",
        format=format_of(key),
        variant=variant_of(key),
        precision=precision_of(key),
        size_bytes=len(content),
        weight_bytes=weight_bytes,
        overhead_bytes=len(content) - weight_bytes,
        sha256=hashlib.sha256(content).hexdigest(),
        n_params=cost.n_params,
        n_macs=cost.n_macs,
    )


def _weight_bytes(content: bytes, model_format: str) -> int:
    import onnx

    if model_format == "onnx":
        return onnx_weight_bytes(onnx.load_from_string(content))
    return tflite_weight_bytes(content)
