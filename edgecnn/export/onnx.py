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
from torch import nn

OPSET = 18
INPUT_NAME = "images"
OUTPUT_NAME = "logits"
PRODUCER = "edgecnn"


def export_onnx(model: nn.Module, input_shape: tuple[int, int, int]) -> onnx.ModelProto:
    """The float32 ONNX model of `model` for `input_shape` (channels, height, width): images -> logits.

    Written by torch's exporter (torch.export based), then stripped of source paths, stack traces and
    doc strings, with its batch left open.
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
    strip(exported)
    onnx.checker.check_model(exported, full_check=True)
    return exported


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
