"""int8 static post-training quantization: float ONNX + calibration images -> QDQ ONNX, the one source of
the int8 numbers in both formats.
"""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import numpy_helper

from edgecnn import files
from edgecnn.analysis.matching import CLIPPING, layer_name, match
from edgecnn.compress import engines, qdq
from edgecnn.compress.bias_correction import correct_biases
from edgecnn.compress.calibration import narrow_ranges
from edgecnn.compress.equalization import equalize
from edgecnn.errors import MissingExtraError, QuantizationError, StorageError
from edgecnn.export.onnx import strip
from edgecnn.recipe import QuantizeSpec

LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
# neural-compressor writes these in integers only outside QDQ; what follows them stays in float32, too.
LEFT_IN_FLOAT_BY_NEURAL_COMPRESSOR = frozenset({"Add", "Mul"})


@dataclass(frozen=True)
class Quantized:
    """The QDQ model, the engine that made it, and what the user should know about that."""

    model: onnx.ModelProto
    engine: str
    notes: tuple[str, ...]


def quantize(model: onnx.ModelProto, images_nchw: NDArray[Any], spec: QuantizeSpec) -> Quantized:
    """`model` (float32) with the ranges of float32 `images_nchw` [n, c, h, w] (preprocessed).

    Weights int8 symmetric (per channel for convolutions, `spec.dense_weights` for Gemm / MatMul), biases
    int32, activations uint8 with the ranges of `spec.calibrator`, unified where TFLite needs it; all but
    `spec.float_layers`, which stay in float32. `spec` also says what is done to the weights before and to the
    biases after.
    Raises QuantizationError where the engine fails or a layer is not there, MissingExtraError where there is no
    engine.
    """
    source = _named_nodes(model)
    if spec.equalization:
        equalize(source)
    engine, notes = _choose_engine(spec.engine, {node.op_type for node in source.graph.node})
    fit = engines.load_engine(engine)
    request = engines.Request(
        per_channel_dense=spec.dense_weights == "per_channel",
        float_nodes=_nodes_of(source.graph, spec.float_layers),
    )
    with tempfile.TemporaryDirectory(prefix="edgecnn-quantize-") as folder, files.writing(Path(folder)):
        float_path = Path(folder) / "float.onnx"
        onnx.save(source, float_path)
        try:
            fitted = fit(float_path, images_nchw, request, Path(folder))
        except DecodeError as fault:  # native code writes half a file where a disk is full, and says nothing
            raise StorageError(OSError(errno.ENOSPC, str(fault)), folder) from fault
    _mend_biases(fitted, source)
    if spec.calibrator != "minmax":
        narrow_ranges(fitted, source, images_nchw, spec.calibrator)
    if spec.bias_correction:
        correct_biases(fitted, source, images_nchw)
    strip(fitted)
    return Quantized(qdq.finish(fitted), engine, notes)


def _mend_biases(fitted: onnx.ModelProto, source: onnx.ModelProto) -> None:
    """Sets the biases anew that the engine's scales have no 32 bits for, or only a few steps: of channels with
    hardly any weights, or none.
    """
    constants = {tensor.name: tensor for tensor in fitted.graph.initializer}
    biases = {tensor.name: tensor for tensor in source.graph.initializer}
    layers = {layer.node.output[0]: layer for layer in qdq.biased_layers(fitted.graph, constants)}
    made_by = {node.output[0]: node for node in source.graph.node}
    for matched in match(source.graph, fitted.graph).layers:
        layer, (*_, bias) = layers.get(matched.qdq_output), (*made_by[matched.float_output].input, "")[:3]
        if layer is None or bias not in biases:
            continue
        values = numpy_helper.to_array(biases[bias])
        integers, scale = (numpy_helper.to_array(constants[name]) for name in layer.bias.input[:2])
        # Half a step is what rounding takes.
        is_held = np.all(np.abs(integers * scale.astype(np.float64) - values) <= scale)
        if not is_held or not qdq.used_channels(layer, constants).all():
            qdq.set_bias(layer, constants, values)


def layers_of(model: onnx.ModelProto) -> tuple[str, ...]:
    """The layers of a float ONNX model that have weights to quantize, in order."""
    return tuple(dict.fromkeys(layer for layer, _ in _weighted_nodes(model.graph)))


def _named_nodes(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which every node has a name of its own: engines are told by name what to leave alone."""
    named = onnx.ModelProto()
    named.CopyFrom(model)
    for position, node in enumerate(named.graph.node):
        node.name = f"{node.op_type}_{position}"
    return named


def _weighted_nodes(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.NodeProto]]:
    constants = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type in LAYERS and len(node.input) > 1 and node.input[1] in constants:
            yield layer_name(node.input[1]), node


def _nodes_of(graph: onnx.GraphProto, layers: tuple[str, ...]) -> tuple[str, ...]:
    """The nodes of `layers`, by name, each with the activation function behind it."""
    by_layer: dict[str, list[onnx.NodeProto]] = {}
    for layer, node in _weighted_nodes(graph):
        by_layer.setdefault(layer, []).append(node)
    unknown = [layer for layer in layers if layer not in by_layer]
    if unknown:
        raise QuantizationError(
            f"float_layers: no layer is named {', '.join(unknown)}",
            fix=f"the layers of the network are {', '.join(by_layer)}",
        )
    nodes = [node for layer in layers for node in by_layer[layer]]
    made = {node.output[0] for node in nodes}
    activations = [node for node in graph.node if node.op_type in CLIPPING and node.input[0] in made]
    return tuple(node.name for node in (*nodes, *activations))


def _choose_engine(asked: str, operators: set[str]) -> tuple[str, tuple[str, ...]]:
    """The engine that quantizes a network of these `operators`, and why it is not the one asked for."""
    left = sorted(operators & LEFT_IN_FLOAT_BY_NEURAL_COMPRESSOR) if asked == "neural-compressor" else []
    if left and engines.is_installed("onnxruntime"):
        return "onnxruntime", (f"{asked} leaves {', '.join(left)} in float32: quantized by onnxruntime",)
    if engines.is_installed(asked):
        return asked, ()
    if not engines.is_installed("onnxruntime"):
        raise MissingExtraError(asked, extra="train", needed_for="quantization")
    return "onnxruntime", (f"{asked} is not installed: quantized by onnxruntime, which gives the same numbers",)
