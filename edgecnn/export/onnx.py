"""PyTorch -> ONNX: one file, NCHW, dynamic batch, checked, and nothing in it that is not the network."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator

import onnx
import torch
from onnx import numpy_helper
from torch import nn

OPSET = 18
INPUT_NAME = "images"
OUTPUT_NAME = "logits"
PRODUCER = "edgecnn"


def export_onnx(model: nn.Module, input_shape: tuple[int, int, int]) -> onnx.ModelProto:
    """The float32 ONNX model of `model` for `input_shape` (channels, height, width): images -> logits.

    Written by torch's exporter (torch.export based), then stripped of source paths, stack traces and
    doc strings, with its batch left open, and global average pooling under its own name.
    """
    example = torch.zeros(2, *input_shape)
    exported_model = copy.deepcopy(model).cpu().eval()  # the caller's stays as and where it is
    with _quiet():
        program = torch.onnx.export(
            exported_model,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            external_data=False,
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            verbose=False,
        )
    assert program is not None
    exported = program.model_proto
    name_global_pooling(exported)
    strip(exported)
    onnx.checker.check_model(exported, full_check=True)
    return exported


def name_global_pooling(model: onnx.ModelProto) -> None:
    """GlobalAveragePool for the ReduceMean over height and width that torch writes for it, in place.

    The same numbers; but the quantizers know GlobalAveragePool only, and leave a ReduceMean in float32.
    A mean over other axes, or one that drops them, stays what it is.
    """
    graph = model.graph
    means = [node for node in graph.node if node.op_type == "ReduceMean" and len(node.input) == 2]
    if not means:
        return
    inferred = onnx.shape_inference.infer_shapes(model).graph
    ranks = {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in (*inferred.input, *inferred.value_info, *inferred.output)
    }
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in means:
        keeps = next((a.i for a in node.attribute if a.name == "keepdims"), 1)
        axes = constants.get(node.input[1])
        if not keeps or axes is None or ranks.get(node.input[0]) != 4 or sorted(axes % 4) != [2, 3]:
            continue
        node.op_type = "GlobalAveragePool"
        del node.input[1:], node.attribute[:]
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def strip(model: onnx.ModelProto) -> None:
    """Removes, in place, what is not the network: doc strings, metadata, stack traces, value infos."""
    model.producer_name, model.producer_version, model.doc_string = PRODUCER, "", ""
    model.domain = ""
    del model.metadata_props[:]
    del model.functions[:]
    graph = model.graph
    graph.name, graph.doc_string = "model", ""
    del graph.metadata_props[:]
    del graph.value_info[:]
    for part in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        part.doc_string = ""
        del part.metadata_props[:]
    used = {opset for node in graph.node for opset in [node.domain]}
    kept = [opset for opset in model.opset_import if opset.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter prints progress and warns of its own insides; neither tells our user anything."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
