"""Rewrites of the graph that leave its results as they are: what does nothing goes, neighbours become one."""

from __future__ import annotations

import numpy as np

from edgecnn.export.tflite.graph import Graph, Node, Value

# Operations whose TFLite operator applies an activation to its own result.
TAKES_ACTIVATION = frozenset(["Conv", "Gemm", "Add", "Sub", "Mul", "Div", "MaxPool", "AveragePool"])


def simplify(graph: Graph) -> None:
    """All rewrites, in the order in which each makes room for the next."""
    remove_identities(graph)
    matmul_to_gemm(graph)
    fuse_activations(graph)
    graph.remove_dead()


def remove_identities(graph: Graph) -> None:
    """Identity, Dropout at inference, a cast to the type it has."""
    for node in list(graph.nodes):
        is_cast = node.op == "Cast" and node.data_input().dtype == node.output.dtype
        if node.op in ("Identity", "Dropout") or is_cast:
            graph.replace(node.output, node.data_input())
            graph.nodes.remove(node)


def matmul_to_gemm(graph: Graph) -> None:
    """MatMul of a rank-2 value with constant weights, and the Add of a constant bias after it, are one
    Gemm.
    """
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
        return {(0.0, 6.0): "RELU6", (-1.0, 1.0): "RELU_N1_TO_1", (0.0, np.inf): "RELU"}.get(
            clip_limits(node)
        )
    return None


def clip_limits(node: Node) -> tuple[float, float]:
    """(min, max) of a Clip with constant limits, infinite where there is none."""
    return _limit(node.input(1), -np.inf), _limit(node.input(2), np.inf)


def _limit(value: Value | None, default: float) -> float:
    return default if value is None or not value.is_constant else float(value.numbers().reshape(-1)[0])
