"""Joining, cutting and repeating tensors: Concat, Split, Slice, Gather, Tile, Expand, Pad."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.export.tflite.folding import slices_of
from edgecnn.export.tflite.graph import Node
from edgecnn.export.tflite.lowering.context import Lowering, natural, permuted, without
from edgecnn.export.tflite.lowering.convolution import pad as emit_pad
from edgecnn.export.tflite.lowering.elementwise import common_layout
from edgecnn.export.tflite.model import Tensor
from edgecnn.export.tflite.problems import Unsupported

SAME_SCALE = "its input and output have different scales"


def _source(lower: Lowering, node: Node) -> Tensor:
    """The input, its axes in whatever order, in the scale of the output."""
    source = lower.tensor(node.data_input())
    if source.columns is not None:
        source = lower.rearrange(source, natural(len(source.shape)))
    return lower.requantize(source, node.output.quantization, SAME_SCALE) if source.quantization else source


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
            lower.note(f"{node.op} {node.name}: QUANTIZE added, {SAME_SCALE}")


def _same_scale(a: Tensor, b: Tensor) -> bool:
    if a.quantization is None or b.quantization is None:
        return a.quantization is b.quantization
    return a.quantization.same_as(b.quantization)


def slice_(lower: Lowering, node: Node) -> None:
    """Slice: SLICE, STRIDED_SLICE where it leaves elements out; axes that run backwards by GATHER."""
    arrays = [None, *(node.constant(i) for i in range(1, len(node.inputs)))]
    if arrays[1] is None or arrays[2] is None:
        raise Unsupported("its limits are computed, not constant")
    source = _source(lower, node)
    shape = node.data_input().shape
    index = slices_of(node.attributes, arrays, len(shape))
    limits = [index[axis].indices(shape[axis]) for axis in source.permutation]
    for axis, (start, stop, step) in enumerate(limits):
        if step < 0:
            source = take(lower, source, axis, np.arange(start, stop, step))
            limits[axis] = (0, source.shape[axis], 1)
    if source.shape == permuted(node.output.shape, source.permutation):
        lower.rename(node.output, source, source.permutation)
        return
    output = lower.result(node.output, source.permutation)
    begin, end, steps = (lower.vector(numbers) for numbers in zip(*limits, strict=True))
    if all(step == 1 for _, _, step in limits):
        lower.emit("SLICE", [source, begin, lower.vector(output.shape)], output)
    else:
        lower.emit("STRIDED_SLICE", [source, begin, end, steps], output)


def take(lower: Lowering, source: Tensor, axis: int, indices: NDArray[Any]) -> Tensor:
    """Some of the elements along an axis of the tensor's memory, in that order."""
    shape = (*source.shape[:axis], len(indices), *source.shape[axis + 1 :])
    taken = lower.temporary(source, shape=shape)
    lower.emit("GATHER", [source, lower.vector(indices)], taken, axis=axis)
    return taken


def gather(lower: Lowering, node: Node) -> None:
    """Gather with constant indices: GATHER for several, for one, as `x[:, 3]` is written, `_take_one`."""
    indices = node.constant(1)
    if indices is None or indices.ndim > 1:
        raise Unsupported("only one constant index, or a row of them, is converted")
    source = _source(lower, node)
    size = node.data_input().shape[node.attributes.get("axis", 0)]
    axis = source.permutation.index(node.attributes.get("axis", 0) % len(source.shape))
    if indices.size == 1:
        _take_one(lower, node, source, axis, int(indices.reshape(-1)[0]) % size, keep=indices.ndim == 1)
    else:
        taken = take(lower, source, axis, indices.astype(int) % size)
        lower.rename(node.output, taken, taken.permutation)


def _take_one(lower: Lowering, node: Node, source: Tensor, axis: int, index: int, *, keep: bool) -> None:
    """A SLICE, whose axis is then dropped or kept."""
    begin = [index if a == axis else 0 for a in range(len(source.shape))]
    part = lower.temporary(source, shape=(*source.shape[:axis], 1, *source.shape[axis + 1 :]))
    lower.emit("SLICE", [source, lower.vector(begin), lower.vector(part.shape)], part)
    if keep:
        lower.rename(node.output, part, part.permutation)
        return
    output = lower.result(node.output, without(source.permutation, [source.permutation[axis]]))
    lower.emit("RESHAPE", [part, lower.vector(output.shape)], output)


def tile(lower: Lowering, node: Node) -> None:
    """Tile by CONCATENATION, which every runtime knows for integers, too."""
    repeats = node.constant(1)
    if repeats is None:
        raise Unsupported("its repeats are computed, not constant")
    if np.any(repeats < 1):
        raise Unsupported("it repeats an axis no times: nothing would be left")
    source = _source(lower, node)
    for memory_axis, axis in enumerate(source.permutation):
        n = int(repeats.reshape(-1)[axis])
        if n > 1:
            shape = list(source.shape)
            shape[memory_axis] *= n
            tiled = lower.temporary(source, shape=tuple(shape))
            lower.emit("CONCATENATION", [source] * n, tiled, axis=memory_axis)
            source = tiled
    lower.rename(node.output, source, source.permutation)


def expand(lower: Lowering, node: Node) -> None:
    """Expand that arithmetic does not do by itself: BROADCAST_TO."""
    rank, source = len(node.output.shape), _source(lower, node)
    if len(source.shape) != rank:
        source = lower.rearrange(source, natural(len(source.shape)))
    permutation = source.permutation if len(source.shape) == rank else natural(rank)
    output = lower.result(node.output, permutation)
    lower.emit("BROADCAST_TO", [source, lower.vector(output.shape)], output)


def pad(lower: Lowering, node: Node) -> None:
    """Pad with a constant, by reflection, or with elements that GATHER repeats."""
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
    if mode in ("edge", "wrap"):
        for axis, pair in enumerate(pairs):
            if any(pair):
                source = take(lower, source, axis, np.pad(np.arange(source.shape[axis]), pair, mode=mode))
        lower.rename(node.output, source, source.permutation)
        return
    if mode != "constant":
        raise Unsupported(f"mode {mode} has no TFLite equivalent")
    fill = node.constant(2)
    number = float(fill.reshape(-1)[0]) if fill is not None and fill.size else 0.0
    padded = emit_pad(lower, source, pairs, number or None)
    lower.rename(node.output, padded, source.permutation)
