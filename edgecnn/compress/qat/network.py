"""A QDQ graph as a torch module, with every rounding of the graph in it."""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np
import torch
from torch import nn

from edgecnn.compress.qat.graph import Graph, Operation, QuantizedConstant, Rounding
from edgecnn.compress.qat.operators import OPERATORS, require_known
from edgecnn.compress.qat.rounding import LearnedScale, fake_quantize, round_through, scaled_gradient
from edgecnn.export.onnx_constants import INT32


class QatNetwork(nn.Module):
    """float32 [n, c, h, w] in, logits [n, classes] out, computed as the integer files will.

    `weight_bits` is 8 or 4, `in_8_bits` are the names of weights that have 8 in any case; weights are
    symmetric, with as many scales as the graph has. Parameters are the float weights and biases and the scales
    of weights and activations; zero points stay. Raises QuantizationError for a graph with operators that are
    not in OPERATORS.
    """

    def __init__(self, graph: Graph, weight_bits: int = 8, in_8_bits: Collection[str] = ()) -> None:
        super().__init__()
        require_known(step.kind for step in graph.steps if isinstance(step, Operation))
        self.graph = graph
        self.largest = {
            name: 2 ** ((8 if name in in_8_bits else weight_bits) - 1) - 1 for name in graph.weights
        }
        self.weights = nn.ParameterDict(
            {key_of(name): nn.Parameter(torch.tensor(one.values)) for name, one in graph.weights.items()}
        )
        self.biases = nn.ParameterDict(
            {key_of(name): nn.Parameter(torch.tensor(one.values)) for name, one in graph.biases.items()}
        )
        least = scales_for_biases(graph)
        self.weight_scales = nn.ModuleDict(
            {
                key_of(name): LearnedScale(first_scale(one, self.largest[name]).clamp(min=least[name]))
                for name, one in graph.weights.items()
            }
        )
        self.scales = nn.ModuleDict(
            {key_of(name): LearnedScale(torch.tensor(scale)) for name, scale in graph.scales.items()}
        )
        for name, array in graph.constants.items():
            self.register_buffer(key_of(name), torch.tensor(array))

    def forward(self, images_nchw: torch.Tensor) -> torch.Tensor:
        values = {self.graph.input: images_nchw}
        for step in self.graph.steps:
            if isinstance(step, Rounding):
                values[step.result] = self._rounded(values[step.source], step)
            else:
                inputs = [self._value(name, values) for name in step.inputs if name]
                if len(step.inputs) > 2 and step.inputs[2] in self.graph.biases:
                    inputs[2] = self._rounded_bias(step)
                values[step.output] = OPERATORS[step.kind](inputs, step.attributes)
        return values[self.graph.output]

    def _rounded(self, values: torch.Tensor, step: Rounding) -> torch.Tensor:
        # The factor keeps the steps of scales and of weights in proportion, whatever the size of the tensor
        # ("Learned step size quantization", section 2.2).
        factor = 1 / math.sqrt(values[0].numel() * step.high)
        scale = scaled_gradient(self.scales[key_of(step.scale)](), factor)
        return fake_quantize(values, scale, step.zero_point, step.low, step.high)

    def _value(self, name: str, values: dict[str, torch.Tensor]) -> torch.Tensor:
        if name in values:
            return values[name]
        if name in self.graph.weights:
            return self.quantized_weight(name)
        return self.biases[key_of(name)] if name in self.graph.biases else self.get_buffer(key_of(name))

    def _rounded_bias(self, step: Operation) -> torch.Tensor:
        """The bias of a layer in whole steps of input scale x weight scale, as the files hold it."""
        source, weight, bias = step.inputs[:3]
        input_scale = self.scales[key_of(self.graph.scale_of[source])]().detach()
        scale = input_scale * self.weight_scales[key_of(weight)]().detach()
        steps = (self.biases[key_of(bias)] / scale).clamp(INT32.min, INT32.max)
        result: torch.Tensor = round_through(steps) * scale
        return result

    def quantized_weight(self, name: str) -> torch.Tensor:
        """The weights `name` in whole steps of their scales."""
        constant, weight = self.graph.weights[name], self.weights[key_of(name)]
        largest = self.largest[name]
        factor = 1 / math.sqrt(weight.numel() / len(constant.scales) * largest)
        scale = scaled_gradient(self.weight_scales[key_of(name)](), factor)
        shape = [-1 if constant.axis == k else 1 for k in range(weight.ndim)]
        return fake_quantize(weight, scale.reshape(shape), 0, -largest, largest)


def first_scale(constant: QuantizedConstant, largest: int) -> torch.Tensor:
    """The scales to begin with where weights are whole steps from -`largest` to `largest`: those of the graph
    for 8 bits; for fewer, those with the smallest squared error, by trying.
    """
    if largest == 127:
        return torch.tensor(constant.scales)
    values = torch.tensor(constant.values)
    rows = values.movedim(constant.axis, 0).flatten(1) if constant.axis is not None else values.reshape(1, -1)
    top = rows.abs().amax(dim=1, keepdim=True).clamp(min=1e-8) / largest
    shares = torch.linspace(0.4, 1.0, 25)
    errors = torch.stack(
        [(fake_quantize(rows, top * s, 0, -largest, largest) - rows).square().sum(1) for s in shares]
    )
    result: torch.Tensor = top[:, 0] * shares[errors.argmin(dim=0)]
    return result


def scales_for_biases(graph: Graph) -> dict[str, torch.Tensor]:
    """The scales of weights below which 32 bits do not hold the bias, twice over: scales shrink in training.

    A bias is in steps of input scale x weight scale; a channel with hardly any weights may have a large one.
    """
    least = {name: np.zeros(len(one.scales), np.float32) for name, one in graph.weights.items()}
    for step in graph.steps:
        source, weight, bias = (*step.inputs, "", "", "")[:3] if isinstance(step, Operation) else ("", "", "")
        if bias in graph.biases and weight in least:
            input_scale = graph.scales[graph.scale_of[source]]
            needed = 2 * np.abs(graph.biases[bias].values) / (input_scale * INT32.max)
            per_channel = len(least[weight]) == len(needed)
            least[weight] = np.maximum(least[weight], needed if per_channel else needed.max()).astype(
                np.float32
            )
    return {name: torch.tensor(scales) for name, scales in least.items()}


def key_of(name: str) -> str:
    """torch wants no dots in the names of parameters, and none that a module has already."""
    return "_" + name.replace(".", "-dot-")
