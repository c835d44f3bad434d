"""From a quantized network and a recipe's `qat` step to the network that is trained."""

from __future__ import annotations

import onnx

from edgecnn.analysis.matching import match
from edgecnn.compress.qat.granularity import per_tensor
from edgecnn.compress.qat.graph import read_graph
from edgecnn.compress.qat.network import QatNetwork
from edgecnn.errors import QuantizationError
from edgecnn.recipe.steps import QatSpec


def prepare(
    original: onnx.ModelProto, quantized: onnx.ModelProto, spec: QatSpec
) -> tuple[onnx.ModelProto, QatNetwork]:
    """The QDQ graph that is trained, and its network. `quantized` is what the float model `original` became.

    Raises QuantizationError for a graph that cannot be trained quantized, and for a layer that it lacks.
    """
    model = per_tensor(quantized) if spec.granularity == "per_tensor" else quantized
    in_8_bits = _weights_of(original, model, spec.int8_layers) if spec.int8_layers else frozenset()
    bits = int(spec.weights.removeprefix("int"))
    return model, QatNetwork(read_graph(model), weight_bits=bits, in_8_bits=in_8_bits)


def _weights_of(
    original: onnx.ModelProto, quantized: onnx.ModelProto, layers: tuple[str, ...]
) -> frozenset[str]:
    """The names of the weights of `layers` in the QDQ graph, whose own names say nothing of layers."""
    read_by = {node.output[0]: node.input[1] for node in quantized.graph.node if len(node.input) > 1}
    found = {one.layer: read_by[one.qdq_output] for one in match(original.graph, quantized.graph).layers}
    unknown = [layer for layer in layers if layer not in found]
    if unknown:
        raise QuantizationError(
            f"int8_layers: no layer is named {', '.join(unknown)}",
            fix=f"the layers of the network are {', '.join(found)}",
        )
    return frozenset(found[layer] for layer in layers)
