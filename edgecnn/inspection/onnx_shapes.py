"""Shapes of activations of an ONNX graph, in pure Python: what the operators of CNNs make of their inputs.

What the file states counts first. Open batch axes are taken as 1. Where a shape cannot be told it is None, and
so are shapes that depend on it; a node that contradicts itself has no known shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress

from edgecnn.inspection.ledger import LARGEST_RANK, Shape
from edgecnn.inspection.onnx_graph import Graph, Node
from edgecnn.inspection.onnx_values import LARGEST_AXIS, Known, known_sizes

_CONTRADICTIONS = (IndexError, KeyError, ValueError, TypeError, ArithmeticError)


def shapes_of(graph: Graph) -> dict[str, Shape]:
    """The shape of every value of the graph that can be told."""
    known = Known()
    for name, constant in graph.constants.items():
        known.shapes[name] = constant.shape
        if constant.numbers is not None:
            known.numbers[name] = constant.numbers
    for info in graph.inputs:
        if info.shape is not None and info.name:
            known.shapes[info.name] = _with_batch(info.shape)
    for node in graph.nodes:
        _add(known, graph, node)
    return known.shapes


def _add(known: Known, graph: Graph, node: Node) -> None:
    inferred: list[Shape] = []
    with suppress(*_CONTRADICTIONS):
        known.compute_numbers(node)
    with suppress(*_CONTRADICTIONS):
        rule = _RULES.get(node.op)
        inferred = rule(known, node) if rule else []
    for position, name in enumerate(node.outputs):
        stated = graph.stated[name].shape if name in graph.stated else None
        if stated is not None and None not in stated:
            known.shapes[name] = stated
        elif position < len(inferred) and _is_possible(inferred[position]):
            known.shapes[name] = inferred[position]
        elif stated is not None:
            known.shapes[name] = _with_batch(stated)


def _with_batch(shape: Shape) -> Shape:
    return (1, *shape[1:]) if shape and shape[0] is None else shape


def _is_possible(shape: Shape) -> bool:
    return len(shape) <= LARGEST_RANK and all(size is None or 0 <= size < LARGEST_AXIS for size in shape)


def _same(known: Known, node: Node) -> list[Shape]:
    return [known.shape(node, 0)]


def _broadcast(known: Known, node: Node) -> list[Shape]:
    shapes = [known.shapes[name] for name in node.inputs if name]
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    return [tuple(_common(axis) for axis in zip(*padded, strict=True))]


def _common(sizes: tuple[int | None, ...]) -> int | None:
    others = {size for size in sizes if size != 1}
    if len(others - {None}) > 1:
        raise ValueError("shapes do not broadcast")
    return next(iter(others - {None}), None if others else 1)


def _window(size: int | None, kernel: int, stride: int, dilation: int, pads: int, ceil: bool) -> int | None:
    """Places of a window along an axis; `pads` is the sum of both ends."""
    if size is None:
        return None
    room = size + pads - (dilation * (kernel - 1) + 1)
    return (-(-room // stride) if ceil else room // stride) + 1


def _spatial(known: Known, node: Node, kernel: list[int]) -> list[int | None]:
    """Sizes after a convolution or pooling."""
    sizes = known.shape(node, 0)[2:]
    rank = len(sizes)
    strides = node.numbers("strides") or [1] * rank
    dilations = node.numbers("dilations") or [1] * rank
    pads = node.numbers("pads") or [0] * (2 * rank)
    auto = node.text("auto_pad", "NOTSET")
    ceil = bool(node.number("ceil_mode", 0))
    found: list[int | None] = []
    for axis, size in enumerate(sizes):
        if auto.startswith("SAME"):
            found.append(None if size is None else -(-size // strides[axis]))
            continue
        both = 0 if auto == "VALID" else pads[axis] + pads[axis + rank]
        places = _window(size, kernel[axis], strides[axis], dilations[axis], both, ceil)
        # A window that would begin in the padding after the image is none.
        if ceil and size is not None and places is not None:
            places -= (places - 1) * strides[axis] >= size + pads[axis]
        found.append(places)
    return found


def _conv(known: Known, node: Node) -> list[Shape]:
    filters = known.shape(node, 3 if node.op == "QLinearConv" else 1)
    return [(known.shape(node, 0)[0], filters[0], *_spatial(known, node, list(known_sizes(filters[2:]))))]


def _conv_transpose(known: Known, node: Node) -> list[Shape]:
    batch, _, *sizes = known.shape(node, 0)
    filters, rank = known_sizes(known.shape(node, 1)), len(sizes)
    strides = node.numbers("strides") or [1] * rank
    dilations = node.numbers("dilations") or [1] * rank
    pads = node.numbers("pads") or [0] * (2 * rank)
    more = node.numbers("output_padding") or [0] * rank
    auto, asked = node.text("auto_pad", "NOTSET"), node.numbers("output_shape")
    found: list[int | None] = []
    for axis, size in enumerate(sizes):
        if asked:
            found.append(asked[axis - rank])
        elif size is None or auto.startswith("SAME"):
            found.append(None if size is None else size * strides[axis])
        else:
            full = strides[axis] * (size - 1) + more[axis] + dilations[axis] * (filters[2 + axis] - 1) + 1
            found.append(full - pads[axis] - pads[axis + rank])
    return [(batch, filters[1] * node.number("group", 1), *found)]


def _pool(known: Known, node: Node) -> list[Shape]:
    spatial = _spatial(known, node, node.numbers("kernel_shape") or [])
    return [(*known.shape(node, 0)[:2], *spatial)] * len(node.outputs)


def _global_pool(known: Known, node: Node) -> list[Shape]:
    shape = known.shape(node, 0)
    return [(*shape[:2], *(1 for _ in shape[2:]))]


def _gemm(known: Known, node: Node) -> list[Shape]:
    first, second = known.shape(node, 0), known.shape(node, 1)
    return [(first[node.number("transA", 0)], second[1 - node.number("transB", 0)])]


def _matmul(known: Known, node: Node) -> list[Shape]:
    first, second = known.shape(node, 0), known.shape(node, 3 if node.op == "QLinearMatMul" else 1)
    if len(first) < 2 or len(second) < 2:
        raise ValueError("a vector")
    rank = max(len(first), len(second)) - 2
    batches = [(1,) * (rank - len(shape) + 2) + shape[:-2] for shape in (first, second)]
    return [(*(_common(axis) for axis in zip(*batches, strict=True)), first[-2], second[-1])]


def _flatten(known: Known, node: Node) -> list[Shape]:
    shape, axis = known.shape(node, 0), node.number("axis", 1)
    axis += len(shape) if axis < 0 else 0
    return [(math.prod(known_sizes(shape[:axis])), math.prod(known_sizes(shape[axis:])))]


def _reshape(known: Known, node: Node) -> list[Shape]:
    wanted, shape = known.ints(node, 1, "shape") or [], known.shape(node, 0)
    keeps_zero = not node.number("allowzero", 0)
    sizes = [shape[axis] if not size and keeps_zero else size for axis, size in enumerate(wanted)]
    if -1 in sizes:
        others = math.prod(known_sizes(tuple(size for size in sizes if size != -1)))
        sizes[sizes.index(-1)] = math.prod(known_sizes(shape)) // others
    return [tuple(sizes)]


def _transpose(known: Known, node: Node) -> list[Shape]:
    shape = known.shape(node, 0)
    order = node.numbers("perm") or list(range(len(shape)))[::-1]
    if sorted(order) != list(range(len(shape))):
        raise ValueError("no permutation")
    return [tuple(shape[axis] for axis in order)]


def _concat(known: Known, node: Node) -> list[Shape]:
    shapes = [known.shapes[name] for name in node.inputs]
    axis = range(len(shapes[0]))[node.number("axis", 0)]
    total = sum(known_sizes(tuple(shape[axis] for shape in shapes)))
    return [(*shapes[0][:axis], total, *shapes[0][axis + 1 :])]


def _split(known: Known, node: Node) -> list[Shape]:
    shape, parts = known.shape(node, 0), len(node.outputs)
    axis = range(len(shape))[node.number("axis", 0)]
    (whole,) = known_sizes((shape[axis],))
    size = -(-whole // parts)
    sizes = known.ints(node, 1, "split") or [*([size] * (parts - 1)), whole - size * (parts - 1)]
    return [(*shape[:axis], one, *shape[axis + 1 :]) for one in sizes[:parts]]


def _slice(known: Known, node: Node) -> list[Shape]:
    shape = list(known.shape(node, 0))
    starts, ends = known.ints(node, 1, "starts") or [], known.ints(node, 2, "ends") or []
    axes = known.ints(node, 3, "axes") or list(range(len(starts)))
    steps = known.ints(node, 4) or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        (size,) = known_sizes((shape[axis],))
        shape[axis] = len(range(*slice(start, end if end >= -size or step > 0 else None, step).indices(size)))
    return [tuple(shape)]


def _squeeze(known: Known, node: Node) -> list[Shape]:
    shape, axes = known.shape(node, 0), known.ints(node, 1, "axes")
    if axes is None:
        return [tuple(size for size in shape if size != 1)]
    dropped = {range(len(shape))[axis] for axis in axes}
    return [tuple(size for axis, size in enumerate(shape) if axis not in dropped)]


def _unsqueeze(known: Known, node: Node) -> list[Shape]:
    shape, axes = list(known.shape(node, 0)), known.ints(node, 1, "axes") or []
    rank = len(shape) + len(axes)
    for axis in sorted(range(rank)[axis] for axis in axes):
        shape.insert(axis, 1)
    return [tuple(shape)]


def _pad(known: Known, node: Node) -> list[Shape]:
    shape, pads = known_sizes(known.shape(node, 0)), known.ints(node, 1, "pads") or []
    axes = [range(len(shape))[axis] for axis in known.ints(node, 3) or range(len(shape))]
    sizes = list(shape)
    for position, axis in enumerate(axes):
        sizes[axis] += pads[position] + pads[position + len(axes)]
    return [tuple(sizes)]


def _resize(known: Known, node: Node) -> list[Shape]:
    shape = known_sizes(known.shape(node, 0))
    if node.input(3) in known.numbers and known.numbers[node.input(3)]:
        return [tuple(known.ints(node, 3) or ())]
    scales = known.numbers[node.input(1 if node.op == "Upsample" else 2)]
    return [tuple(math.floor(size * scale) for size, scale in zip(shape, scales, strict=True))]


def _reduce(known: Known, node: Node) -> list[Shape]:
    shape, axes = known.shape(node, 0), known.ints(node, 1, "axes")
    reduced = {range(len(shape))[axis] for axis in axes} if axes else set(range(len(shape)))
    if node.number("keepdims", 1):
        return [tuple(1 if axis in reduced else size for axis, size in enumerate(shape))]
    return [tuple(size for axis, size in enumerate(shape) if axis not in reduced)]


def _gather(known: Known, node: Node) -> list[Shape]:
    shape = known.shape(node, 0)
    axis = range(len(shape))[node.number("axis", 0)]
    return [(*shape[:axis], *known.shape(node, 1), *shape[axis + 1 :])]


def _depth_to_space(known: Known, node: Node) -> list[Shape]:
    batch, channels, height, width = known_sizes(known.shape(node, 0))
    block = node.number("blocksize", 1)
    return [(batch, channels // block**2, height * block, width * block)]


def _space_to_depth(known: Known, node: Node) -> list[Shape]:
    batch, channels, height, width = known_sizes(known.shape(node, 0))
    block = node.number("blocksize", 1)
    return [(batch, channels * block**2, height // block, width // block)]


def _tile(known: Known, node: Node) -> list[Shape]:
    shape, repeats = known_sizes(known.shape(node, 0)), known.ints(node, 1) or []
    return [tuple(size * n for size, n in zip(shape, repeats, strict=True))]


def _expand(known: Known, node: Node) -> list[Shape]:
    shape, wanted = known.shape(node, 0), tuple(known.ints(node, 1) or ())
    rank = max(len(shape), len(wanted))
    padded = [(1,) * (rank - len(one)) + one for one in (shape, wanted)]
    return [tuple(_common(axis) for axis in zip(*padded, strict=True))]


def _arg_extreme(known: Known, node: Node) -> list[Shape]:
    shape = known.shape(node, 0)
    axis = range(len(shape))[node.number("axis", 0)]
    return [(*shape[:axis], *([1] if node.number("keepdims", 1) else []), *shape[axis + 1 :])]


def _constant_of_shape(known: Known, node: Node) -> list[Shape]:
    return [tuple(known.ints(node, 0) or ())]


def _shape_of(known: Known, node: Node) -> list[Shape]:
    return [(len(known.shape(node, 0)),)]


_ELEMENTWISE = """
    Relu LeakyRelu PRelu Elu Selu Celu Gelu Mish Sigmoid HardSigmoid HardSwish Tanh Softplus Softsign Erf Exp
    Log Sqrt Reciprocal Neg Abs Floor Ceil Round Sign Clip Softmax LogSoftmax BatchNormalization LRN Dropout
    Identity InstanceNormalization LayerNormalization GroupNormalization LpNormalization Cast QuantizeLinear
    DequantizeLinear ThresholdedRelu Not Sin Cos
"""
_BROADCASTING = """
    Add Sub Mul Div Pow Min Max Sum Mean Where Equal Less Greater LessOrEqual GreaterOrEqual And Or
"""
_REDUCING = """
    ReduceMean ReduceMax ReduceMin ReduceSum ReduceProd ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp
    ReduceSumSquare
"""

_RULES: dict[str, Callable[[Known, Node], list[Shape]]] = {
    **dict.fromkeys(_ELEMENTWISE.split(), _same),
    **dict.fromkeys(_BROADCASTING.split(), _broadcast),
    **dict.fromkeys(_REDUCING.split(), _reduce),
    **dict.fromkeys(["Conv", "QLinearConv", "ConvInteger", "FusedConv"], _conv),
    **dict.fromkeys(["MaxPool", "AveragePool", "LpPool"], _pool),
    **dict.fromkeys(["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"], _global_pool),
    **dict.fromkeys(["MatMul", "QLinearMatMul", "MatMulInteger"], _matmul),
    **dict.fromkeys(["Resize", "Upsample"], _resize),
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Pad": _pad,
    "Gather": _gather,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
    "Tile": _tile,
    "Expand": _expand,
    "ArgMax": _arg_extreme,
    "ArgMin": _arg_extreme,
    "Shape": _shape_of,
    "ConstantOfShape": _constant_of_shape,
}
