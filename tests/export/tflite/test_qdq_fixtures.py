"""QDQ files that the tools themselves wrote: each becomes the integer network that it says."""

from __future__ import annotations

from collections import Counter
from functools import cache

import numpy as np
import onnx
import pytest
from export.tflite.agreement import to_tflite
from export.tflite.exact import ExactModel, Tensor
from export.tflite.nets import random_inputs
from export.tflite.running import operators, run_onnx, run_tflite
from onnx import numpy_helper
from recipes_for_tests import ROOT

from edgecnn.export.tflite import Conversion, convert

FOLDER = ROOT / "tests" / "fixtures" / "qdq"
NAMES = sorted(path.stem for path in FOLDER.glob("*.onnx"))
WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
# To bring weights back to ONNX's order of axes.
ONNX_ORDER = {"CONV_2D": (0, 3, 1, 2), "DEPTHWISE_CONV_2D": (3, 0, 1, 2), "FULLY_CONNECTED": (0, 1)}


@cache
def fixture(name: str) -> onnx.ModelProto:
    return onnx.load(FOLDER / f"{name}.onnx")


@cache
def converted(name: str) -> Conversion:
    return convert(fixture(name))


class QdqFile:
    """What a QDQ file says, read without the converter: the parameters of activations and of weights."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.arrays = {init.name: numpy_helper.to_array(init) for init in model.graph.initializer}
        self.producers = {name: node for node in model.graph.node for name in node.output}
        for node in model.graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self.arrays[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
            if node.op_type in ("Identity", "Cast", "ConstantOfShape") and node.input[0] in self.arrays:
                self.arrays[node.output[0]] = self._computed(node)
        self.layers = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm")]
        self.activations = {
            self._parameters(node)
            for node in model.graph.node
            if node.op_type == "DequantizeLinear" and self._integers(node) is None
        }

    def _computed(self, node: onnx.NodeProto) -> np.ndarray:
        """What torch writes instead of a zero point."""
        source = self.arrays[node.input[0]]
        if node.op_type == "Cast":
            return source.astype(onnx.helper.tensor_dtype_to_np_dtype(node.attribute[0].i))
        if node.op_type == "ConstantOfShape":
            return np.full(source, numpy_helper.to_array(node.attribute[0].t).item())
        return source

    def _parameters(self, node: onnx.NodeProto) -> tuple[float, int]:
        """(scale, zero point as int8) of a pair with one of each."""
        zero = self.arrays[node.input[2]]
        return self.arrays[node.input[1]].item(), int(zero.item()) - (128 if zero.dtype == np.uint8 else 0)

    def _integers(self, dequantizer: onnx.NodeProto) -> np.ndarray | None:
        """The constant behind a DequantizeLinear: stored as integers, or as float32 behind a QuantizeLinear."""
        if dequantizer.input[0] in self.arrays:
            return self.arrays[dequantizer.input[0]]
        quantizer = self.producers.get(dequantizer.input[0])
        if quantizer is None or quantizer.input[0] not in self.arrays:
            return None
        real, scale, zero = (self.arrays[name] for name in quantizer.input)
        scale, zero = self._along(quantizer, scale, real.ndim), self._along(quantizer, zero, real.ndim)
        limits = np.iinfo(zero.dtype)
        return np.clip(np.rint(real / scale) + zero, limits.min, limits.max).astype(zero.dtype)

    @staticmethod
    def _along(node: onnx.NodeProto, vector: np.ndarray, rank: int) -> np.ndarray:
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1) % rank
        return vector.reshape([-1 if a == axis and vector.size > 1 else 1 for a in range(rank)])

    def weights(self, layer: onnx.NodeProto) -> tuple[np.ndarray, np.ndarray]:
        """(integers as int8, scales) of a layer's weights."""
        dequantizer = self.producers[layer.input[1]]
        integers = self._integers(dequantizer)
        assert integers is not None
        shift = 128 if integers.dtype == np.uint8 else 0
        return (integers.astype(int) - shift).astype(np.int8), self.arrays[dequantizer.input[1]].reshape(-1)

    def bias(self, layer: onnx.NodeProto) -> np.ndarray | None:
        """The real numbers of a layer's bias."""
        if len(layer.input) < 3:
            return None
        if layer.input[2] in self.arrays:
            return self.arrays[layer.input[2]]
        dequantizer = self.producers[layer.input[2]]
        integers = self._integers(dequantizer)
        assert integers is not None
        return integers * self.arrays[dequantizer.input[1]].astype(np.float64)


def layers_of(data: bytes) -> list[tuple[str, Tensor, Tensor, Tensor]]:
    """(code, data, weights, bias) of each layer with weights, in order."""
    model = ExactModel(data)
    return [
        (code, *(model.tensors[i] for i in inputs))
        for code, inputs, _, _ in model.operators
        if code in WEIGHTED
    ]


def test_every_tool_is_here():
    table = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(f"`{name}.onnx`" in table for name in NAMES)
    assert {name.split("_")[0] for name in NAMES} == {"aimet", "neural", "nncf", "onnxruntime", "torch"}
    assert all((FOLDER / f"{name}.onnx").stat().st_size < 60_000 for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_weights_and_their_scales_are_carried_unchanged(name):
    file, layers = QdqFile(fixture(name)), layers_of(converted(name).data)
    assert len(layers) == len(file.layers) == 6
    for node, (code, _, weights, _) in zip(file.layers, layers, strict=True):
        integers, scales = file.weights(node)
        assert weights.data is not None
        if not weights.is_quantized:  # A layer that the file leaves in float32, with few weights.
            np.testing.assert_array_equal(weights.data, (integers * scales[:, None]).astype(np.float32))
            continue
        np.testing.assert_array_equal(np.transpose(weights.data, ONNX_ORDER[code]), integers, node.name)
        np.testing.assert_array_equal(weights.scale.reshape(-1).astype(np.float32), scales, node.name)
        assert not weights.zero_point.any()


@pytest.mark.parametrize("name", NAMES)
def test_activations_have_the_scales_and_zero_points_of_the_file(name):
    file = QdqFile(fixture(name))
    model = ExactModel(converted(name).data)
    computed = {(float(t.scale.item()), int(t.zero_point.item())) for t in model.tensors if is_activation(t)}
    given = {(float(np.float32(scale)), zero_point) for scale, zero_point in file.activations}
    assert computed <= given
    assert len(computed) > 3


def is_activation(tensor: Tensor) -> bool:
    return tensor.is_quantized and tensor.data is None


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("torch_qat")])
def test_biases_are_the_nearest_integers_of_input_scale_times_weight_scale(name):
    file = QdqFile(fixture(name))
    for node, (_, data, weights, bias) in zip(file.layers, layers_of(converted(name).data), strict=True):
        if not data.is_quantized:
            continue
        wanted = file.bias(node)
        wanted = np.zeros(bias.shape) if wanted is None else wanted
        scale = data.scale.reshape(-1) * weights.scale.reshape(-1)
        np.testing.assert_allclose(bias.scale.reshape(-1), scale, rtol=1e-6)
        assert bias.data is not None and not bias.zero_point.any()
        assert np.abs(bias.data - wanted / scale).max() <= 0.51


def steps_off(model: onnx.ModelProto, conversion: Conversion, runtime: str) -> np.ndarray:
    """By how many steps each output of 200 images is off.

    A step is the output's scale; where the file leaves the output in float32, a 255th of its range.
    """
    batches = [random_inputs(model, seed) for seed in range(200)]
    wanted = np.stack([arrays[0] for arrays in run_onnx(model, batches)])
    spec, permutation = conversion.inputs[0], conversion.input_permutations[0]
    given = [[to_tflite(arrays[0], permutation, spec)] for arrays in batches]
    actual = np.stack([arrays[0] for arrays in run_tflite(conversion.data, given, runtime)])
    output = conversion.outputs[0]
    if output.scale is None:
        return np.abs(actual - wanted) * 255 / (wanted.max() - wanted.min())
    return np.abs(actual.astype(int) - output.zero_point - np.rint(wanted / np.float32(output.scale)))


# What becomes of each file: (operators besides the convolutions, pooling and dense layers of all, notes).
BASE = Counter(
    PAD=1, CONV_2D=4, DEPTHWISE_CONV_2D=1, ADD=1, MAX_POOL_2D=1, CONCATENATION=1, MEAN=1, FULLY_CONNECTED=1
)
JOINED = "QUANTIZE added, the parts it joins have different scales"
FLATTENED = "QUANTIZE added, its input and output have different scales"
NARROW = "fewer than 8 bits"
FLOAT_DENSE = "stays float32: the file does not quantize its output"
EXPECTED: dict[str, tuple[dict[str, int], set[str]]] = {
    # It quantizes what the depthwise convolution gives before its ReLU, in the scale of the result.
    "aimet": ({"MAXIMUM": 1}, set()),
    "aimet_integers": ({"MAXIMUM": 1}, set()),
    "neural_compressor": ({"QUANTIZE": 1}, {JOINED}),
    # It quantizes neither what is joined nor the output.
    "nncf": ({"QUANTIZE": 1, "DEQUANTIZE": 1}, {JOINED, FLOAT_DENSE}),
    "nncf_mixed": ({"QUANTIZE": 1, "DEQUANTIZE": 1}, {JOINED, FLOAT_DENSE}),
    "onnxruntime": ({"QUANTIZE": 1}, {JOINED}),
    "torch_converted": ({"QUANTIZE": 1}, {FLATTENED}),
    "torch_qat": ({"QUANTIZE": 1}, {FLATTENED}),
    # Activations of 7 bits: a MINIMUM keeps each within its limits.
    "torch_qat_x86": ({"QUANTIZE": 1, "RESHAPE": 1, "MINIMUM": 9}, {FLATTENED, NARROW}),
}
# By how many steps at most, on litert; the others round each layer with less precision. What is more than one
# step comes of means and sums between two integers, which later layers multiply.
MOST_STEPS = {"torch_qat": 3, "torch_qat_x86": 2}
MOST_STEPS_ELSEWHERE = 3
LEAST_WITHIN_ONE_STEP = {"litert": 0.99, "litert-reference": 0.97, "tflite-runtime": 0.97, "tflm": 0.97}


@pytest.mark.parametrize("name", NAMES)
def test_it_becomes_integer_operators_alone_but_for_what_the_file_leaves_in_float(name):
    conversion = converted(name)
    extra, notes = EXPECTED[name]
    assert Counter(code for code, _ in operators(conversion.data)) == BASE + Counter(extra)
    assert {
        kind for kind in (JOINED, FLATTENED, FLOAT_DENSE, NARROW) for note in conversion.notes if kind in note
    } == notes
    assert len(conversion.notes) == len(notes), conversion.notes
    assert conversion.inputs[0].dtype == "int8"
    assert conversion.outputs[0].dtype == ("float32" if FLOAT_DENSE in notes else "int8")


@pytest.mark.parametrize("runtime", ["litert", "litert-reference", "tflite-runtime", "tflm"])
@pytest.mark.parametrize("name", NAMES)
def test_it_agrees_with_onnxruntime(name, runtime):
    steps = steps_off(fixture(name), converted(name), runtime)
    assert np.mean(steps <= 1) >= LEAST_WITHIN_ONE_STEP[runtime], np.bincount(steps.reshape(-1).astype(int))
    assert steps.max() <= (MOST_STEPS.get(name, 1) if runtime == "litert" else MOST_STEPS_ELSEWHERE)


def test_the_comparison_can_fail():
    """A file whose last bias is off by some steps is found."""
    model = onnx.ModelProto()
    model.CopyFrom(fixture("onnxruntime"))
    file = QdqFile(model)
    bias = file.producers[file.layers[-1].input[2]].input[0]
    (tensor,) = (init for init in model.graph.initializer if init.name == bias)
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + np.int32(3000), bias))
    assert steps_off(fixture("onnxruntime"), convert(model), "litert").max() > 1


def test_a_bias_in_another_scale_is_quantized_anew_and_told_of():
    model = onnx.ModelProto()
    model.CopyFrom(fixture("aimet_integers"))
    file = QdqFile(model)
    wanted = []
    for layer in file.layers:
        integers, scale = file.producers[layer.input[2]].input[:2]
        for init in model.graph.initializer:
            if init.name == scale:
                init.CopyFrom(numpy_helper.from_array(file.arrays[scale] / np.float32(4), scale))
            elif init.name == integers:
                init.CopyFrom(numpy_helper.from_array(file.arrays[integers] * np.int32(4), integers))
        wanted.append(file.arrays[integers])
    conversion = convert(model)
    told = [note for note in conversion.notes if "bias was quantized anew" in note]
    assert len(told) == len(file.layers)
    for integers, (_, _, _, bias) in zip(wanted, layers_of(conversion.data), strict=True):
        assert bias.data is not None
        np.testing.assert_array_equal(bias.data, integers)
