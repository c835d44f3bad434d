"""What each layer's quantization costs: the float network with that layer alone quantized.

One layer at a time, not all but one: with the others in float32 what is measured is this layer's own doing, and
the layers can be ranked even where the whole quantized network is broken (H. Wu et al., "Integer quantization
for deep learning inference", 2020, section 5.2). Errors that add up or cancel between layers are not in it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgecnn import metrics
from edgecnn.analysis.matching import RESHAPING, MatchedTensor, MatchedWeights, match
from edgecnn.analysis.quantization import outputs_of
from edgecnn.records import LayerSensitivity

# In float32 a probability of 0 is one that was rounded away.
_LEAST_PROBABILITY = 1e-12


def layer_sensitivity(
    float_model: onnx.ModelProto,
    qdq_model: onnx.ModelProto,
    inputs: NDArray[Any],
    labels: NDArray[Any] | None,
) -> tuple[LayerSensitivity, ...]:
    """Every layer with quantized weights, the most sensitive first: its weights, and what it reads, in the
    integers of `qdq_model`, all else in the float32 of `float_model`.

    `inputs`: preprocessed float32 [n, channels, height, width]; `labels` [n], or None where there are none.
    """
    matching = match(float_model.graph, qdq_model.graph)
    read = {tensor.float_name: tensor for tensor in matching.activations}
    exact = outputs_of(float_model, inputs)
    found = []
    for weights in matching.weights:
        changed = outputs_of(_with_quantized(float_model, weights, read), inputs)
        equal = float(np.mean(metrics.top1(exact) == metrics.top1(changed)))
        drop = None
        if labels is not None:
            right, still_right = (metrics.accuracy(metrics.top1(one), labels) for one in (exact, changed))
            drop = right - still_right
        divergence = _divergence(exact, changed, _gives_probabilities(float_model))
        found.append(
            LayerSensitivity(
                layer=weights.layer,
                divergence=divergence,
                top1_equal=equal,
                accuracy_drop=drop,
                n_images=len(inputs),
            )
        )
    return tuple(sorted(found, key=lambda one: -one.divergence))


def _with_quantized(
    model: onnx.ModelProto, weights: MatchedWeights, read: dict[str, MatchedTensor]
) -> onnx.ModelProto:
    """A copy of the float `model` in which one layer computes with quantized weights and inputs."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    for tensor in graph.initializer:
        if tensor.name == weights.tensor:
            tensor.CopyFrom(numpy_helper.from_array(weights.dequantized.astype(np.float32), tensor.name))
    makers = {name: node for node in graph.node for name in node.output}
    for place, node in reversed(list(enumerate(graph.node))):
        if weights.tensor not in node.input:
            continue
        source = node.input[0]
        while source not in read and source in makers and makers[source].op_type in RESHAPING:
            source = makers[source].input[0]
        if source in read:
            _round_input(graph, place, read[source])
    return changed


def _round_input(graph: onnx.GraphProto, place: int, tensor: MatchedTensor) -> None:
    """Puts a pair of QuantizeLinear and DequantizeLinear before the first input of the node at `place`."""
    node, prefix = graph.node[place], f"rounded.{place}"
    dtype = np.int8 if tensor.limits[0] < 0 else np.uint8
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(tensor.scale, np.float32), f"{prefix}.scale"),
            numpy_helper.from_array(np.array(tensor.zero_point, dtype), f"{prefix}.zero"),
        ]
    )
    constants = [f"{prefix}.scale", f"{prefix}.zero"]
    pair = [
        helper.make_node("QuantizeLinear", [node.input[0], *constants], [f"{prefix}.q"]),
        helper.make_node("DequantizeLinear", [f"{prefix}.q", *constants], [prefix]),
    ]
    node.input[0] = prefix
    for one in reversed(pair):
        graph.node.insert(place, one)


def _gives_probabilities(model: onnx.ModelProto) -> bool:
    last = [node.op_type for node in model.graph.node if model.graph.output[0].name in node.output]
    return last == ["Softmax"]


def _divergence(exact: NDArray[Any], changed: NDArray[Any], are_probabilities: bool) -> float:
    """Mean Kullback-Leibler divergence KL(exact || changed) of the class probabilities, in nats."""
    first, second = (_probabilities(one, are_probabilities) for one in (exact, changed))
    return max(0.0, float(np.mean(np.sum(first * (np.log(first) - np.log(second)), axis=1))))


def _probabilities(outputs: NDArray[Any], are_probabilities: bool) -> NDArray[Any]:
    values = outputs.reshape(len(outputs), -1).astype(np.float64)
    if not are_probabilities:
        values = np.exp(values - values.max(axis=1, keepdims=True))
        values /= values.sum(axis=1, keepdims=True)
    return np.maximum(values, _LEAST_PROBABILITY)
