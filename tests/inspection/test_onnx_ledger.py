"""The ledger of .onnx files: float and QDQ, shapes that the file does not state, external data."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from export.tflite.nets import Net, lenet5, qdq
from export.tflite.test_operators import CASES, FLOAT_ONLY_CASES, built
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper, shape_inference
from recipes_for_tests import ROOT

from edgecnn.errors import UsageError
from edgecnn.inspection import inspect
from edgecnn.inspection.onnx_graph import read_graph
from edgecnn.inspection.onnx_ledger import read_onnx
from edgecnn.inspection.onnx_schema import DATA_TYPES
from edgecnn.inspection.onnx_shapes import shapes_of
from edgecnn.inspection.protobuf import read_varint, signed

HERE = Path()


def ledger(model: onnx.ModelProto):
    return read_onnx(model.SerializeToString(), HERE)


@pytest.mark.parametrize("quantize", [lambda m: m, qdq], ids=["float", "int8"])
def test_every_byte_is_counted_once(quantize):
    model = quantize(lenet5())
    model.doc_string = "what it is for" * 10
    helper.set_model_props(model, {"author": "someone"})
    kinds = ledger(model).bytes_by_kind
    assert sum(kinds.values()) == model.ByteSize()
    roles = {"weights": 0, "biases": 0, "constants": 0, "quantization": 0}
    assert sum(kinds.get(role, 0) for role in roles) == sum(
        numpy_helper.to_array(tensor).nbytes for tensor in model.graph.initializer
    )
    assert kinds["documentation"] > 140


def test_quantize_nodes_belong_to_their_layers():
    model = qdq(lenet5())
    contents = ledger(model)
    first = next(layer for layer in contents.layers if layer.operator == "Conv")
    assert first.weights is not None
    assert (first.weights.dtype, first.weights.granularity, first.weights.bias_dtype) == (
        "int8", "per-channel", "int32",
    )  # fmt: skip
    relu = next(layer for layer in contents.layers if layer.operator == "Relu")
    assert (first.inputs[0].dtype, relu.outputs[0].dtype) == ("uint8", "uint8")
    assert relu.outputs[0].scale is not None
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    nodes = {node.output[0]: node for node in model.graph.node}
    conv = next(node for node in model.graph.node if node.op_type == "Conv")
    image = nodes[conv.input[0]]
    assert first.inputs[0].scale == float(constants[image.input[1]])
    assert first.inputs[0].zero_point == int(constants[image.input[2]])
    # Those at the model's own input stay, all others are within a layer.
    kept = [layer.operator for layer in contents.layers if "Linear" in layer.operator]
    n_qdq = sum("uantizeLinear" in node.op_type for node in model.graph.node)
    assert "QuantizeLinear" in kept and len(kept) + contents.n_folded == n_qdq
    assert len(kept) <= 2


def test_scales_are_no_parameters():
    assert ledger(qdq(lenet5())).totals().n_params == 61_706


def without_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.graph.value_info[:]
    for output in bare.graph.output:
        output.type.tensor_type.ClearField("shape")
    return bare


@pytest.mark.parametrize("name", [*CASES, *FLOAT_ONLY_CASES])
def test_shapes_that_the_file_does_not_state(name):
    model = built({**CASES, **FLOAT_ONLY_CASES}[name])
    bare = without_shapes(model)
    found = shapes_of(read_graph(bare.SerializeToString(), HERE))
    inferred = shape_inference.infer_shapes(bare, data_prop=True).graph
    n_told = 0
    for value in (*inferred.value_info, *inferred.output):
        dims = value.type.tensor_type.shape.dim
        wanted = tuple(dim.dim_value for dim in dims)
        if all(dim.HasField("dim_value") for dim in dims):
            assert found.get(value.name) == wanted, value.name
            n_told += 1
    assert n_told


def test_a_dynamic_batch_is_one():
    contents = ledger(without_shapes(lenet5(batch="N")))
    assert contents.inputs[0].shape == (None, 1, 28, 28)
    assert contents.layers[0].input_shapes == ((1, 1, 28, 28),)
    assert contents.totals().n_macs == ledger(lenet5(batch=1)).totals().n_macs > 400_000


def test_shapes_that_the_graph_computes():
    """Shape, Gather, Concat, Reshape: how exporters flatten a dynamic batch."""
    net = Net()
    x = net.conv(net.input("N", 4, 9, 11), 4, 6, 3)
    batch = net("Gather", net("Shape", x), np.array([0], np.int64))
    y = net("Reshape", x, net("Concat", batch, np.array([-1], np.int64), axis=0))
    model = net.model(net("Gemm", y, net.weights(6 * 7 * 9, 5)))
    gemm = next(layer for layer in ledger(without_shapes(model)).layers if layer.operator == "Gemm")
    assert (gemm.input_shapes, gemm.n_macs) == (((1, 378),), 378 * 5)


def test_what_cannot_be_counted_is_said():
    net = Net()
    x = net.input("N", 4, "height", "width")
    totals = ledger(without_shapes(net.model(net.conv(x, 4, 6, 3)))).totals()
    assert (totals.n_macs, totals.n_uncounted_layers, totals.n_params) == (0, 1, 222)


def test_constant_nodes_are_constants():
    weights = numpy_helper.from_array(np.ones((3, 4), np.float32))
    nodes = [
        helper.make_node("Constant", [], ["w"], value=weights),
        helper.make_node("MatMul", ["x", "t"], ["y"]),
        helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0]),
    ]
    nodes[1], nodes[2] = nodes[2], nodes[1]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])
    model = helper.make_model(helper.make_graph(nodes, "g", [x], [y]))
    contents = ledger(model)
    assert [layer.operator for layer in contents.layers] == ["Transpose", "MatMul"]
    totals = contents.totals()
    assert (totals.n_params, totals.n_macs, totals.weight_bytes) == (12, 2 * 3 * 4, 48)
    assert contents.bytes_by_kind["weights"] == 48
    assert sum(contents.bytes_by_kind.values()) == model.ByteSize()


def test_a_constant_that_two_layers_share_is_counted_at_the_first():
    net = Net()
    first = net("Conv", net.input(1, 4, 8, 8), net.weights(4, 4, 1, 1))
    model = net.model(net("Conv", first, net.nodes[0].input[1]))
    contents = ledger(model)
    assert [layer.n_params for layer in contents.layers] == [16, 0, 0]
    assert [layer.n_macs for layer in contents.layers] == [1024, 1024, 0]
    assert contents.bytes_by_kind["weights"] == contents.totals().weight_bytes == 64


def test_float_data_counts_like_raw_data():
    weights = helper.make_tensor("w", TensorProto.FLOAT, [4, 3], np.ones(12))
    assert weights.float_data
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])
    model = helper.make_model(helper.make_graph(nodes, "g", [x], [y], [weights]))
    contents = ledger(model)
    assert contents.bytes_by_kind["weights"] == contents.totals().weight_bytes == 48
    assert sum(contents.bytes_by_kind.values()) == model.ByteSize()


# Of networks whose graphs come with onnx; what their papers and torchvision say, where layers are the same.
KNOWN_MACS = {
    "light_bvlc_alexnet": 654_560_384,
    "light_inception_v1": 1_431_556_352,
    "light_resnet50": 4_089_184_256,
    "light_squeezenet": 349_151_936,
    "light_vgg19": 19_632_062_464,
}


@pytest.mark.parametrize("name", KNOWN_MACS)
def test_macs_of_known_networks(name):
    path = Path(onnx.__file__).with_name("backend") / "test" / "data" / "light" / f"{name}.onnx"
    totals = inspect(path).totals
    assert (totals.n_macs, totals.n_uncounted_layers) == (KNOWN_MACS[name], 0)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "tests" / "fixtures" / "qdq").glob("*.onnx")), ids=lambda p: p.stem
)
def test_files_of_other_quantizers(path):
    """The same network of 933 weights and biases, however a quantizer writes its scales and constants."""
    found = inspect(path)
    weighted = [layer for layer in found.layers if layer.operator in ("Conv", "Gemm")]
    assert sum(layer.n_params for layer in weighted) == 933
    assert found.totals.n_macs == 30_268
    is_mixed = "mixed" in path.stem
    assert all(layer.weights is not None and layer.weights.granularity for layer in weighted) or is_mixed
    # NNCF puts no nodes behind the pooling and the flatten, whose outputs have the scale of their inputs.
    assert sum(layer.inputs[0].scale is None for layer in weighted) <= 3 or is_mixed
    assert not [layer for layer in found.layers if layer.operator == "Identity"]


def test_qlinear_operators_are_layers_of_their_own():
    scale, zero = np.float32(0.5), np.int8(0)
    net = Net()
    x = net.input(1, 4, 8, 8, dtype=TensorProto.INT8)
    weights = np.ones((6, 4, 3, 3), np.int8)
    scales, zeros = np.ones(6, np.float32), np.zeros(6, np.int8)
    y = net("QLinearConv", x, scale, zero, weights, scales, zeros, scale, zero, np.zeros(6, np.int32))
    (layer,) = [one for one in ledger(net.model(y)).layers if one.operator == "QLinearConv"]
    assert (layer.n_params, layer.n_macs, layer.weight_bytes) == (222, 36 * 216, 216 + 24)
    assert layer.weights is not None and layer.weights.granularity == "per-channel"


@pytest.fixture
def external(tmp_path):
    (tmp_path / "folder").mkdir()
    path = tmp_path / "folder" / "model.onnx"
    onnx.save(lenet5(), path, save_as_external_data=True, location="model.data", size_threshold=0)
    return path


def test_external_data_is_weighed_where_it_lies(external):
    found = inspect(external)
    assert found.external_bytes == found.totals.weight_bytes == 4 * 61_706
    assert found.totals.n_params == 61_706
    assert "weights" not in found.bytes_by_kind
    assert sum(found.bytes_by_kind.values()) == external.stat().st_size


def test_external_data_that_is_missing_or_short(external):
    data = external.with_name("model.data")
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(UsageError, match="past the end"):
        inspect(external)
    data.unlink()
    with pytest.raises(UsageError, match=r"external data is missing: 'model\.data'") as caught:
        inspect(external)
    assert "one folder" in (caught.value.fix or "") and caught.value.exit_code == 2


@pytest.mark.parametrize("location", ["../model.data", "/etc/passwd", "", "a\0b", "..\\model.data"])
def test_external_data_outside_of_the_folder_is_not_looked_at(external, location):
    model = onnx.load(external, load_external_data=False)
    shutil.copy(external.with_name("model.data"), external.parent.parent)  # what it points to is there
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = location
    external.write_bytes(model.SerializeToString())
    with pytest.raises(UsageError, match="is missing" if "\0" in location else "outside of its folder"):
        inspect(external)


def test_data_types_are_those_of_onnx():
    ours = {"float32": "float", "float64": "double", "float8_e4m3fn": "float8e4m3fn"}
    for number, name in enumerate(DATA_TYPES):
        if number in TensorProto.DataType.values():
            theirs = TensorProto.DataType.Name(number).lower()
            assert ours.get(name, name).replace("float8_", "float8").replace("float4_", "float4") == theirs


@given(st.integers(-(2**63), 2**63 - 1))
def test_varints(value):
    entry = onnx.OperatorSetIdProto(version=value).SerializeToString()
    number, after = read_varint(entry, 1, len(entry))
    assert (signed(number), after) == (value, len(entry))
