"""Joining and cutting tensors: Concat, Split, Slice, Gather of one index, Pad."""

from __future__ import annotations

import numpy as np

from edgecnn.export.tflite.folding import slices_of
from edgecnn.export.tflite.graph import Node
from edgecnn.export.tflite.lowering.context import Lowering, natural
from edgecnn.export.tflite.lowering.convolution import pad as emit_pad
from edgecnn.export.tflite.lowering.elementwise import common_layout
from edgecnn.export.tflite.model import Tensor
from edgecnn.export.tflite.reader import Unsupported

_SAME_SCALE = "its input and output have different scales"


def _source(lower: Lowering, node: Node) -> Tensor:
    """The input, its axes in whatever order, in the scale of the output."""
    source = lower.tensor(node.data_input())
    if source.columns is not None:
        source = lower.rearrange(source, natural(len(source.shape)))
    return lower.requantize(source, node.output.quantization, _SAME_SCALE) if source.quantization else source


def concat(lower: Lowering, node: Node) -> None:
    """Concat; integers are brought to the scale of the output first."""
    permutation = common_layout(lower, node)
    parts = [lower.tensor_in(value, permutation) for value in node.inputs if value is not None]
    if node.output.quantization is not None:
        why = "the parts it joins have different scales"
        parts = [lower.requantize(part, node.output.quantization, why) for part in parts]
    axis = permutation.index(node.attributes["axis"] % len(permutation))
    lower.emit("CONCATENATION", [*parts], lower.result(node.output, permutation), axis=axis)


def split(lower: Lowering, node: Node) -> None:
    """Split into equal parts by SPLIT, into others by SPLIT_V; integer parts are then requantized."""
    source = lower.tensor(node.data_input())
    if source.columns is not None:
        source = lower.rearrange(source, natural(len(source.shape)))
    axis = node.attributes.get("axis", 0) % len(source.shape)
    memory_axis = lower.constant(np.array(source.permutation.index(axis), np.int32))
    sizes = [value.shape[axis] for value in node.outputs]
    outputs = [lower.result(value, source.permutation) for value in node.outputs]
    parts = [lower.temporary(output, quantization=source.quantization) for output in outputs]
    kept = [
        output if _same_scale(output, source) else part for output, part in zip(outputs, parts, strict=True)
    ]
    if len(set(sizes)) == 1:
        lower.emit("SPLIT", [memory_axis, source], kept, num_splits=len(sizes))
    else:
        lower.emit("SPLIT_V", [source, lower.vector(sizes), memory_axis], kept, num_splits=len(sizes))
    for part, output in zip(kept, outputs, strict=True):
        if part is not output:
            lower.emit("QUANTIZE", [part], output)
            lower.note(f"{node.op} {node.name}: QUANTIZE added, {_SAME_SCALE}")


def _same_scale(a: Tensor, b: Tensor) -> bool:
    if a.quantization is None or b.quantization is None:
        return a.quantization is b.quantization
    return a.quantization.same_as(b.quantization)


def slice_(lower: Lowering, node: Node) -> None:
    """Slice: SLICE, or STRIDED_SLICE where it leaves elements out."""
    arrays = [None, *(node.constant(i) for i in range(1, len(node.inputs)))]
    if arrays[1] is None or arrays[2] is None:
        raise Unsupported("its limits are computed, not constant")
    source = _source(lower, node)
    shape = node.data_input().shape
    index = slices_of(node.attributes, arrays, len(shape))
    limits = [index[axis].indices(shape[axis]) for axis in source.permutation]
    output = lower.result(node.output, source.permutation)
    begin = [start for start, _, _ in limits]
    if all(step == 1 for _, _, step in limits):
        lower.emit("SLICE", [source, lower.vector(begin), lower.vector(output.shape)], output)
        return
    if any(step < 0 for _, _, step in limits):
        raise Unsupported("a slice that runs backwards is not converted")
    end, step = [stop for _, stop, _ in limits], [step for _, _, step in limits]
    lower.emit("STRIDED_SLICE", [source, lower.vector(begin), lower.vector(end), lower.vector(step)], output)


def gather(lower: Lowering, node: Node) -> None:
    """Gather of one constant index, as `x[:, 3]` is written: a SLICE whose axis is then dropped."""
    indices = node.constant(1)
    if indices is None or indices.size != 1:
        raise Unsupported("only one constant index is converted")
    source = _source(lower, node)
    shape = node.data_input().shape
    axis = node.attributes.get("axis", 0) % len(shape)
    index = int(indices.reshape(-1)[0]) % shape[axis]
    begin = [index if a == axis else 0 for a in source.permutation]
    part = lower.temporary(source, shape=tuple(1 if a == axis else shape[a] for a in source.permutation))
    lower.emit("SLICE", [source, lower.vector(begin), lower.vector(part.shape)], part)
    if indices.ndim == 1:
        lower.rename(node.output, part, part.permutation)
        return
    if indices.ndim > 1:
        raise Unsupported("only one constant index is converted")
    left = [a for a in source.permutation if a != axis]
    output = lower.result(node.output, tuple(sorted(left).index(a) for a in left))
    lower.emit("RESHAPE", [part, lower.vector(output.shape)], output)


def pad(lower: Lowering, node: Node) -> None:
    """Pad with a constant, or by reflection."""
    pads = node.constant(1) if len(node.inputs) > 1 else np.asarray(node.attributes.get("pads", ()))
    if pads is None:
        raise Unsupported("its pads are computed, not constant")
    rank = len(node.data_input().shape)
    axes = node.constant(3)
    before, after = np.zeros(rank, int), np.zeros(rank, int)
    chosen = np.arange(rank) if axes is None else axes.astype(int)
    before[chosen], after[chosen] = np.split(pads.reshape(-1).astype(int), 2)
    if np.any(before < 0) or np.any(after < 0):
        raise Unsupported("negative pads are not converted")
    source = _source(lower, node)
    pairs = [(int(before[axis]), int(after[axis])) for axis in source.permutation]
    mode = node.attributes.get("mode", "constant")
    if mode == "reflect":
        output = lower.result(node.output, source.permutation)
        lower.emit("MIRROR_PAD", [source, lower.vector(pairs)], output)
        return
    if mode != "constant":
        raise Unsupported(f"mode {mode} has no TFLite equivalent")
    fill = node.constant(2)
    number = float(fill.reshape(-1)[0]) if fill is not None and fill.size else 0.0
    padded = emit_pad(lower, source, pairs, number or None)
    lower.rename(node.output, padded, source.permutation)
