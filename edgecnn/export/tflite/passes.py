"""Rewrites of the graph that leave its results as they are: what does nothing goes, neighbours become one."""

from __future__ import annotations

import numpy as np

from edgecnn.export.tflite.batch_norm import fold_batch_norm
from edgecnn.export.tflite.graph import Graph, Node, Value
from edgecnn.export.tflite.patterns import clip_limits, name_patterns
from edgecnn.export.tflite.widening import widen

# Operations that repeat the smaller of their operands.
BROADCASTING = frozenset(
    ["Add", "Sub", "Mul", "Div", "Where", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal"]
)
# Operations whose TFLite operator applies an activation to its own result.
TAKES_ACTIVATION = frozenset(["Conv", "Gemm", "Add", "Sub", "Mul", "Div", "MaxPool", "AveragePool"])


def simplify(graph: Graph) -> None:
    """All rewrites, in the order in which each makes room for the next."""
    remove_identities(graph)
    bypass_expands(graph)
    matmul_to_gemm(graph)
    fold_batch_norm(graph)
    fuse_pads(graph)
    name_patterns(graph)
    fuse_activations(graph)
    widen(graph)
    graph.remove_dead()


def remove_identities(graph: Graph) -> None:
    """Identity, Dropout at inference, a cast to the type it has, an expansion to the shape it has."""
    for node in list(graph.nodes):
        is_cast = node.op == "Cast" and node.data_input().dtype == node.output.dtype
        is_whole = node.op in ("Expand", "Tile") and node.data_input().shape == node.output.shape
        if node.op in ("Identity", "Dropout") or is_cast or is_whole:
            graph.replace(node.output, node.data_input())
            graph.nodes.remove(node)


def matmul_to_gemm(graph: Graph) -> None:
    """MatMul of a matrix with constant weights, and the Add of a constant bias after it, are one Gemm."""
    users = graph.consumers()
    for node in list(graph.nodes):
        weights = node.input(1)
        if node.op != "MatMul" or weights is None or not weights.is_constant:
            continue
        if len(node.data_input().shape) != 2 or len(weights.shape) != 2:
            continue
        node.op = "Gemm"
        add = graph.sole_consumer(node.output, users)
        if add is None or add.op != "Add" or add.output.shape != node.output.shape:
            continue
        bias = next((value for value in add.inputs if value is not node.output), None)
        if (
            bias is not None
            and bias.is_constant
            and bias.shape in ((node.output.shape[1],), (1, node.output.shape[1]))
        ):
            node.inputs.append(bias)
            graph.nodes.remove(node)
            graph.nodes[graph.nodes.index(add)] = node
            node.outputs = add.outputs


def fuse_activations(graph: Graph) -> None:
    """Relu and the clips that TFLite has as fused activations go into the operation before them."""
    for node in list(graph.nodes):
        activation = fusable_activation(node)
        if activation is None:
            continue
        producer = graph.producers().get(node.data_input())
        if producer is None or producer.op not in TAKES_ACTIVATION or "activation" in producer.attributes:
            continue
        if graph.sole_consumer(node.data_input(), graph.consumers()) is node:
            producer.attributes["activation"] = activation
            producer.outputs = node.outputs
            graph.nodes.remove(node)


def fusable_activation(node: Node) -> str | None:
    """The fused activation that the node is, None where it is none."""
    if node.op == "Relu":
        return "RELU"
    if node.op == "Clip":
        return {(0.0, 6.0): "RELU6", (-1.0, 1.0): "RELU_N1_TO_1", (0.0, np.inf): "RELU"}.get(clip_limits(node))
    return None


def bypass_expands(graph: Graph) -> None:
    """Arithmetic repeats the smaller operand by itself: an Expand before it is left out."""
    for node in list(graph.nodes):
        readers = graph.consumers()[node.output] if node.op == "Expand" else []
        if not readers or node.output in graph.outputs:
            continue
        if all(_broadcasts_without(reader, node) for reader in readers):
            graph.replace(node.output, node.data_input())
            graph.nodes.remove(node)


def _broadcasts_without(reader: Node, expand: Node) -> bool:
    """Whether the reader gives the same shape if what was expanded is not."""
    shapes = [value.shape for value in reader.inputs if value is not None and value is not expand.output]
    wanted = reader.output.shape
    return reader.op in BROADCASTING and np.broadcast_shapes(expand.data_input().shape, *shapes) == wanted


def fuse_pads(graph: Graph) -> None:
    """A Pad of zeros goes into the pads of the convolution that alone reads it."""
    for node in list(graph.nodes):
        pads = spatial_pads(node)
        conv = None if pads is None else graph.sole_consumer(node.output, graph.consumers())
        if pads is None or conv is None or conv.op != "Conv":
            continue
        if conv.attributes.get("auto_pad", "NOTSET") != "NOTSET":
            continue
        own = conv.attributes.get("pads", [0, 0, 0, 0])
        conv.attributes["pads"] = [a + b for a, b in zip(own, pads, strict=True)]
        conv.inputs[0] = node.inputs[0]
        graph.nodes.remove(node)


def spatial_pads(node: Node) -> list[int] | None:
    """[top, left, bottom, right] of a Pad of zeros around images, None for any other node."""
    pads, fill = (node.constant(1), node.constant(2)) if node.op == "Pad" else (None, None)
    if pads is None or pads.size != 8 or node.attributes.get("mode", "constant") != "constant":
        return None
    if (fill is not None and np.any(fill)) or np.any(pads < 0) or np.any(pads[[0, 1, 4, 5]]):
        return None
    return [int(pads[i]) for i in (2, 3, 6, 7)]


def drop_kept_axes(graph: Graph) -> None:
    """A mean over whole images, then flattened, gives rows at once. After quantization is absorbed."""
    for node in list(graph.nodes):
        if node.op not in ("GlobalAveragePool", "ReduceMean") or not node.attributes.get("keepdims", 1):
            continue
        shape = node.output.shape
        flatten = graph.sole_consumer(node.output, graph.consumers())
        if flatten is None or flatten.op not in ("Flatten", "Reshape", "Squeeze"):
            continue
        whole_images = len(shape) == 4 and shape[2:] == (1, 1) and node.data_input().shape[:2] == shape[:2]
        if whole_images and flatten.output.shape == shape[:2] and _same_numbers(node.output, flatten.output):
            axes = Value(f"{node.name}_axes", (2,), "int64", np.array([2, 3]))
            node.op, node.attributes = "ReduceMean", {"keepdims": 0}
            node.inputs, node.outputs = [node.inputs[0], axes], flatten.outputs
            graph.nodes.remove(flatten)


def _same_numbers(a: Value, b: Value) -> bool:
    if a.quantization is None or b.quantization is None:
        return a.quantization is b.quantization
    return a.quantization.same_as(b.quantization)
