"""QDQ files as different quantizers write them: each becomes the same integer network."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from export.tflite.agreement import assert_agrees
from export.tflite.nets import Net, lenet5, qdq
from export.tflite.running import operators, run_onnx, run_tflite
from onnx import helper, numpy_helper

from edgecnn.export.tflite import convert


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
