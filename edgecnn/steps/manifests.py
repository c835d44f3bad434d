"""What is said beside each file: from an artifact's key ("int8.tflite") and content to its manifest."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

import numpy as np

import edgecnn
from edgecnn.ondevice.manifest import Manifest, TensorSpec
from edgecnn.recipe import Recipe
from edgecnn.steps.networks import installed_version

TOOLS = ("torch", "onnx", "onnxruntime", "neural-compressor", "ai-edge-litert")


def manifest_for(
    recipe: Recipe,
    key: str,
    content: bytes,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    *,
    class_names: tuple[str, ...],
    n_params: int,
    n_macs: int,
) -> Manifest:
    """The manifest of the file `<recipe name>.<key>` with that `content`."""
    return Manifest(
        format=format_of(key),
        precision=precision_of(key),
        variant=variant_of(key),
        layout="NHWC" if format_of(key) == "tflite" else "NCHW",
        preprocessing=recipe.preprocessing,
        inputs=inputs,
        outputs=outputs,
        class_names=class_names,
        n_params=n_params,
        n_macs=n_macs,
        size_bytes=len(content),
        file_sha256=hashlib.sha256(content).hexdigest(),
        recipe_name=recipe.name,
        recipe_sha256=recipe.sha256,
        tool_versions=tool_versions(),
    )


def onnx_specs(path: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs of an ONNX file; an open dimension is 0."""
    import onnx

    graph = onnx.load(path).graph

    def spec(value: Any) -> TensorSpec:
        tensor = value.type.tensor_type
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)).name
        return TensorSpec(value.name, tuple(dim.dim_value for dim in tensor.shape.dim), dtype)

    return tuple(map(spec, graph.input)), tuple(map(spec, graph.output))


def format_of(key: str) -> Literal["onnx", "tflite"]:
    return "tflite" if key.endswith(".tflite") else "onnx"


def precision_of(key: str) -> Literal["fp32", "int8"]:
    return "int8" if "int8" in key.split(".") else "fp32"


def variant_of(key: str) -> Literal["dense", "final"]:
    return "dense" if key.startswith("dense.") else "final"


def tool_versions() -> dict[str, str]:
    return {"edgecnn": edgecnn.__version__, **{tool: installed_version(tool) for tool in TOOLS}}
