"""From a quantized network and a recipe's `qat` step to the network that is trained."""

from __future__ import annotations

import onnx

from edgecnn.analysis.matching import match
from edgecnn.compress.qat.granularity import per_tensor
from edgecnn.compress.qat.graph import Graph, Operation, QuantizedConstant, read_graph
from edgecnn.compress.qat.network import QatNetwork
from edgecnn.errors import QuantizationError
from edgecnn.recipe.steps import QatSpec


def prepare(
    original: onnx.ModelProto, quantized: onnx.ModelProto, spec: QatSpec
) -> tuple[onnx.ModelProto, QatNetwork]:
    """The QDQ graph that is trained, and its network. `quantized` is what the float model `original` became.

    With 4 bits, what a .tflite file has no 4 bits for is trained in 8: weights of depthwise convolutions, and
    those of dense layers with a scale for each output.
    Raises QuantizationError for a graph that cannot be trained quantized, and for a layer that it lacks.
    """
    model = per_tensor(quantized) if spec.granularity == "per_tensor" else quantized
    named = _weights_of(original, model, spec.int8_layers) if spec.int8_layers else frozenset()
    graph = read_graph(model)
    bits = int(spec.weights.removeprefix("int"))
    return model, QatNetwork(graph, weight_bits=bits, in_8_bits=named | _without_4_bits(graph))


def _without_4_bits(graph: Graph) -> frozenset[str]:
    """The names of the weights that the .tflite file of `graph` holds in 8 bits in any case."""
    layers = [step for step in graph.steps if isinstance(step, Operation) and step.inputs[1:2]]
    return frozenset(
        step.inputs[1]
        for step in layers
        if step.inputs[1] in graph.weights
        and (
            (step.kind == "Conv" and _is_depthwise(step, graph.weights[step.inputs[1]]))
            or (step.kind in ("Gemm", "MatMul") and graph.weights[step.inputs[1]].axis is not None)
        )
    )


def _is_depthwise(convolution: Operation, weights: QuantizedConstant) -> bool:
    return convolution.attributes.get("group", 1) > 1 and weights.values.shape[1] == 1


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
