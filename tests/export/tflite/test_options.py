"""The options of convert, and what it says of models it cannot convert."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema
from export.tflite.agreement import assert_agrees, compare
from export.tflite.nets import Net, lenet5, qdq, random_inputs
from export.tflite.running import operators, run_onnx, run_tflite
from onnx import numpy_helper

from edgecnn.errors import ConversionError, EdgeCNNError, UsageError
from edgecnn.export.tflite import convert

# Sizes of LeNet-5 that a writer of the plainest kind reaches; see also test_lenet.py.
FLOAT16_BYTES, DYNAMIC_BYTES, INT4_BYTES = 125_764, 64_432, 34_192


@pytest.mark.parametrize("io", ["uint8", "float32"])
def test_io_changes_the_types_at_the_border_and_no_number(io):
    model = qdq(lenet5())
    conversion = assert_agrees(model, io=io, n=10, tolerance=5e-3)
    assert conversion.inputs[0].dtype == conversion.outputs[0].dtype == io
    assert (conversion.inputs[0].name, conversion.outputs[0].name) == ("image", "output")
    assert conversion.n_operators == convert(model).n_operators + 2


def test_io_uint8_has_the_zero_points_of_the_onnx_file():
    int8, uint8 = convert(qdq(lenet5())), convert(qdq(lenet5()), io="uint8")
    assert uint8.inputs[0].zero_point == int8.inputs[0].zero_point + 128
    assert uint8.inputs[0].scale == int8.inputs[0].scale


@pytest.mark.parametrize("runtime", ["litert", "tflite-runtime"])
@pytest.mark.parametrize(
    ("weights", "largest", "tolerance"), [("float16", FLOAT16_BYTES, 2e-3), ("int8", DYNAMIC_BYTES, 0.05)]
)
def test_fewer_bits_for_the_weights_of_a_float_model(weights, largest, tolerance, runtime):
    conversion = assert_agrees(lenet5(), weights=weights, tolerance=tolerance, runtime=runtime)
    assert len(conversion.data) <= largest
    assert conversion.inputs[0].dtype == "float32"


def test_dynamic_range_versions():
    versions = dict(operators(convert(lenet5(), weights="int8").data))
    assert versions["CONV_2D"] == 5
    assert versions["FULLY_CONNECTED"] == 3


def test_float16_versions():
    assert dict(operators(convert(lenet5(), weights="float16").data))["DEQUANTIZE"] == 3


@pytest.mark.parametrize("runtime", ["litert", "tflite-runtime", "tflm"])
def test_int4_weights_halve_an_integer_model(runtime):
    model = qdq(lenet5())
    conversion = convert(model, weights="int4")
    assert len(conversion.data) <= INT4_BYTES
    assert dict(operators(conversion.data))["CONV_2D"] == 7
    _, (steps,) = compare(model, weights="int4", runtime=runtime, n=10)
    assert steps.mean() < 30  # 4 bits are coarse, not wrong


@pytest.mark.parametrize("runtime", ["litert", "litert-reference", "tflite-runtime", "tflm"])
def test_packed_weights_are_the_same_network_in_fewer_bytes(runtime):
    model = qdq(lenet5())
    two_layers = [tensor for tensor in model.graph.initializer if len(tensor.dims) > 1][1:3]
    for tensor in two_layers:
        integers = numpy_helper.to_array(tensor) // 20
        tensor.CopyFrom(numpy_helper.from_array(integers, tensor.name))
    packed, plain = convert(model, weights="packed"), convert(model)
    saved = sum(np.prod(tensor.dims) for tensor in two_layers) / 2
    # Both kinds of layer now stand in the file in two versions: one for int8, one for int4.
    assert saved - 64 <= len(plain.data) - len(packed.data) <= saved
    random = np.random.default_rng(0)
    inputs = [[random.integers(-128, 128, plain.inputs[0].shape, np.int8)] for _ in range(10)]
    np.testing.assert_array_equal(*(run_tflite(one.data, inputs, runtime) for one in (packed, plain)))


def test_packing_tells_of_dense_layers_that_their_scales_keep_at_8_bits():
    model = qdq(lenet5(), per_channel=("Conv", "Gemm"))
    for tensor in model.graph.initializer:
        if len(tensor.dims) > 1:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) // 20, tensor.name))
    packed = convert(model, weights="packed")
    assert dict(operators(packed.data))["CONV_2D"] == 7
    dense = [f"Gemm {node.name}" for node in lenet5().graph.node if node.op_type == "Gemm"]
    assert len(packed.notes) == len(dense)
    for layer, note in zip(dense, packed.notes, strict=True):
        assert note.startswith(f"weights packed: {layer} keeps 8 bits: its integers fit in 4, but ")
    assert not convert(model, weights="as-is").notes


@pytest.mark.parametrize(
    ("quantized", "weights", "why"),
    [
        (False, "int4", "no layer has int8 weights"),
        (False, "packed", "no layer has int8 weights"),
        (True, "packed", "no layer's integers fit in 4 bits"),
        (True, "int8", "no layer has float32 weights"),
        (True, "float16", "no layer has float32 weights"),
    ],
)
def test_weights_that_cannot_shrink_as_asked_are_told_of(quantized, weights, why):
    model = qdq(lenet5()) if quantized else lenet5()
    conversion = convert(model, weights=weights)
    assert conversion.data == convert(model).data
    assert conversion.notes == (f"weights {weights}: all stay as they are: {why}",)
    assert not convert(model, weights="as-is").notes


def test_importing_the_converter_loads_nothing_heavy():
    code = "import sys, edgecnn.export.tflite; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "numpy" not in loaded
    assert not {"onnx", "torch", "flatbuffers", "ai_edge_litert"} & set(loaded)
    assert "edgecnn" in loaded


def test_unknown_options_name_the_known_ones():
    for options in ({"io": "int16"}, {"weights": "int2"}, {"runtime": "tensorrt"}):
        with pytest.raises(UsageError) as caught:
            convert(lenet5(), **options)
        assert "choose one of" in str(caught.value)


def test_runtime_is_checked():
    for runtime in ("litert", "tflite-runtime==2.14", "tflm"):
        convert(qdq(lenet5()), runtime=runtime)
    with pytest.raises(ConversionError, match="FULLY_CONNECTED"):
        convert(lenet5(), weights="int8", runtime="tflm")


def test_signature_names_inputs_and_outputs():
    plain, signed = convert(lenet5()), convert(lenet5(), signature=True)
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(signed.data, 0))
    (signature,) = model.signatureDefs
    assert signature.signatureKey == b"serving_default"
    assert [entry.name for entry in signature.inputs + signature.outputs] == [b"image", b"output"]
    assert 0 < len(signed.data) - len(plain.data) < 150
    batch = [[np.zeros((1, 28, 28, 1), np.float32)]]
    assert np.array_equal(run_tflite(signed.data, batch)[0][0], run_tflite(plain.data, batch)[0][0])


def test_internal_tensors_have_names_only_when_asked():
    def names(data):
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
        return [tensor.name for tensor in model.subgraphs[0].tensors if tensor.name]

    assert sorted(names(convert(lenet5()).data)) == [b"image", b"output"]
    assert len(names(convert(lenet5(), debug_names=True).data)) > 5


def test_every_unsupported_node_is_listed():
    net = Net()
    x = net.input(1, 4, 8, 8)
    x = net("Tan", x)
    x = net("MaxPool", x, kernel_shape=[2, 2], dilations=[2, 2])
    x = net("Cosh", x)
    with pytest.raises(ConversionError) as caught:
        convert(net.model(x))
    text = str(caught.value)
    assert "3 nodes cannot be converted" in text
    for part in ("Tan node_v1: this operator", "MaxPool node_v2: dilated pooling", "Cosh node_v3"):
        assert part in text
    assert caught.value.exit_code == 2


def test_another_domain_is_named():
    net = Net()
    model = net.model(net("Relu", net.input(1, 4)))
    model.graph.node[0].op_type, model.graph.node[0].domain = "Magic", "acme"
    model.opset_import.append(onnx.helper.make_opsetid("acme", 1))
    with pytest.raises(ConversionError, match="Magic"):
        convert(model)


def test_dynamic_height_is_refused():
    net = Net()
    model = net.model(net("Relu", net.input(1, 3, "height", 8)))
    with pytest.raises(ConversionError, match=r"axis 2 \(height\)"):
        convert(model)


def test_a_file_that_is_no_model(tmp_path):
    path = tmp_path / "bad.onnx"
    for content in (b"", b"not a model", bytes(range(256)) * 8):
        path.write_bytes(content)
        with pytest.raises((UsageError, ConversionError)) as caught:
            convert(path)
        assert "bad.onnx" in str(caught.value)
    with pytest.raises(UsageError, match="cannot read"):
        convert(tmp_path / "missing.onnx")


def test_missing_external_data_is_told(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(lenet5(), path, save_as_external_data=True, location="weights.data", size_threshold=0)
    assert convert(path).data == convert(lenet5()).data
    (tmp_path / "weights.data").unlink()
    with pytest.raises(ConversionError, match=r"weights\.data"):
        convert(path)


@pytest.mark.parametrize("model", [lenet5(), qdq(lenet5())], ids=["float", "int8"])
def test_a_damaged_file_is_a_clear_error(model):
    """Bytes of the graph are overwritten: whatever comes of it is our error, or a file that still converts."""
    for init in model.graph.initializer:
        if len(init.raw_data) > 400:  # keep what is damaged to what the graph says
            init.raw_data = bytes(len(init.raw_data))
    content = model.SerializeToString()
    random = np.random.default_rng(0)
    n_refused = 0
    for _ in range(150):
        damaged = bytearray(content)
        for position in random.integers(0, len(content), 40):
            damaged[position] = random.integers(0, 256)
        proto = onnx.ModelProto()
        try:
            proto.ParseFromString(bytes(damaged))
        except Exception:  # No model at all: the loader's business, tested above.
            continue
        try:
            convert(proto)
        except EdgeCNNError as fault:
            n_refused += 1
            assert str(fault)
    assert n_refused


def test_an_absurd_shape_is_refused_before_memory_is_taken():
    net = Net()
    x = net.input(1, 4)
    huge = net("ConstantOfShape", np.array([1 << 20, 1 << 20, 4], np.int64))
    info = onnx.helper.make_tensor_value_info
    nodes = [*net.nodes, onnx.helper.make_node("Add", [x, huge], ["output"], name="add")]
    outputs = [info("output", onnx.TensorProto.FLOAT, None)]
    graph = onnx.helper.make_graph(nodes, "absurd", net.inputs, outputs, net.initializers)
    with pytest.raises(ConversionError, match="ConstantOfShape"):
        convert(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)]))


def test_int16_activations_are_refused():
    with pytest.raises(ConversionError, match="int16"):
        convert(qdq(lenet5(), activation="int16"))


def test_asymmetric_weights_are_quantized_anew_and_told_of():
    model = qdq(lenet5(), weight="uint8")
    for init in model.graph.initializer:
        if init.data_type == onnx.TensorProto.UINT8 and set(onnx.numpy_helper.to_array(init).flat) == {128}:
            shifted = onnx.numpy_helper.to_array(init) - np.uint8(8)
            if shifted.ndim:  # the zero points of weights with one scale a channel
                init.CopyFrom(onnx.numpy_helper.from_array(shifted, init.name))
    conversion = convert(model)
    assert sum("asymmetric weights" in note for note in conversion.notes) == 2


def test_initializers_may_be_inputs_too():
    model = lenet5()
    for init in model.graph.initializer:
        info = onnx.helper.make_tensor_value_info(init.name, init.data_type, init.dims)
        model.graph.input.append(info)
    assert convert(model).data == convert(lenet5()).data


def test_two_inputs_and_two_outputs_keep_order_and_names():
    net = Net()
    a, b = net.input(1, 4, 6, 8, name="left"), net.input(1, 2, 6, 8, name="right")
    x = net("Relu", net("Concat", a, b, axis=1))
    y = net("ReduceMean", x, axes=[2, 3], keepdims=0)
    conversion = assert_agrees(net.model(y, x))
    assert [spec.name for spec in conversion.inputs] == ["left", "right"]
    assert [spec.shape for spec in conversion.outputs] == [(1, 6), (1, 6, 8, 6)]


def test_an_output_may_be_an_input_or_a_constant():
    net = Net()
    x = net.input(1, 4, 6, 8)
    constant = net("Constant", value=onnx.numpy_helper.from_array(np.arange(3, dtype=np.float32)))
    model = net.model(net("Identity", x), net("Relu", x), constant)
    conversion = convert(model)
    arrays = random_inputs(model, 1)
    wanted = run_onnx(model, [arrays])[0]
    actual = run_tflite(conversion.data, [[np.transpose(arrays[0], (0, 2, 3, 1))]])[0]
    for found, expected, permutation in zip(actual, wanted, conversion.output_permutations, strict=True):
        assert np.array_equal(found, np.transpose(expected, permutation))


def test_a_model_that_starts_from_nhwc_needs_no_transpose():
    net = Net()
    x = net("Transpose", net.input(1, 8, 6, 3), perm=[0, 3, 1, 2])
    x = net("Transpose", net("Relu", net.conv(x, 3, 4, 3)), perm=[0, 2, 3, 1])
    conversion = assert_agrees(net.model(x), transposes=0)
    assert conversion.inputs[0].shape == (1, 8, 6, 3)
    assert conversion.output_permutations == ((0, 1, 2, 3),)
