"""Rewrites of the graph that leave its results as they are: what does nothing goes, neighbours become one."""

from __future__ import annotations

import numpy as np

from edgecnn.export.tflite.batch_norm import fold_batch_norm
from edgecnn.export.tflite.graph import Graph, Node, Value
from edgecnn.export.tflite.widening import widen

# Operations whose TFLite operator applies an activation to its own result.
TAKES_ACTIVATION = frozenset(["Conv", "Gemm", "Add", "Sub", "Mul", "Div", "MaxPool", "AveragePool"])


def simplify(graph: Graph) -> None:
    """All rewrites, in the order in which each makes room for the next."""
    remove_identities(graph)
    matmul_to_gemm(graph)
    fold_batch_norm(graph)
    fuse_pads(graph)
    fuse_hard_swish(graph)
    fuse_activations(graph)
    widen(graph)
    graph.remove_dead()


def remove_identities(graph: Graph) -> None:
    """Identity, Dropout at inference, a cast to the type it has."""
    for node in list(graph.nodes):
        is_cast = node.op == "Cast" and node.data_input().dtype == node.output.dtype
        if node.op in ("Identity", "Dropout") or is_cast:
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


def clip_limits(node: Node) -> tuple[float, float]:
    """(min, max) of a Clip with constant limits, infinite where there is none."""
    return _limit(node.input(1), -np.inf), _limit(node.input(2), np.inf)


def _limit(value: Value | None, default: float) -> float:
    return default if value is None or not value.is_constant else float(value.numbers().reshape(-1)[0])


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


def fuse_hard_swish(graph: Graph) -> None:
    """x * HardSigmoid(x) with slope 1/6, and x * clip(x + 3, 0, 6) / 6 in either order, are HardSwish."""
    for node in list(graph.nodes):
        producers = graph.producers()
        source = _hard_swish_source(node, producers)
        if source is not None:
            node.op, node.inputs, node.attributes = "HardSwish", [source], {}
    graph.remove_dead()


def _hard_swish_source(node: Node, producers: dict[Value, Node]) -> Value | None:
    if node.op == "Mul":
        for x, gate in (node.inputs, node.inputs[::-1]):
            if x is not None and gate is not None and _is_hard_sigmoid_of(producers.get(gate), x, producers):
                return x
    divided = _sixth_of(node)
    product = producers.get(divided) if divided is not None else None
    if product is not None and product.op == "Mul":
        for x, gate in (product.inputs, product.inputs[::-1]):
            if x is not None and gate is not None and _is_relu6_of_shifted(producers.get(gate), x, producers):
                return x
    return None


def _is_hard_sigmoid_of(gate: Node | None, x: Value, producers: dict[Value, Node]) -> bool:
    if gate is None:
        return False
    if gate.op == "HardSigmoid":
        alpha, beta = gate.attributes.get("alpha", 0.2), gate.attributes.get("beta", 0.5)
        return gate.inputs[0] is x and abs(alpha - 1 / 6) < 1e-5 and abs(beta - 0.5) < 1e-6
    divided = _sixth_of(gate)
    return divided is not None and _is_relu6_of_shifted(producers.get(divided), x, producers)


def _sixth_of(node: Node) -> Value | None:
    """What the node takes a sixth of."""
    if node.op not in ("Mul", "Div") or len(node.inputs) != 2:
        return None
    factor = node.constant(1)
    wanted = 6.0 if node.op == "Div" else 1 / 6
    is_sixth = factor is not None and factor.size == 1 and abs(float(factor.reshape(-1)[0]) - wanted) < 1e-6
    return node.inputs[0] if is_sixth else None


def _is_relu6_of_shifted(node: Node | None, x: Value, producers: dict[Value, Node]) -> bool:
    if node is None or node.op != "Clip" or clip_limits(node) != (0.0, 6.0):
        return False
    add = producers.get(node.data_input())
    if add is None or add.op != "Add" or x not in add.inputs:
        return False
    shift = add.constant(1 - add.inputs.index(x))
    return shift is not None and shift.size == 1 and float(shift.reshape(-1)[0]) == 3.0


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
