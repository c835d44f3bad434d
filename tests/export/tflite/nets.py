"""Small ONNX networks made in numpy, and their QDQ twins: what the converter's tests feed it with."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from export.tflite.running import run_onnx
from onnx import helper, numpy_helper


class Net:
    """Builds an ONNX graph line by line, `x = net("Relu", x)`; numpy inputs are constants."""

    def __init__(self, opset: int = 17, seed: int = 0) -> None:
        self.opset = opset
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self._n = 0
        self._shapes: dict[str, tuple[int, ...]] = {}

    def name(self) -> str:
        self._n += 1
        return f"v{self._n}"

    def input(self, *shape: int | str, name: str = "image", dtype: int = onnx.TensorProto.FLOAT) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def weights(self, *shape: int) -> np.ndarray:
        fan_in = max(int(np.prod(shape[1:])), 1)
        return (self.random.standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32)

    def __call__(self, op: str, *inputs: Any, n_outputs: int = 1, domain: str = "", **attributes: Any) -> Any:
        names = []
        for value in inputs:
            if isinstance(value, str):
                names.append(value)
            else:
                names.append(self.name())
                self.initializers.append(numpy_helper.from_array(np.asarray(value), names[-1]))
        outputs = [self.name() for _ in range(n_outputs)]
        self.nodes.append(
            helper.make_node(op, names, outputs, name=f"node_{outputs[0]}", domain=domain, **attributes)
        )
        return outputs[0] if n_outputs == 1 else outputs

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a value, as onnxruntime computes it."""
        if name not in self._shapes:
            output = onnx.ValueInfoProto(name=name)
            output.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
            graph = helper.make_graph(self.nodes, "net", self.inputs, [output], self.initializers)
            opsets = [helper.make_opsetid("", self.opset)]
            model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
            self._shapes[name] = run_onnx(model, [random_inputs(model, 0)])[0][0].shape
        return self._shapes[name]

    def conv(self, x: str, n_in: int, n_out: int, kernel: int, *, bias: bool = True, **attributes: Any) -> str:
        weights = self.weights(n_out, n_in // attributes.get("group", 1), kernel, kernel)
        extra = [self.random.standard_normal(n_out).astype(np.float32) / 4] if bias else []
        return self("Conv", x, weights, *extra, **attributes)

    def model(self, *outputs: str) -> onnx.ModelProto:
        """The model. Outputs get the names `output`, `output1`, ..."""
        for i, output in enumerate(outputs):
            name = f"output{i or ''}"
            self.nodes.append(helper.make_node("Identity", [output], [name], name=f"to_{name}"))
            self.outputs.append(onnx.ValueInfoProto(name=name))
            self.outputs[-1].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
        graph = helper.make_graph(self.nodes, "net", self.inputs, self.outputs, self.initializers)
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        return onnx.shape_inference.infer_shapes(model)


def lenet5(*, dense: str = "gemm", batch: int | str = "batch") -> onnx.ModelProto:
    """The 61,706-parameter LeNet-5; `dense` writes its fully connected layers as "gemm" or "matmul"."""
    net = Net()
    x = net.input(batch, 1, 28, 28)
    x = net("MaxPool", net("Relu", net.conv(x, 1, 6, 5, pads=[2] * 4)), kernel_shape=[2, 2], strides=[2, 2])
    x = net("MaxPool", net("Relu", net.conv(x, 6, 16, 5)), kernel_shape=[2, 2], strides=[2, 2])
    x = net("Flatten", x)
    for n_in, n_out in ((400, 120), (120, 84), (84, 10)):
        bias = net.random.standard_normal(n_out).astype(np.float32) / 4
        if dense == "gemm":
            x = net("Gemm", x, net.weights(n_out, n_in), bias, transB=1)
        else:
            x = net("Add", net("MatMul", x, net.weights(n_out, n_in).T.copy()), bias)
        if n_out != 10:
            x = net("Relu", x)
    return net.model(x)


# Operations whose output shares the scale of their input.
_SAME_SCALE = ("MaxPool", "Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice")
_WEIGHTED = ("Conv", "Gemm", "MatMul", "ConvTranspose")
_OPERANDS = ("Add", "Sub", "Mul", "Div", "PRelu", "Concat", "Max", "Min")
# Operations whose results are truth values or places, which no quantizer quantizes.
_NO_NUMBERS = (
    *("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal", "And", "Or", "Not"),
    *("ArgMax", "ArgMin"),
)
_FIXED_RANGES = {"Softmax": (0.0, 255 / 256), "Sigmoid": (0.0, 255 / 256), "Tanh": (-1.0, 127 / 128)}


class QdqWriter:
    """A plain post-training quantizer: true min/max ranges, weights symmetric, everything QDQ.

    `bias` writes biases as "int32" (behind DequantizeLinear) or leaves them "float"; `fuse_relu` puts no
    QDQ pair between an operation and its Relu; `unify` gives operations that only move numbers the scale of
    their input.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        *,
        activation: str = "uint8",
        weight: str = "int8",
        bias: str = "int32",
        per_channel: tuple[str, ...] = ("Conv", "ConvTranspose"),
        fuse_relu: bool = True,
        unify: bool = True,
        skip: tuple[str, ...] = (),
    ) -> None:
        self.model, self.activation, self.weight, self.bias = model, activation, weight, bias
        self.per_channel, self.fuse_relu, self.unify, self.skip = per_channel, fuse_relu, unify, skip
        self.constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self.initializers: dict[str, onnx.TensorProto] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.scales: dict[str, tuple[float, int]] = {}
        self.renamed: dict[str, str] = {}

    def write(self) -> onnx.ModelProto:
        graph = self.model.graph
        ranges = self._ranges()
        for info in graph.input:
            self._quantize_activation(info.name, info.name, ranges[info.name], None)
        for node in graph.node:
            self._node(node, ranges)
        kept = [t for t in graph.initializer if any(t.name in n.input for n in self.nodes)]
        made = helper.make_graph(
            self.nodes, "qdq", graph.input, graph.output, kept + list(self.initializers.values())
        )
        return helper.make_model(made, opset_imports=self.model.opset_import, ir_version=8)

    def _ranges(self) -> dict[str, tuple[float, float]]:
        """The smallest and largest value of every float tensor over 8 random inputs."""
        probe = onnx.ModelProto()
        probe.CopyFrom(self.model)
        known = {info.name for info in probe.graph.output}
        names = [info.name for info in probe.graph.output]
        for node in self.model.graph.node:
            for name in node.output:
                if name and name not in known:
                    probe.graph.output.append(onnx.ValueInfoProto(name=name))
                    names.append(name)
        batches = [random_inputs(self.model, seed) for seed in range(8)]
        results = run_onnx(probe, batches)
        ranges = {name: _range([r[i] for r in results]) for i, name in enumerate(names)}
        for i, info in enumerate(self.model.graph.input):
            ranges[info.name] = _range([arrays[i] for arrays in batches])
        return ranges

    def _node(self, node: onnx.NodeProto, ranges: dict[str, tuple[float, float]]) -> None:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        if node.op_type == "Identity":
            self.nodes.append(copy)
            copy.input[0] = self.renamed.get(node.input[0], node.input[0])
            return
        readers = [n for n in self.model.graph.node if node.output[0] in n.input]
        before_relu = self.fuse_relu and len(readers) == 1 and readers[0].op_type in ("Relu", "Clip")
        for i, name in enumerate(node.input):
            if name in self.renamed:
                copy.input[i] = self.renamed[name]
            elif name in self.constants and self._is_operand(node, name):
                copy.input[i] = self._constant(node, i, name)
        outputs = {info.name for info in self.model.graph.output}
        for i, name in enumerate(node.output):
            copy.output[i] = f"{name}_raw" if name in outputs else name
        self.nodes.append(copy)
        if node.op_type in (*self.skip, *_NO_NUMBERS) or (before_relu and node.op_type not in _SAME_SCALE):
            return
        for name in node.output:
            same = self.unify and node.op_type in _SAME_SCALE and self.scales.get(node.input[0])
            limits = _FIXED_RANGES.get(node.op_type, ranges[name])
            source = f"{name}_raw" if name in outputs else name
            self._quantize_activation(name, source, limits, same or None)
            if name in outputs:
                self.nodes[-1].output[0] = name

    def _is_operand(self, node: onnx.NodeProto, name: str) -> bool:
        """Whether a constant is a number to compute with, not a limit, a scale of a Resize or the like."""
        return node.op_type in (*_WEIGHTED, *_OPERANDS) and self.constants[name].dtype == np.float32

    def _quantize_activation(
        self, name: str, source: str, limits: tuple[float, float], parameters: tuple[float, int] | None
    ) -> None:
        info = np.iinfo(self.activation)
        if parameters is None:
            low, high = min(limits[0], 0.0), max(limits[1], 0.0)
            # As onnxruntime's quantizer has it, a value that is always 0 gets scale 1.
            scale = np.float32((high - low) / (info.max - info.min) if high - low > 1e-3 else 1)
            parameters = float(scale), int(np.clip(np.rint(info.min - low / scale), info.min, info.max))
        self.scales[name] = parameters
        pair = [
            self._initializer(np.float32(parameters[0])),
            self._initializer(np.array(parameters[1], self.activation)),
        ]
        self.nodes.append(helper.make_node("QuantizeLinear", [source, *pair], [f"{name}_q"]))
        self.nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", *pair], [f"{name}_d"]))
        self.renamed[name] = f"{name}_d"

    def _constant(self, node: onnx.NodeProto, index: int, name: str) -> str:
        array = self.constants[name]
        is_bias = node.op_type in _WEIGHTED and index == 2
        if is_bias and (self.bias == "float" or node.input[0] not in self.scales):
            return name
        transposed = node.op_type == "ConvTranspose" or (
            node.op_type in ("Gemm", "MatMul") and not any(a.name == "transB" and a.i for a in node.attribute)
        )
        axis = 1 if transposed else 0
        key = f"{name}_{node.output[0]}_{index}"
        if is_bias:
            scale = np.float32(self.scales[node.input[0]][0]) * self.weight_scales[node.output[0]]
            if scale.ndim:  # the groups of a transposed convolution share their scales
                scale = np.tile(scale, array.size // scale.size)
            integers = np.rint(array / scale).astype(np.int32)
            zero, axis = np.zeros(scale.shape, np.int32), 0
        else:
            others = tuple(a for a in range(array.ndim) if a != axis)
            largest = np.abs(array).max(axis=others if node.op_type in self.per_channel else None)
            scale = (np.maximum(largest, 1e-4) / 127).astype(np.float32)
            if index == 1:
                self.weight_scales[node.output[0]] = scale
            shaped = scale.reshape([-1 if a == axis and scale.ndim else 1 for a in range(array.ndim)])
            integers = np.clip(np.rint(array / shaped), -127, 127).astype(np.int8)
            zero = np.zeros(scale.shape, np.int8)
            if self.weight == "uint8":
                integers, zero = (
                    (integers.astype(int) + 128).astype(np.uint8),
                    zero.astype(np.uint8) + np.uint8(128),
                )
        inputs = [self._initializer(integers), self._initializer(scale), self._initializer(zero)]
        self.nodes.append(helper.make_node("DequantizeLinear", inputs, [key], axis=axis))
        return key

    def _initializer(self, array: np.ndarray) -> str:
        """Equal constants share one initializer, under a short name."""
        array = np.asarray(array)
        key = f"{array.dtype}{array.shape}{array.tobytes()!r}"
        if key not in self.initializers:
            self.initializers[key] = numpy_helper.from_array(array, f"c{len(self.initializers)}")
        return self.initializers[key].name

    @property
    def weight_scales(self) -> dict[str, np.ndarray]:
        return self.__dict__.setdefault("_weight_scales", {})


def qdq(model: onnx.ModelProto, **options: Any) -> onnx.ModelProto:
    return QdqWriter(model, **options).write()


def _range(arrays: list[np.ndarray]) -> tuple[float, float]:
    return float(min(a.min() for a in arrays)), float(max(a.max() for a in arrays))


def random_inputs(model: onnx.ModelProto, seed: int, batch: int = 1) -> list[np.ndarray]:
    """One random array for each input of the model; a dynamic axis gets the size `batch`."""
    random = np.random.default_rng(seed)
    arrays = []
    for info in model.graph.input:
        shape = [dim.dim_value or batch for dim in info.type.tensor_type.shape.dim]
        arrays.append(random.uniform(-1, 1, shape).astype(np.float32))
    return arrays
