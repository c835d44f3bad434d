"""Small versions of known architectures, in torch: real topologies, narrow layers, random weights."""

from __future__ import annotations

import io
import logging
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import onnx
import onnxruntime as ort
import torch
from torch import Tensor, nn
from torch.nn import functional

Activation = type[nn.Module]


def conv_bn(
    n_in: int, n_out: int, kernel: int = 3, stride: int = 1, groups: int = 1, act: Activation | None = nn.ReLU
) -> nn.Sequential:
    layers = [
        nn.Conv2d(n_in, n_out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(n_out),
    ]
    return nn.Sequential(*layers, *([act()] if act else []))


def head(n_in: int, n_out: int = 10) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(n_in, n_out))


class LeNet5(nn.Sequential):
    shape = (1, 28, 28)

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 6, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(400, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, 10),
        )


class CaffeLeNet(nn.Sequential):
    shape = (1, 28, 28)

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 20, 5),
            nn.MaxPool2d(2),
            nn.Conv2d(20, 50, 5),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(800, 500),
            nn.ReLU(),
            nn.Linear(500, 10),
        )


class Fire(nn.Module):
    def __init__(self, n_in: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(n_in, squeeze, 1)
        self.expand1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.squeeze(x))
        return torch.cat([functional.relu(self.expand1(x)), functional.relu(self.expand3(x))], 1)


class SqueezeNet11(nn.Sequential):
    shape = (3, 32, 32)

    def __init__(self) -> None:
        def pool() -> nn.MaxPool2d:
            return nn.MaxPool2d(3, 2, ceil_mode=True)

        super().__init__(
            nn.Conv2d(3, 16, 3, 2),
            nn.ReLU(),
            pool(),
            Fire(16, 4, 16),
            Fire(32, 4, 16),
            pool(),
            Fire(32, 8, 32),
            Fire(64, 8, 32),
            nn.Dropout(),
            nn.Conv2d(64, 10, 1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )


class SqueezeNet10(nn.Sequential):
    shape = (3, 40, 40)

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 16, 7, 2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            Fire(16, 4, 16),
            Fire(32, 8, 16),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            Fire(32, 8, 24),
            nn.Conv2d(48, 10, 1),
            nn.ReLU(),
            nn.AvgPool2d(4),
            nn.Flatten(),
            nn.LogSoftmax(1),
        )


class MobileNetV1(nn.Sequential):
    shape = (3, 32, 32)

    def __init__(self) -> None:
        layers: list[nn.Module] = [conv_bn(3, 8, stride=2)]
        for n_in, n_out, stride in ((8, 16, 1), (16, 24, 2), (24, 24, 1), (24, 32, 2)):
            layers += [conv_bn(n_in, n_in, 3, stride, groups=n_in), conv_bn(n_in, n_out, 1)]
        super().__init__(*layers, head(32))


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels, channels // 4, 1)
        self.up = nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = functional.relu(self.down(functional.adaptive_avg_pool2d(x, 1)))
        return x * functional.hardsigmoid(self.up(gate))


class InvertedResidual(nn.Module):
    def __init__(
        self,
        n_in: int,
        n_out: int,
        stride: int = 1,
        kernel: int = 3,
        act: Activation = nn.ReLU6,
        excite: bool = False,
    ) -> None:
        super().__init__()
        wide = n_in * 3
        self.residual = stride == 1 and n_in == n_out
        self.layers = nn.Sequential(
            conv_bn(n_in, wide, 1, act=act),
            conv_bn(wide, wide, kernel, stride, groups=wide, act=act),
            SqueezeExcite(wide) if excite else nn.Identity(),
            conv_bn(wide, n_out, 1, act=None),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.residual else self.layers(x)


class MobileNetV2(nn.Sequential):
    shape = (3, 32, 32)

    def __init__(self) -> None:
        super().__init__(
            conv_bn(3, 8, stride=2, act=nn.ReLU6),
            InvertedResidual(8, 12, 2),
            InvertedResidual(12, 12),
            InvertedResidual(12, 16, 2),
            InvertedResidual(16, 16),
            conv_bn(16, 48, 1, act=nn.ReLU6),
            head(48),
        )


class MobileNetV3Small(nn.Sequential):
    shape = (3, 32, 32)

    def __init__(self) -> None:
        super().__init__(
            conv_bn(3, 8, stride=2, act=nn.Hardswish),
            InvertedResidual(8, 8, 2, act=nn.ReLU, excite=True),
            InvertedResidual(8, 12, 2, 5, nn.Hardswish, True),
            InvertedResidual(12, 12, 1, 5, nn.Hardswish, True),
            conv_bn(12, 36, 1, act=nn.Hardswish),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(36, 40),
            nn.Hardswish(),
            nn.Dropout(),
            nn.Linear(40, 10),
        )


class EfficientNetLite0(nn.Sequential):
    shape = (3, 32, 32)

    def __init__(self) -> None:
        super().__init__(
            conv_bn(3, 8, stride=2, act=nn.ReLU6),
            InvertedResidual(8, 8),
            InvertedResidual(8, 12, 2),
            InvertedResidual(12, 16, 2, 5),
            InvertedResidual(16, 16, 1, 5),
            conv_bn(16, 40, 1, act=nn.ReLU6),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(40, 10),
        )


class MNASNet(nn.Sequential):
    shape = (3, 32, 32)

    def __init__(self) -> None:
        super().__init__(
            conv_bn(3, 8, stride=2),
            conv_bn(8, 8, groups=8),
            conv_bn(8, 6, 1, act=None),
            InvertedResidual(6, 10, 2, 3, nn.ReLU),
            InvertedResidual(10, 10, 1, 5, nn.ReLU),
            head(10),
        )


class BasicBlock(nn.Module):
    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(conv_bn(n_in, n_out, 3, stride), conv_bn(n_out, n_out, act=None))
        self.shortcut = conv_bn(n_in, n_out, 1, stride, act=None) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.layers(x) + self.shortcut(x))


class ResNet8(nn.Sequential):
    shape = (3, 32, 32)

    def __init__(self) -> None:
        super().__init__(
            conv_bn(3, 8), BasicBlock(8, 8, 1), BasicBlock(8, 16, 2), BasicBlock(16, 24, 2), head(24)
        )


class ResNet18(nn.Sequential):
    shape = (3, 48, 48)

    def __init__(self) -> None:
        layers = [conv_bn(3, 8, 7, 2), nn.MaxPool2d(3, 2, 1)]
        for n_in, n_out, stride in ((8, 8, 1), (8, 12, 2), (12, 16, 2), (16, 24, 2)):
            layers += [BasicBlock(n_in, n_out, stride), BasicBlock(n_out, n_out, 1)]
        super().__init__(*layers, head(24))


class DSCNN(nn.Sequential):
    shape = (1, 49, 10)

    def __init__(self) -> None:
        layers: list[nn.Module] = [nn.Conv2d(1, 16, (10, 4), 2, (4, 1)), nn.BatchNorm2d(16), nn.ReLU()]
        for _ in range(3):
            layers += [conv_bn(16, 16, groups=16), conv_bn(16, 16, 1)]
        super().__init__(*layers, nn.AvgPool2d((24, 5)), nn.Flatten(), nn.Linear(16, 12), nn.Softmax(1))


class ShuffleUnit(nn.Module):
    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        half = channels // 2
        n_in = channels if stride > 1 else half
        self.stride = stride
        self.right = nn.Sequential(
            conv_bn(n_in, half, 1),
            conv_bn(half, half, 3, stride, groups=half, act=None),
            conv_bn(half, half, 1),
        )
        self.left = nn.Sequential(conv_bn(n_in, n_in, 3, stride, groups=n_in, act=None), conv_bn(n_in, half, 1))

    def forward(self, x: Tensor) -> Tensor:
        if self.stride > 1:
            x = torch.cat([self.left(x), self.right(x)], 1)
        else:
            kept, changed = x.chunk(2, 1)
            x = torch.cat([kept, self.right(changed)], 1)
        n, channels, height, width = x.shape
        return x.view(n, 2, channels // 2, height, width).transpose(1, 2).reshape(n, channels, height, width)


class ShuffleNetV2(nn.Sequential):
    shape = (3, 32, 32)

    def __init__(self) -> None:
        super().__init__(
            conv_bn(3, 16, 3, 2), ShuffleUnit(16, 2), ShuffleUnit(16, 1), ShuffleUnit(16, 1), head(16)
        )


class SensorCNN(nn.Module):
    """Over time only, as networks for sound and motion are."""

    shape = (6, 64)

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.Conv1d(6, 8, 5, 2, 2), nn.BatchNorm1d(8), nn.ReLU(), nn.MaxPool1d(2))
        self.deep = nn.Sequential(nn.Conv1d(8, 8, 3, padding=2, dilation=2), nn.ReLU(), nn.Conv1d(8, 8, 1))
        self.leave = nn.Sequential(nn.AvgPool1d(2), nn.Flatten(), nn.Linear(64, 5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        return self.leave(functional.relu(x + self.deep(x)))


class UNet(nn.Module):
    shape = (3, 32, 32)

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.down = conv_bn(3, 8), conv_bn(8, 12, 3, 2)
        self.deep = conv_bn(12, 16, 3, 2)
        self.up1, self.merge1 = nn.ConvTranspose2d(16, 12, 2, 2), conv_bn(24, 12)
        self.merge2, self.leave = conv_bn(20, 8), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.enter(x)
        second = self.down(first)
        x = self.merge1(torch.cat([self.up1(self.deep(second)), second], 1))
        x = functional.interpolate(x, scale_factor=2, mode="bilinear")
        return torch.sigmoid(self.leave(self.merge2(torch.cat([x, first], 1))))


class DenseNet(nn.Module):
    shape = (3, 24, 24)

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(3, 8, 3, padding=1)
        widths = (8, 14, 20)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths)
        self.convs = nn.ModuleList(nn.Conv2d(width, 6, 3, padding=1) for width in widths)
        self.transition = nn.Sequential(nn.BatchNorm2d(26), nn.ReLU(), nn.Conv2d(26, 13, 1), nn.AvgPool2d(2))
        self.head = head(13)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = torch.cat([x, conv(functional.relu(norm(x)))], 1)
        return self.head(self.transition(x))


ZOO: dict[str, Callable[[], nn.Module]] = {
    cls.__name__: cls
    for cls in (
        LeNet5,
        CaffeLeNet,
        SqueezeNet10,
        SqueezeNet11,
        MobileNetV1,
        MobileNetV2,
        MobileNetV3Small,
        EfficientNetLite0,
        MNASNet,
        ResNet8,
        ResNet18,
        DSCNN,
        ShuffleNetV2,
        SensorCNN,
        UNet,
        DenseNet,
    )
}


def build(name: str) -> nn.Module:
    """The model with fixed random weights, and statistics of its batch norms that are not trivial."""
    torch.manual_seed(0)
    model = ZOO[name]().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            for tensor, low, high in (
                (module.weight, 0.5, 1.5),
                (module.running_var, 0.5, 1.5),
                (module.bias, -0.3, 0.3),
                (module.running_mean, -0.3, 0.3),
            ):
                nn.init.uniform_(tensor, low, high)
    return model


def export(name: str, *, dynamo: bool = False) -> onnx.ModelProto:
    """The ONNX file that torch writes of the model, with a dynamic batch."""
    model = build(name)
    image = torch.rand(2, *model.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            if dynamo:
                batch = {0: torch.export.Dim("batch", min=1)}
                program = torch.onnx.export(
                    model, (image,), dynamo=True, verbose=False, dynamic_shapes=(batch,)
                )
                return program.model_proto
            buffer = io.BytesIO()
            axes = {"image": {0: "batch"}}
            names = {"input_names": ["image"], "output_names": ["output"], "dynamic_axes": axes}
            torch.onnx.export(model, (image,), buffer, dynamo=False, opset_version=17, **names)
            return onnx.load_from_string(buffer.getvalue())
        finally:
            logging.disable(logging.NOTSET)


def folded(model: onnx.ModelProto) -> onnx.ModelProto:
    """What a quantizer is given: the model with a batch of one, without batch norms and computed shapes."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for info in (*fixed.graph.input, *fixed.graph.output):
        info.type.tensor_type.shape.dim[0].dim_value = 1
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder, "folded.onnx"))
        ort.InferenceSession(fixed.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return onnx.load(options.optimized_model_filepath)
