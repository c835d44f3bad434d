"""QDQ files as different quantizers write them: each becomes the same integer network."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from export.tflite.agreement import assert_agrees
from export.tflite.exact import ExactModel
from export.tflite.nets import Net, lenet5, qdq
from export.tflite.running import operators, run_onnx, run_tflite
from onnx import helper, numpy_helper

from edgecnn.errors import ConversionError
from edgecnn.export.tflite import convert
from edgecnn.export.tflite.model import Quantization
from edgecnn.export.tflite.quantization import covering


def small() -> onnx.ModelProto:
    net = Net()
    x = net("Relu", net.conv(net.input(1, 3, 8, 8), 3, 6, 3, pads=[1] * 4))
    x = net("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    branch = net("Relu", net.conv(x, 6, 6, 1))
    x = net("Flatten", net("Add", branch, x))
    return net.model(net("Gemm", x, net.weights(5, 96), net.weights(5), transB=1))


def codes(data: bytes) -> list[str]:
    return [code for code, _ in operators(data)]


def initializers(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {init.name: numpy_helper.to_array(init) for init in model.graph.initializer}


INTEGER_CODES = ["CONV_2D", "MAX_POOL_2D", "CONV_2D", "ADD", "FULLY_CONNECTED"]


def test_the_plain_dialect():
    assert codes(assert_agrees(qdq(small())).data) == INTEGER_CODES


def test_weights_left_float_behind_a_quantizer():
    """As exporters of quantization-aware training write them."""
    model = qdq(small())
    arrays = initializers(model)
    for node in list(model.graph.node):
        if node.op_type == "DequantizeLinear" and arrays.get(node.input[0], np.zeros(0)).dtype == np.int8:
            integers, scale, axis = arrays[node.input[0]], arrays[node.input[1]], node.attribute[0].i
            shape = [-1 if a == axis and scale.ndim else 1 for a in range(integers.ndim)]
            weights = numpy_helper.from_array(
                (integers * scale.reshape(shape)).astype(np.float32), f"{node.output[0]}_f"
            )
            quantizer = helper.make_node(
                "QuantizeLinear", [weights.name, *node.input[1:]], [f"{node.output[0]}_q"], axis=axis
            )
            node.input[0] = quantizer.output[0]
            model.graph.initializer.append(weights)
            model.graph.node.insert(0, quantizer)
    assert convert(model).data == convert(qdq(small())).data


def test_no_pairs_around_operations_that_only_move_numbers():
    model = qdq(small(), skip=("MaxPool", "Flatten"))
    conversion = assert_agrees(model)
    assert codes(conversion.data) == INTEGER_CODES
    assert conversion.notes == ()


def test_no_pair_between_a_layer_and_the_pooling_after_it():
    net = Net()
    x = net("Relu", net.conv(net.input(1, 3, 8, 8), 3, 6, 3, pads=[1] * 4))
    model = net.model(net.conv(net("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]), 6, 4, 1))
    conversion = assert_agrees(qdq(model, skip=("Relu",)))
    assert codes(conversion.data) == ["CONV_2D", "MAX_POOL_2D", "CONV_2D"]


def test_a_scale_that_was_rounded_is_the_kernels_own():
    """1/256 computed in another way is still what the integer kernel insists on."""
    net = Net()
    model = qdq(net.model(net("Sigmoid", net.input(1, 3, 4, 4))))
    for init in model.graph.initializer:
        if numpy_helper.to_array(init) == np.float32(1 / 256):
            init.CopyFrom(numpy_helper.from_array(np.float32(1.00001 / 256), init.name))
    conversion = assert_agrees(model, runtime="litert-reference")
    assert codes(conversion.data) == ["LOGISTIC"]
    assert conversion.outputs[0].scale == 1 / 256


@pytest.mark.parametrize("layer", ["conv", "mul"])
def test_scales_too_far_apart_for_the_integer_kernels(layer):
    """XNNPACK ends the process on them: the layer runs in float32."""
    net = Net()
    x = net.input(1, 3, 4, 4)
    model = qdq(net.model(net.conv(x, 3, 2, 1) if layer == "conv" else net("Mul", x, net("Relu", x))))
    quantizer, dequantizer = model.graph.node[-3:-1]
    assert (quantizer.op_type, dequantizer.op_type) == ("QuantizeLinear", "DequantizeLinear")
    tiny = numpy_helper.from_array(np.float32(1e-8), "tiny")
    model.graph.initializer.append(tiny)
    quantizer.input[1] = dequantizer.input[1] = "tiny"
    conversion = assert_agrees(model)
    assert any("do not suit" in note for note in conversion.notes)


def test_output_left_float():
    """The last layer runs in float32, and the notes say so."""
    conversion = assert_agrees(qdq(small(), skip=("Gemm",)), tolerance=1e-3)
    assert conversion.outputs[0].dtype == "float32"
    assert codes(conversion.data)[-2:] == ["DEQUANTIZE", "FULLY_CONNECTED"]
    assert "does not quantize its output" in conversion.notes[0]


@pytest.mark.parametrize("runtime", ["litert", "litert-reference", "tflite-runtime"])
@pytest.mark.parametrize("per_channel", [("Conv", "Gemm"), ()])
def test_weights_of_a_float_layer_stay_small(runtime, per_channel):
    net = Net()
    x = net("Flatten", net("Relu", net.conv(net.input(1, 3, 8, 8), 3, 6, 3)))
    model = net.model(net("Gemm", x, net.weights(20, 216), net.weights(20), transB=1))
    quantized = qdq(model, skip=("Gemm",), per_channel=per_channel)
    conversion = assert_agrees(quantized, tolerance=1e-3, runtime=runtime)
    assert len(conversion.data) < 20 * 216 + 6 * 27 + 2400


def test_one_pair_for_each_reader():
    model = qdq(small())
    pairs = [n for n in model.graph.node if n.op_type == "QuantizeLinear"]
    for i, quantizer in enumerate(pairs):
        dequantizer = next(n for n in model.graph.node if n.input[0] == quantizer.output[0])
        readers = [n for n in model.graph.node if dequantizer.output[0] in n.input]
        for j, reader in enumerate(readers[1:]):
            twin_q, twin_d = onnx.NodeProto(), onnx.NodeProto()
            twin_q.CopyFrom(quantizer)
            twin_d.CopyFrom(dequantizer)
            twin_q.output[0] = twin_d.input[0] = f"twin_{i}_{j}_q"
            position = list(model.graph.node).index(dequantizer) + 1
            old, twin_d.output[0] = dequantizer.output[0], f"twin_{i}_{j}_d"
            reader_index = list(reader.input).index(old)
            reader.input[reader_index] = twin_d.output[0]
            model.graph.node.insert(position, twin_d)
            model.graph.node.insert(position, twin_q)
    assert convert(model).data == convert(qdq(small())).data


def test_a_pair_after_a_pair():
    model = qdq(small())
    dequantizer = next(
        n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] == "image_q"
    )
    again = [helper.make_node(n, [a, *dequantizer.input[1:]], [b]) for n, a, b in (
        ("QuantizeLinear", "once", "again_q"), ("DequantizeLinear", "again_q", dequantizer.output[0]),
    )]  # fmt: skip
    dequantizer.output[0] = "once"
    position = list(model.graph.node).index(dequantizer) + 1
    for node in reversed(again):
        model.graph.node.insert(position, node)
    assert convert(model).data == convert(qdq(small())).data


def test_operators_of_the_microsoft_domain():
    model = qdq(small())
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            node.domain = "com.microsoft"
    assert convert(model).data == convert(qdq(small())).data


def test_an_input_that_is_integer_already():
    model = qdq(small())
    quantizer = next(n for n in model.graph.node if n.op_type == "QuantizeLinear")
    model.graph.node.remove(quantizer)
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    for node in model.graph.node:
        node.input[:] = ["image" if name == quantizer.output[0] else name for name in node.input]
    image = np.random.default_rng(0).integers(0, 256, (1, 3, 8, 8), np.uint8)
    conversion = convert(model)
    assert codes(conversion.data) == INTEGER_CODES
    shifted = (np.transpose(image, (0, 2, 3, 1)).astype(int) - 128).astype(np.int8)
    actual = run_tflite(conversion.data, [[shifted]])[0][0]
    (spec,) = conversion.outputs
    wanted = np.rint(run_onnx(model, [[image]])[0][0] / spec.scale) + spec.zero_point
    assert np.abs(actual - wanted).max() <= 1


@pytest.mark.parametrize("position", range(3))
def test_parameters_that_have_no_equivalent_are_refused(position):
    model = qdq(lenet5())
    arrays = initializers(model)
    quantizers = [n for n in model.graph.node if n.op_type == "QuantizeLinear"]
    node = quantizers[position]
    scale = numpy_helper.from_array(-arrays[node.input[1]], "negative")
    model.graph.initializer.append(scale)
    node.input[1] = "negative"
    with pytest.raises(Exception, match="scale"):
        convert(model)


def between_integers(model: onnx.ModelProto, op: str, *limits: np.ndarray, **attributes: int) -> None:
    """Puts a node on the integers between each QuantizeLinear and DequantizeLinear of an activation."""
    for quantizer in [n for n in model.graph.node if n.op_type == "QuantizeLinear"]:
        name = quantizer.output[0]
        names = [f"{name}_limit{i}" for i in range(len(limits))]
        model.graph.initializer.extend(
            numpy_helper.from_array(a, n) for a, n in zip(limits, names, strict=True)
        )
        node = helper.make_node(op, [name, *names], [f"{name}_after"], **attributes)
        for reader in model.graph.node:
            reader.input[:] = [f"{name}_after" if i == name else i for i in reader.input]
        model.graph.node.insert(list(model.graph.node).index(quantizer) + 1, node)


@pytest.mark.parametrize("activation", ["uint8", "int8"])
def test_a_cast_between_a_pair(activation):
    """As torch exports a quantized model."""
    plain = qdq(small(), activation=activation)
    model = qdq(small(), activation=activation)
    dtype = onnx.TensorProto.UINT8 if activation == "uint8" else onnx.TensorProto.INT8
    between_integers(model, "Cast", to=dtype)
    assert convert(model).data == convert(plain).data


def test_a_cast_to_another_type_is_refused():
    model = qdq(small())
    between_integers(model, "Cast", to=onnx.TensorProto.INT16)
    with pytest.raises(ConversionError, match="cast to another type"):
        convert(model)


@pytest.mark.parametrize("runtime", ["litert", "litert-reference", "tflite-runtime", "tflm"])
def test_activations_of_seven_bits(runtime):
    """torch trains for x86 with a Clip of the integers; limits that are reached must hold."""
    model = qdq(small())
    between_integers(model, "Clip", np.array(60, np.uint8), np.array(127, np.uint8))
    conversion = assert_agrees(model, n=8, steps=2, runtime=runtime)
    found = codes(conversion.data)
    assert found.count("MINIMUM") == found.count("MAXIMUM") > 3
    assert "DEQUANTIZE" not in found


def divided_net(factor: float) -> onnx.ModelProto:
    """Weights multiplied by what a division takes out again, as QAT of torch exports them."""
    net = Net()
    gamma, variance = np.linspace(0.5, 2, 6).astype(np.float32), np.linspace(1, 3, 6).astype(np.float32)
    inner = (gamma / np.sqrt(variance + np.float32(1e-5)) * np.float32(factor)).astype(np.float32)
    weights = net.weights(6, 3, 3, 3) * inner.reshape(-1, 1, 1, 1)
    x = net("Conv", net.input(1, 3, 8, 8), weights, np.zeros(6, np.float32))
    x = net("Div", x, inner.reshape(1, 6, 1, 1))
    x = net("Relu", net("BatchNormalization", x, gamma, net.weights(6), net.weights(6), variance))
    return net.model(net.conv(x, 6, 4, 1))


@pytest.mark.parametrize("factor", [1.0, 0.25])
def test_a_division_before_a_batch_norm(factor):
    model = qdq(divided_net(factor), skip=("Conv", "Div", "BatchNormalization"), per_channel=())
    (division,) = (node for node in model.graph.node if node.op_type == "Div")
    (divisor,) = (a for a in initializers(divided_net(factor)).values() if a.shape == (1, 6, 1, 1))
    model.graph.initializer.append(numpy_helper.from_array(divisor, "divisor"))
    division.input[1] = "divisor"
    conversion = assert_agrees(model, tolerance=1e-2)
    assert codes(conversion.data)[0] == "CONV_2D" and "DIV" not in codes(conversion.data)
    (weights,) = (a for a in initializers(model).values() if a.shape == (6, 3, 3, 3))
    model_of_file = ExactModel(conversion.data)
    kernel = model_of_file.tensors[model_of_file.operators[0][1][1]]
    np.testing.assert_array_equal(np.transpose(kernel.data, (0, 3, 1, 2)), weights)
    assert kernel.scale.size == (1 if factor == 1 else 6)


def test_a_division_before_a_batch_norm_in_float():
    assert codes(assert_agrees(divided_net(0.25)).data) == ["CONV_2D", "CONV_2D"]


def joined_net(second: float = 1.0, last: str = "") -> onnx.ModelProto:
    net = Net()
    x = net.input(1, 4, 6, 6)
    y = net("Relu", net.conv(x, 4, 4, 1))
    joined = net("Concat", y, net("Mul", y, np.float32(second)), axis=1)
    return net.model(net(last, joined) if last else joined)


def test_joined_parts_of_one_scale_need_no_quantization_after():
    conversion = assert_agrees(qdq(joined_net(1.0), skip=("Concat",)), tolerance=1e-2)
    assert codes(conversion.data) == ["CONV_2D", "MUL", "CONCATENATION"]


def test_joined_parts_of_several_scales_become_integers_for_an_integer_reader():
    conversion = assert_agrees(qdq(joined_net(0.5, "GlobalAveragePool"), skip=("Concat",)))
    assert codes(conversion.data) == ["CONV_2D", "MUL", "QUANTIZE", "CONCATENATION", "MEAN"]
    assert "different scales" in conversion.notes[0]


@pytest.mark.parametrize("last", ["", "Exp"])
def test_joined_parts_of_several_scales_keep_their_precision_for_others(last):
    model = qdq(joined_net(0.5, last), skip=("Concat", "Exp"))
    found = codes(assert_agrees(model, tolerance=1e-2).data)
    assert found.count("DEQUANTIZE") == 2 and "QUANTIZE" not in found


def test_parameters_that_cover_others():
    small_range, large, shifted = (Quantization.per_tensor(s, z) for s, z in ((0.1, 0), (0.3, 5), (0.3, -60)))
    assert covering([small_range, large]) is large
    both = covering([large, shifted])
    low, high = both.dequantize(np.array([-128, 127]))
    assert low <= 0.3 * (-128 - 5) + 0.2 and high >= 0.3 * (127 + 60) - 0.2


def without_zero_points(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` whose zero points of activations, 0 of uint8, are left out, as ONNX allows."""
    arrays = initializers(model)
    for node in model.graph.node:
        is_zero = len(node.input) == 3 and not arrays.get(node.input[2], np.ones(1)).any()
        if is_zero and node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            del node.input[2]
    return model


def test_zero_points_left_out_are_zeros_of_the_default_type():
    """0 of uint8: the file has -128 of int8 there."""
    net = Net()
    x = net("Relu", net.input(1, 3, 8, 8))
    x = net("Relu", net.conv(x, 3, 6, 3))
    model = qdq(net.model(net("Relu", net.conv(x, 6, 4, 1))))
    stated = convert(model)
    conversion = assert_agrees(without_zero_points(model), n=8)
    assert conversion.outputs[0].zero_point == -128
    assert conversion.data == stated.data


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul"])
@pytest.mark.parametrize("number", [0.37, -2.5])
def test_a_number_left_float_is_an_integer_that_stands_for_it_exactly(op: str, number: float):
    net = Net()
    x = net.conv(net.input(1, 3, 8, 8), 3, 4, 3)
    model = qdq(net.model(net(op, x, np.float32(number))))
    arrays = initializers(model)
    scalar = next(node for node in model.graph.node if node.op_type == op)
    made_by = {node.output[0]: node for node in model.graph.node}
    if scalar.input[1] not in arrays:  # behind a DequantizeLinear: put as the number itself
        quantized = made_by[scalar.input[1]]
        model.graph.node.remove(quantized)
        model.graph.initializer.append(numpy_helper.from_array(np.float32(number), "number"))
        scalar.input[1] = "number"
    conversion = assert_agrees(model, n=8)
    assert codes(conversion.data)[-1] == op.upper(), "in integers, to the end"
