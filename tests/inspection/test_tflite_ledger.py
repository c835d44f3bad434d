"""The ledger of .tflite files: layers as the converter wrote them, and every byte accounted for."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema
from export.tflite.nets import Net, lenet5, qdq
from export.tflite.running import operators
from inspection.flat_files import everything_model, filled, packed, small_model

from edgecnn.export import cost
from edgecnn.export.tflite import convert
from edgecnn.inspection import Inspection, inspect
from edgecnn.inspection.tflite_schema import OPERATOR_NAMES, TENSOR_TYPES


@pytest.fixture
def inspected(tmp_path):
    def of(data: bytes | onnx.ModelProto, name: str = "model") -> Inspection:
        path = tmp_path / name
        path.write_bytes(data if isinstance(data, bytes) else data.SerializeToString())
        return inspect(path)

    return of


def lenet_tflite(quantized: bool, **options) -> bytes:
    return convert(qdq(lenet5()) if quantized else lenet5(), **options).data


@pytest.mark.parametrize("quantized", [False, True], ids=["float", "int8"])
def test_lenet_costs_the_same_in_both_formats(inspected, quantized):
    model = qdq(lenet5()) if quantized else lenet5()
    counted = cost.count(lenet5())
    of_onnx, of_tflite = inspected(model), inspected(convert(model).data)
    for totals in (of_onnx.totals, of_tflite.totals):
        assert (totals.n_params, totals.n_macs, totals.n_uncounted_layers) == (61_706, counted.n_macs, 0)
    assert counted.n_params == 61_706
    assert of_tflite.totals.weight_bytes == (61_470 + 4 * 236 if quantized else 4 * 61_706)
    assert of_onnx.totals.weight_bytes == of_tflite.totals.weight_bytes


def test_what_it_says_of_each_layer(inspected):
    ledger = inspected(lenet_tflite(quantized=True))
    assert [(layer.operator, layer.version) for layer in ledger.layers] == operators(
        lenet_tflite(quantized=True)
    )
    first, pool, *_, last = ledger.layers
    assert (first.input_shapes, first.output_shapes) == (((1, 28, 28, 1),), ((1, 28, 28, 6),))
    assert (first.n_params, first.n_macs, first.weight_bytes) == (156, 28 * 28 * 6 * 25, 150 + 4 * 6)
    assert first.weights is not None and last.weights is not None and pool.weights is None
    assert (first.weights.shape, first.weights.dtype, first.weights.granularity, first.weights.bias_dtype) == (
        (6, 5, 5, 1), "int8", "per-channel", "int32",
    )  # fmt: skip
    assert last.weights.granularity == "per-tensor"
    assert (last.name, last.outputs[0].shape) == ("output", (1, 10))
    conversion = convert(qdq(lenet5()))
    assert last.outputs[0].scale == conversion.outputs[0].scale
    assert (ledger.inputs[0].scale, ledger.inputs[0].zero_point) == (
        conversion.inputs[0].scale,
        conversion.inputs[0].zero_point,
    )
    assert inspected(lenet_tflite(quantized=False)).layers[0].activation == "RELU"


@pytest.mark.parametrize(
    "options",
    [{}, {"debug_names": True}, {"signature": True}, {"weights": "int8"}, {"weights": "float16"}],
    ids=str,
)
def test_every_byte_is_counted_once(inspected, options):
    data = lenet_tflite(quantized=False, **options)
    ledger = inspected(data)
    kinds = ledger.bytes_by_kind
    assert sum(kinds.values()) == ledger.size_bytes == len(data)
    assert kinds["weights"] + kinds["biases"] == ledger.totals.weight_bytes
    constants = kinds["weights"] + kinds["biases"] + kinds.get("constants", 0)
    assert constants == cost.tflite_weight_bytes(data)
    assert not {"unreferenced", "unused_buffers"} & kinds.keys()
    assert ("signatures" in kinds) == ("signature" in options)
    assert ledger.totals.n_params == 61_706


def test_float16_weights_belong_to_the_layer_that_computes_with_them(inspected):
    layers = inspected(lenet_tflite(quantized=False, weights="float16")).layers
    unpacking = [layer for layer in layers if layer.operator == "DEQUANTIZE"]
    assert unpacking and not any(layer.n_params or layer.weight_bytes for layer in unpacking)
    dense = layers[-1]
    assert (
        dense.weights is not None
        and dense.weights.dtype == "float16"
        and dense.weight_bytes == 2 * 840 + 4 * 10
    )
    assert [tensor.shape for tensor in dense.inputs] == [(1, 84)]


def test_int4_weights_are_half_a_byte(inspected):
    ledger = inspected(convert(qdq(lenet5()), weights="int4").data)
    weights = sum(prod for prod in (150, 2400, 48_000, 10_080, 840)) // 2
    assert ledger.bytes_by_kind["weights"] <= weights + 5
    assert ledger.totals.n_params == 61_706


def test_names_are_named(inspected):
    with_names = inspected(lenet_tflite(quantized=False, debug_names=True))
    without = inspected(lenet_tflite(quantized=False))
    assert with_names.bytes_by_kind["names"] > 3 * without.bytes_by_kind["names"]
    growth = {kind: n - without.bytes_by_kind.get(kind, 0) for kind, n in with_names.bytes_by_kind.items()}
    assert max(growth, key=growth.__getitem__) == "names"


def test_nothing_of_the_schema_is_overlooked(inspected):
    """A file with every optional table has no byte that nothing refers to."""
    data = packed(everything_model())
    ledger = inspected(data)
    kinds = ledger.bytes_by_kind
    assert sum(kinds.values()) == len(data)
    assert "unreferenced" not in kinds
    assert kinds["weights"] == 48 and kinds["signatures"] > 30 and kinds["quantization"] > 40
    assert kinds["metadata"] >= len("a note" + "NOTE" + "made by a test")
    assert ledger.producer == "made by a test"
    assert ledger.inputs[0].shape == (None, 4) and ledger.layers[0].input_shapes == ((1, 4),)
    assert ledger.layers[0].weights is not None and ledger.layers[0].weights.granularity == "blockwise"


OPTION_TABLES = [
    (field, name)
    for field, union in (("builtinOptions", schema.BuiltinOptions), ("builtinOptions2", schema.BuiltinOptions2))
    for name in vars(union)
    if name[0].isupper() and name != "NONE"
]


@pytest.mark.parametrize(("field", "name"), OPTION_TABLES, ids=[name for _, name in OPTION_TABLES])
def test_option_tables_are_read_whole(inspected, field, name):
    model = small_model()
    operator = model.subgraphs[0].operators[0]
    union = schema.BuiltinOptions if field == "builtinOptions" else schema.BuiltinOptions2
    setattr(operator, field, filled(getattr(schema, name + "T")()))
    setattr(operator, f"{field}Type", getattr(union, name))
    data = packed(model)
    kinds = inspected(data).bytes_by_kind
    assert sum(kinds.values()) == len(data) and "unreferenced" not in kinds


def test_names_of_operators_and_types_are_those_of_the_schema():
    codes = {number: name for name, number in vars(schema.BuiltinOperator).items() if name[0].isupper()}
    # The schema of an older LiteRT ends earlier.
    different = {i for i, name in enumerate(OPERATOR_NAMES) if codes.get(i, name) != name}
    assert different == {schema.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES}
    assert set(codes) <= set(range(len(OPERATOR_NAMES)))
    types = {number: name.lower() for name, number in vars(schema.TensorType).items() if name[0].isupper()}
    assert list(types.values()) == TENSOR_TYPES[: len(types)] and sorted(types) == list(range(len(types)))


def test_custom_operators_are_listed_and_not_counted(inspected):
    ledger = inspected(packed(small_model()))
    assert [(layer.operator, layer.n_macs) for layer in ledger.layers] == [
        ("FULLY_CONNECTED", 12), ("CUSTOM:Detect", None),
    ]  # fmt: skip
    assert (ledger.totals.n_macs, ledger.totals.n_uncounted_layers) == (12, 1)


def test_what_lies_in_the_file_for_nothing_is_said(inspected):
    model = small_model()
    unused = schema.BufferT()
    unused.data = np.arange(100, dtype=np.uint8)
    model.buffers.append(unused)
    kinds = inspected(packed(model) + b"trailing bytes" * 10).bytes_by_kind
    assert kinds["unused_buffers"] == 100 and kinds["unreferenced"] == 140
    assert inspected(packed(model) + b"PK\x03\x04" + b"labels" * 10).bytes_by_kind["appended_files"] == 64


def test_a_buffer_shared_by_two_layers_is_counted_once(inspected):
    net = Net()
    x = net.input(1, 4, 8, 8)
    weights = net.weights(4, 4, 1, 1)
    model = net.model(net("Conv", net("Relu", net("Conv", x, weights)), weights))
    ledger = inspected(convert(model).data)
    first, second = ledger.layers
    assert (first.n_macs, second.n_macs) == (1024, 1024)
    assert first.weight_bytes > 0 and second.weight_bytes == 0
    assert ledger.bytes_by_kind["weights"] == 64


@pytest.mark.parametrize("case", ["grouped", "depthwise", "transposed", "matmul"])
def test_macs_of_other_operators_agree(inspected, case):
    net = Net()
    x = net.input(1, 4, 9, 11)
    made = {
        "grouped": lambda: net.conv(x, 4, 6, 3, group=2),
        "depthwise": lambda: net.conv(x, 4, 8, 3, group=4, pads=[1] * 4),
        "transposed": lambda: net("ConvTranspose", x, net.weights(4, 3, 3, 3), strides=[2, 2]),
        "matmul": lambda: net("MatMul", x, net("Transpose", x, perm=[0, 1, 3, 2])),
    }
    model = net.model(made[case]())
    wanted = cost.count(model).n_macs
    assert wanted > 0
    assert inspected(model).totals.n_macs == inspected(convert(model).data).totals.n_macs == wanted
