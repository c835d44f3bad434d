"""The constants of an ONNX model: replaced node by node, and each of them written once."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

INT32 = np.iinfo(np.int32)


class Constants:
    """The initializers of a model, so that one which several nodes shared can become one for each."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = model.graph
        self.arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        self.made_by = {name: node for node in model.graph.node for name in node.output}

    def set(self, name: str, array: NDArray[Any] | np.generic) -> None:
        self.arrays[name] = np.asarray(array)

    def own(self, node: onnx.NodeProto, index: int, array: NDArray[Any]) -> None:
        """`array` as a constant that only input `index` of `node` reads."""
        name = f"{node.output[0]}/{index}"
        while name in self.arrays:  # Which another node may read.
            name += "'"
        self.arrays[name] = np.asarray(array)
        node.input[index] = name

    def requantize(self, name: str, integers: NDArray[Any], scale: NDArray[Any] | np.generic) -> None:
        """`integers` and their `scale`, [channels] or of no dimension, as what the DequantizeLinear of tensor
        `name` reads.
        """
        node = self.made_by[name]
        self.own(node, 0, integers)
        self.own(node, 1, np.asarray(scale, np.float32))
        if len(node.input) > 2:
            self.own(node, 2, np.zeros(np.shape(scale), self.arrays[node.input[2]].dtype))
        if np.ndim(scale) == 0:
            kept = [attribute for attribute in node.attribute if attribute.name != "axis"]
            del node.attribute[:]
            node.attribute.extend(kept)

    def write(self) -> None:
        del self._graph.initializer[:]
        self._graph.initializer.extend(numpy_helper.from_array(a, name) for name, a in self.arrays.items())


def bias_integers(values: NDArray[Any], scale: Any) -> NDArray[np.int32]:
    """A bias in whole steps of `scale`, float32 [channels] or one number, as 32 bits hold them."""
    steps: NDArray[Any] = np.rint(values.astype(np.float64) / scale)
    return np.clip(steps, INT32.min, INT32.max).astype(np.int32)


def share_constants(model: onnx.ModelProto) -> None:
    """Every constant once: equal type, shape and bytes become one initializer; unused ones go. In place."""
    graph = model.graph
    used = {name for node in graph.node for name in node.input}
    first_of: dict[tuple[int, tuple[int, ...], bytes], str] = {}
    renamed: dict[str, str] = {}
    kept = []
    for tensor in graph.initializer:
        if tensor.name not in used:
            continue
        array = numpy_helper.to_array(tensor)
        key = (tensor.data_type, tuple(tensor.dims), array.tobytes())
        if key in first_of:
            renamed[tensor.name] = first_of[key]
        else:
            first_of[key] = tensor.name
            kept.append(numpy_helper.from_array(array, tensor.name))
    del graph.initializer[:]
    graph.initializer.extend(kept)
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
