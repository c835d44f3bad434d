"""Operations that exporters spell out in simpler ones, found and called by their name again."""

from __future__ import annotations

import numpy as np

from edgecnn.export.tflite.graph import Graph, Node, Value


def name_patterns(graph: Graph) -> None:
    """All of them, in place."""
    name_gather(graph)
    name_hard_swish(graph)
    name_gelu(graph)
    name_pixel_unshuffle(graph)


def clip_limits(node: Node) -> tuple[float, float]:
    """(min, max) of a Clip with constant limits, infinite where there is none."""
    return _limit(node.input(1), -np.inf), _limit(node.input(2), np.inf)


def _limit(value: Value | None, default: float) -> float:
    return default if value is None or not value.is_constant else float(value.numbers().reshape(-1)[0])


def name_gather(graph: Graph) -> None:
    """GatherND of whole rows by constant numbers, as torch writes `x[:, [2, 0, 5]]`, is a Gather."""
    for node in graph.nodes:
        indices = node.constant(1) if node.op == "GatherND" else None
        if indices is None or indices.ndim != 2 or indices.shape[1] != 1 or node.attributes.get("batch_dims"):
            continue
        rows = Value(f"{node.name}_rows", (len(indices),), "int64", indices.reshape(-1))
        node.op, node.inputs, node.attributes = "Gather", [node.inputs[0], rows], {"axis": 0}


def name_hard_swish(graph: Graph) -> None:
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


def name_gelu(graph: Graph) -> None:
    """x * 0.5 * (1 + erf(x / sqrt(2))), its factors in any order, is Gelu."""
    for node in list(graph.nodes):
        source = _gelu_source(node, graph.producers())
        if source is not None:
            node.op, node.inputs, node.attributes = "Gelu", [source], {}
    graph.remove_dead()


def _gelu_source(node: Node, producers: dict[Value, Node]) -> Value | None:
    factors = _factors(node, producers) if node.op == "Mul" else []
    halves = [value for value in factors if value.is_constant and _is_number(value, 0.5)]
    bells = [value for value in factors if _erf_argument(producers.get(value), producers) is not None]
    if len(factors) != 3 or len(halves) != 1 or len(bells) != 1:
        return None
    (x,) = (value for value in factors if value not in (halves[0], bells[0]))
    scaled = producers.get(_erf_argument(producers.get(bells[0]), producers) or x)
    if scaled is None or scaled.op not in ("Mul", "Div") or scaled.inputs[0] is not x:
        return None
    root = np.sqrt(2) if scaled.op == "Div" else np.sqrt(0.5)
    return x if _is_number(scaled.data_input(1), root) else None


def _factors(node: Node, producers: dict[Value, Node]) -> list[Value]:
    """What the node multiplies, products among it taken apart once."""
    found: list[Value] = []
    for i in (0, 1):
        value = node.data_input(i)
        inner = producers.get(value)
        found += [inner.data_input(j) for j in (0, 1)] if inner is not None and inner.op == "Mul" else [value]
    return found


def _erf_argument(node: Node | None, producers: dict[Value, Node]) -> Value | None:
    """z where the node is 1 + erf(z)."""
    if node is None or node.op != "Add":
        return None
    for i in (0, 1):
        erf = producers.get(node.data_input(i))
        if erf is not None and erf.op == "Erf" and _is_number(node.data_input(1 - i), 1.0):
            return erf.data_input()
    return None


def _is_number(value: Value, number: float) -> bool:
    """Whether the value is that constant, in float32."""
    return value.is_constant and value.numbers().size == 1 and np.isclose(value.numbers().item(), number)


def name_pixel_unshuffle(graph: Graph) -> None:
    """Reshape, Transpose, Reshape, as torch writes PixelUnshuffle, is SpaceToDepth in CRD order.

    A TRANSPOSE of 6 axes is slow, and the microcontroller runtime has none.
    """
    users = graph.consumers()
    for split in list(graph.nodes):
        transpose = graph.sole_consumer(split.output, users) if split.op == "Reshape" else None
        merge = None if transpose is None else graph.sole_consumer(transpose.output, users)
        if merge is None or merge.op != "Reshape" or transpose is None or transpose.op != "Transpose":
            continue
        before, cut, after = split.data_input().shape, split.output.shape, merge.output.shape
        if len(before) != 4 or len(cut) != 6 or transpose.attributes.get("perm") != [0, 1, 3, 5, 2, 4]:
            continue
        n, channels, height, block, width, other = cut
        is_square = block == other and before == (n, channels, height * block, width * block)
        if is_square and after == (n, channels * block**2, height, width):
            merge.op, merge.inputs = "SpaceToDepth", [split.inputs[0]]
            merge.attributes = {"blocksize": block, "mode": "CRD"}
            graph.nodes.remove(transpose)
            graph.nodes.remove(split)
