"""What is said beside each file: from an artifact's key ("int8.tflite") and content to its manifest."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import edgecnn
from edgecnn.errors import UsageError
from edgecnn.ondevice.manifest import DeviceError, Manifest, TensorSpec
from edgecnn.recipe import Recipe
from edgecnn.steps.networks import Workshop, installed_version
from edgecnn.targets.host import HostTarget

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
    output: str = "logits",
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
        output=output,
        tool_versions=tool_versions(),
    )


def onnx_outputs(shop: Workshop, path: Path, images_nhwc: NDArray[Any]) -> NDArray[Any]:
    """The outputs [n, classes] of an ONNX file that is no artifact yet, on onnxruntime, in a process of its
    own. Raises TargetError.
    """
    manifest = manifest_for(
        shop.recipe,
        path.name,
        path.read_bytes(),
        *onnx_specs(path),
        class_names=shop.source.class_names,
        n_params=0,
        n_macs=0,
    )
    return HostTarget().evaluate(path, manifest, images_nhwc, "onnxruntime")


def output_of(path: Path) -> str:
    """What the float ONNX network at `path` gives: "probabilities" if it ends in a softmax, else "logits"."""
    import onnx

    graph = onnx.load(path).graph
    last = [node.op_type for node in graph.node if graph.output[0].name in node.output]
    return "probabilities" if last == ["Softmax"] else "logits"


def read_manifest(path: Path) -> Manifest:
    """The manifest beside the model file at `path`. Raises UsageError where there is none that can be read."""
    try:
        return Manifest.read_for(path)
    except DeviceError as fault:
        raise UsageError(fault.what, where=str(path), fix=fault.fix) from fault


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


def precision_of(key: str) -> Literal["fp32", "int8", "int4"]:
    parts = key.split(".")
    return "int8" if "int8" in parts else "int4" if "int4" in parts else "fp32"


def variant_of(key: str) -> Literal["dense", "final"]:
    return "dense" if key.startswith("dense.") else "final"


def tool_versions() -> dict[str, str]:
    return {"edgecnn": edgecnn.__version__, **{tool: installed_version(tool) for tool in TOOLS}}
