"""QuantizeLinear and DequantizeLinear that are left at the borders between integer and float parts."""

from __future__ import annotations

from edgecnn.export.tflite.graph import Node
from edgecnn.export.tflite.lowering.context import Lowering


def quantize(lower: Lowering, node: Node) -> None:
    source = lower.tensor(node.data_input())
    lower.emit("QUANTIZE", [source], lower.result(node.output, source.permutation, source.columns))


def dequantize(lower: Lowering, node: Node) -> None:
    source = lower.tensor(node.data_input())
    lower.emit("DEQUANTIZE", [source], lower.result(node.output, source.permutation, source.columns))
