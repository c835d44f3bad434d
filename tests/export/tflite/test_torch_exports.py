"""Layers as torch writes them, by both of its exporters: what networks are made of beside convolutions."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable
from functools import cache

import onnx
import pytest
import torch
from export.tflite.agreement import assert_agrees
from export.tflite.running import operators
from torch import Tensor, nn
from torch.nn import functional


class Lambda(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def of(function: Callable[[Tensor], Tensor]) -> nn.Module:
    return Lambda(function)


# Each takes [1, 8, 8, 8].
LAYERS: dict[str, nn.Module] = {
    "gelu": nn.GELU(),
    "gelu_tanh": nn.GELU("tanh"),
    "mish": nn.Mish(),
    "softplus": nn.Softplus(),
    "selu": nn.SELU(),
    "celu": nn.CELU(0.5),
    "pixel_shuffle": nn.Sequential(nn.Conv2d(8, 8, 1), nn.PixelShuffle(2)),
    "pixel_unshuffle": nn.PixelUnshuffle(2),
    "layer_norm": nn.LayerNorm([8, 8]),
    "group_norm": nn.GroupNorm(2, 8),
    "instance_norm": nn.InstanceNorm2d(8, affine=True),
    "depthwise_transposed": nn.ConvTranspose2d(8, 8, 4, 2, 1, groups=8),
    "dilated_transposed": nn.ConvTranspose2d(8, 4, 3, dilation=2),
    "replication_pad": nn.ReplicationPad2d(1),
    "circular_conv": nn.Conv2d(8, 4, 3, padding=1, padding_mode="circular"),
    "expand": of(lambda x: x.mean((2, 3), keepdim=True).expand(-1, -1, 5, 5)),
    "repeat": of(lambda x: x.repeat(1, 2, 1, 3)),
    "flip": of(lambda x: x.flip(3)),
    "index": of(lambda x: x[:, [2, 0, 5]]),
    "where": of(lambda x: torch.where(x > 0, x, x * 0.5)),
    "masked_fill": of(lambda x: x.masked_fill(x < 0, 0.5)),
    "hard_shrink": nn.Hardshrink(),
    "soft_shrink": nn.Softshrink(),
    "l2_normalize": of(lambda x: functional.normalize(x, dim=1)),
    "squares": of(lambda x: (x**2).sum((2, 3))),
    "smallest": of(lambda x: x.amin((2, 3))),
    "attention": of(lambda x: (x.flatten(2) @ x.flatten(2).transpose(1, 2)).softmax(-1)),
    "arg_max": of(lambda x: x.argmax(1).float()),
}


@cache
def exported(name: str, dynamo: bool) -> onnx.ModelProto:
    torch.manual_seed(0)
    layer, image = LAYERS[name].eval(), torch.randn(1, 8, 8, 8)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            if dynamo:
                return torch.onnx.export(layer, (image,), dynamo=True, verbose=False).model_proto
            buffer = io.BytesIO()
            torch.onnx.export(layer, (image,), buffer, dynamo=False, opset_version=17)
            return onnx.load_from_string(buffer.getvalue())
        finally:
            logging.disable(logging.NOTSET)


@pytest.mark.parametrize("runtime", ["litert", "tflite-runtime", "tflm"])
@pytest.mark.parametrize("exporter", ["script", "dynamo"])
@pytest.mark.parametrize("name", LAYERS)
def test_layer(name, exporter, runtime):
    if (name, exporter) == ("circular_conv", "script"):
        pytest.skip("this exporter writes slices and a Concat, which are tested by themselves")
    assert_agrees(exported(name, exporter == "dynamo"), n=1, runtime=runtime, transposes=None)


@pytest.mark.parametrize("exporter", ["script", "dynamo"])
def test_one_operator_each(exporter):
    for name, codes in (("gelu", ["GELU"]), ("pixel_shuffle", ["CONV_2D", "DEPTH_TO_SPACE"])):
        conversion = assert_agrees(exported(name, exporter == "dynamo"))
        assert [code for code, _ in operators(conversion.data)] == codes
