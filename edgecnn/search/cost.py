"""What a network of any widths would cost, exactly, in milliseconds: without building, training, exporting it.

The tensors of a network grow in proportion to its layers: each of their dimensions is a fixed number plus a
multiple of some layers' widths (behind a flatten: of the pixels; behind a concat: of several layers). The
multiples come from exporting the network once as it is, and once for each layer with that layer narrower.
After that the graph for any widths is the same nodes with tensors of other shapes, which the converter
writes as the file whose bytes count.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from edgecnn import files
from edgecnn.export.cost import count
from edgecnn.export.tflite import convert
from edgecnn.search.candidates import Widths


class ScalableGraph:
    """An ONNX graph for any widths. What its tensors hold means nothing; their shapes and types do.

    `build` gives the graph for some widths; `narrowed` are `widths` with one layer made narrower, for each
    layer. Raises ValueError where the graphs differ in more than shapes.
    """

    def __init__(self, build: Callable[[Widths], onnx.ModelProto], widths: Widths, narrowed: Sequence[Widths]):
        self._widths = np.array(widths)
        self._model = build(widths)
        others = [build(other) for other in narrowed]
        removed = [int(self._widths[k] - other[k]) for k, other in enumerate(narrowed)]
        if any(_operators(other) != _operators(self._model) for other in others):
            raise ValueError("the graph of other widths has other operators")
        self._constants = _constants(self._model)
        at_other_widths = [_constants(other) for other in others]
        self._shapes, self._values = {}, {}
        for use, base in self._constants.items():
            tensors = [constants[use] for constants in at_other_widths]
            shapes = [np.array(tensor.shape, np.int64) for tensor in tensors]
            self._shapes[use] = _slopes(np.array(base.shape, np.int64), shapes, removed)
            # The shape that a reshape asks for.
            if base.dtype == np.int64:
                self._values[use] = _slopes(base, tensors, removed)

    def resized(self, widths: Widths) -> onnx.ModelProto:
        """The graph for `widths`."""
        wider = np.array(widths) - self._widths
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        del model.graph.initializer[:]
        for (position, argument), base in self._constants.items():
            use, name = (position, argument), f"{position}.{argument}"
            values = base + self._values[use] @ wider if use in self._values else base
            shape = tuple(int(size) for size in np.array(base.shape, np.int64) + self._shapes[use] @ wider)
            # Values over again: equal scales stay equal, as they do in a real file.
            tensor = np.resize(values, shape).astype(base.dtype)
            model.graph.initializer.append(numpy_helper.from_array(tensor, name))
            model.graph.node[position].input[argument] = name
        return model


def _operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def _constants(model: onnx.ModelProto) -> dict[tuple[int, int], NDArray[Any]]:
    """Every constant by where it is used: (position of the node, of its argument). Graphs of other widths
    share other constants, and name them otherwise.
    """
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return {
        (position, argument): tensors[name]
        for position, node in enumerate(model.graph.node)
        for argument, name in enumerate(node.input)
        if name in tensors
    }


def _slopes(base: NDArray[Any], narrow: list[NDArray[Any]], removed: list[int]) -> NDArray[Any]:
    """How each value of `base` grows with each layer: int [*base.shape, layers]."""
    columns = [(base - one) // n for one, n in zip(narrow, removed, strict=True)]
    if any(np.any(column * n != base - one) for column, one, n in zip(columns, narrow, removed, strict=True)):
        raise ValueError("a dimension of the graph does not grow evenly with a layer's width")
    return np.stack(columns, axis=-1)


class Cost:
    """The cost of widths by `measure` of the resized graph; each is worked out once. With `kept`, a file, also
    over all runs that keep their costs there: what is timed is never twice the same.
    """

    def __init__(
        self, graph: ScalableGraph, measure: Callable[[onnx.ModelProto], float], kept: Path | None = None
    ) -> None:
        self._graph, self._measure, self._kept = graph, measure, kept
        found = json.loads(kept.read_text(encoding="utf-8")) if kept and kept.exists() else []
        self._known: dict[Widths, float] = {tuple(widths): cost for widths, cost in found}

    def __call__(self, widths: Widths) -> float:
        if widths not in self._known:
            self._known[widths] = self._measure(self._graph.resized(widths))
            if self._kept:
                files.write_text(self._kept, json.dumps(list(self._known.items())))
        return self._known[widths]


def tflite(model: onnx.ModelProto, *, weights: str = "as-is") -> bytes:
    """The .tflite file of a float or QDQ model, as the converter writes it."""
    return convert(model, weights=weights, unit_scales=True).data


def macs(model: onnx.ModelProto) -> int:
    """Multiply-accumulates of one inference of a float model."""
    return count(model).n_macs


def narrowed(widths: Widths, step: int) -> Iterator[Widths]:
    """`widths` with one layer narrower by `step`, or wider where it has no more than that; for each layer."""
    for k, width in enumerate(widths):
        yield (*widths[:k], width - step if width > step else width + step, *widths[k + 1 :])
