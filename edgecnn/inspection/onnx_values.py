"""What is known of the values of an ONNX graph on the way through it: shapes, and small integers.

The integers are shapes that the graph computes for itself (Shape, Gather, Concat and then Reshape), as
exporters write them for a dynamic batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from edgecnn.inspection.ledger import LARGEST_RANK, Shape
from edgecnn.inspection.onnx_graph import Node

LARGEST_AXIS = 2**40
# No shape, padding or slice needs more numbers.
FEW = 2 * LARGEST_RANK

Numbers = tuple[Any, ...]


@dataclass(eq=False)
class Known:
    """Shapes by name of value, and the value itself where it is a small constant."""

    shapes: dict[str, Shape] = field(default_factory=dict)
    numbers: dict[str, Numbers] = field(default_factory=dict)

    def shape(self, node: Node, index: int) -> Shape:
        return self.shapes[node.inputs[index]]

    def ints(self, node: Node, index: int, attribute: str = "") -> list[int] | None:
        """Integers that are an attribute in old opsets and a constant input in new ones; None where absent."""
        listed = node.numbers(attribute) if attribute else None
        if listed is None:
            name = node.input(index)
            listed = [int(number) for number in self.numbers[name]] if name else None
        if listed is not None and len(listed) > FEW:
            raise ValueError("more numbers than any shape needs")
        return listed

    def compute_numbers(self, node: Node) -> None:
        """Notes what the node makes of small integers, where it is one that computes shapes."""
        rule = _RULES.get(node.op)
        found = rule(self, node) if rule and node.outputs else None
        if found is not None and len(found) <= FEW and all(abs(number) < LARGEST_AXIS for number in found):
            self.numbers[node.outputs[0]] = tuple(found)


def known_sizes(shape: Shape) -> tuple[int, ...]:
    """The sizes; raises ValueError where one is open."""
    sizes = tuple(size for size in shape if size is not None)
    if len(sizes) != len(shape):
        raise ValueError("an axis is open")
    return sizes


def _shape_numbers(known: Known, node: Node) -> Numbers:
    end = node.number("end", LARGEST_RANK)
    return known_sizes(known.shape(node, 0)[node.number("start", 0) : end])


def _gathered_numbers(known: Known, node: Node) -> Numbers | None:
    values, indices = known.numbers.get(node.input(0)), known.numbers.get(node.input(1))
    return tuple(values[int(i)] for i in indices) if values is not None and indices is not None else None


def _joined_numbers(known: Known, node: Node) -> Numbers | None:
    parts = [known.numbers.get(name) for name in node.inputs[:FEW]]
    found = [part for part in parts if part is not None]
    return sum(found, ()) if len(found) == len(node.inputs) else None


def _sliced_numbers(known: Known, node: Node) -> Numbers | None:
    values = known.numbers.get(node.input(0))
    starts, ends = known.ints(node, 1, "starts"), known.ints(node, 2, "ends")
    steps = known.ints(node, 4) or [1]
    if values is None or not starts or not ends or len(starts) != 1:
        return None
    return values[starts[0] : ends[0] : steps[0]]


def _same_numbers(known: Known, node: Node) -> Numbers | None:
    return known.numbers.get(node.input(0))


def _arithmetic(operation: Callable[[int, int], int]) -> Callable[[Known, Node], Numbers | None]:
    def compute(known: Known, node: Node) -> Numbers | None:
        first, second = known.numbers.get(node.input(0)), known.numbers.get(node.input(1))
        if first is None or second is None or 1 not in (len(first), len(second)):
            return None
        pairs = [(a, b) for a in first for b in second]
        return tuple(operation(int(a), int(b)) for a, b in pairs)

    return compute


_RULES: dict[str, Callable[[Known, Node], Numbers | None]] = {
    "Shape": _shape_numbers,
    "Gather": _gathered_numbers,
    "Concat": _joined_numbers,
    "Slice": _sliced_numbers,
    "Add": _arithmetic(lambda a, b: a + b),
    "Sub": _arithmetic(lambda a, b: a - b),
    "Mul": _arithmetic(lambda a, b: a * b),
    "Div": _arithmetic(lambda a, b: int(a / b)),
    **dict.fromkeys(["Identity", "Cast", "Squeeze", "Unsqueeze"], _same_numbers),
}
