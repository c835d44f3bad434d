"""The converter's view of an ONNX graph: a list of nodes over values whose shapes are all known."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from edgecnn.export.tflite.model import Quantization


@dataclass(eq=False)
class Value:
    """An edge of the graph: an activation, or a constant where `data` is set.

    `dtype` is that of the stored elements. With `quantization`, these are integers that stand for real
    numbers: whoever reads the value sees the real ones.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    data: NDArray[Any] | None = None
    quantization: Quantization | None = None

    @property
    def is_constant(self) -> bool:
        return self.data is not None

    def numbers(self) -> NDArray[Any]:
        """What the constant stands for: dequantized where it is quantized."""
        assert self.data is not None, self.name
        return self.quantization.dequantize(self.data) if self.quantization else self.data


@dataclass(eq=False)
class Node:
    """One operation. `inputs` holds None where an optional input is left out."""

    op: str
    inputs: list[Value | None]
    outputs: list[Value]
    attributes: dict[str, Any] = field(default_factory=dict)
    name: str = ""

    def input(self, index: int) -> Value | None:
        return self.inputs[index] if index < len(self.inputs) else None

    def data_input(self, index: int = 0) -> Value:
        """An input that the operation cannot be without."""
        value = self.inputs[index]
        assert value is not None, f"{self.op} {self.name} has no input {index}"
        return value

    def constant(self, index: int) -> NDArray[Any] | None:
        """The numbers of a constant input, None where it is left out or computed."""
        value = self.input(index)
        return value.numbers() if value is not None and value.is_constant else None

    @property
    def output(self) -> Value:
        return self.outputs[0]


@dataclass(eq=False)
class Graph:
    """Nodes in an order in which they can be computed. `problems` tell of nodes that could not be read."""

    nodes: list[Node]
    inputs: list[Value]
    outputs: list[Value]
    output_names: list[str]
    opset: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def producers(self) -> dict[Value, Node]:
        return {output: node for node in self.nodes for output in node.outputs}

    def consumers(self) -> defaultdict[Value, list[Node]]:
        """The nodes that read each value, once for every input that does."""
        users: defaultdict[Value, list[Node]] = defaultdict(list)
        for node in self.nodes:
            for value in node.inputs:
                if value is not None:
                    users[value].append(node)
        return users

    def sole_consumer(self, value: Value, users: dict[Value, list[Node]]) -> Node | None:
        """The one node that reads the value, None where several do or it leaves the graph."""
        readers = users.get(value, [])
        return readers[0] if len(readers) == 1 and value not in self.outputs else None

    def replace(self, old: Value, new: Value) -> None:
        """Lets everything that reads `old` read `new`."""
        for node in self.nodes:
            node.inputs = [new if value is old else value for value in node.inputs]
        self.outputs = [new if value is old else value for value in self.outputs]

    def remove_dead(self) -> None:
        """Drops the nodes that no output depends on."""
        needed = set(self.outputs)
        alive = []
        for node in reversed(self.nodes):
            if any(output in needed for output in node.outputs):
                alive.append(node)
                needed.update(value for value in node.inputs if value is not None)
        self.nodes = alive[::-1]
