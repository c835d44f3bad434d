"""Activations that stand alone."""

from __future__ import annotations

from edgecnn.export.tflite.graph import Node
from edgecnn.export.tflite.lowering.context import Lowering


def relu(lower: Lowering, node: Node) -> None:
    source = lower.tensor(node.data_input())
    lower.emit("RELU", [source], lower.result(node.output, source.permutation, source.columns))
