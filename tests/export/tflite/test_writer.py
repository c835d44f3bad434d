"""The bytes of the file: alignment, sharing, operator codes and versions."""

from __future__ import annotations

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from export.tflite.nets import lenet5, qdq

from edgecnn.export.tflite import convert
from edgecnn.export.tflite.model import Model, Operator, Quantization, Tensor
from edgecnn.export.tflite.schema import OPERATORS, OPTIONS, TENSOR_TYPES
from edgecnn.export.tflite.versions import lowest_version
from edgecnn.export.tflite.writer import write


def parsed(data: bytes) -> schema.ModelT:
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))


def tensor(*shape: int, dtype: str = "float32", scale: float | None = None, channels: int = 1) -> Tensor:
    quantization = None
    if scale is not None:
        axis = 0 if channels > 1 else None
        quantization = Quantization(np.full(channels, scale, np.float32), np.zeros(channels, np.int64), axis)
    return Tensor(shape, dtype, None, quantization)


@pytest.mark.parametrize("model", [lenet5(), qdq(lenet5())], ids=["float", "int8"])
def test_constants_lie_on_16_bytes(model):
    data = convert(model).data
    root = schema.Model.GetRootAs(data, 0)
    starts = [
        buffer._tab.Vector(flatbuffers.number_types.UOffsetTFlags.py_type(buffer._tab.Offset(4)))
        for buffer in map(root.Buffers, range(root.BuffersLength()))
        if buffer.DataLength()
    ]
    assert len(starts) >= 10
    assert all(start % 16 == 0 for start in starts)


def test_the_file_is_a_tflite_file():
    data = convert(lenet5()).data
    assert schema.Model.ModelBufferHasIdentifier(data, 0)
    model = parsed(data)
    assert model.version == 3
    assert model.buffers[0].data is None


def test_equal_constants_are_written_once():
    weights = np.arange(400, dtype=np.float32).reshape(20, 20)
    bias = np.zeros(20, np.float32)
    first, middle, last = tensor(1, 20), tensor(1, 20), tensor(1, 20)

    def layer(source: Tensor, target: Tensor, kernel: np.ndarray) -> Operator:
        constants = [Tensor((20, 20), "float32", kernel), Tensor((20,), "float32", bias)]
        return Operator("FULLY_CONNECTED", [source, *constants], [target])

    def size(second: np.ndarray) -> int:
        operators = [layer(first, middle, weights), layer(middle, last, second)]
        return len(write(Model(operators, [first], [last])))

    assert size(weights + 1) - size(weights.copy()) > weights.nbytes


def test_codes_above_127_are_written_for_old_and_new_readers():
    source, target = tensor(1, 4), tensor(1, 4)
    data = write(Model([Operator("GELU", [source], [target])], [source], [target]))
    (code,) = parsed(data).operatorCodes
    assert (code.deprecatedBuiltinCode, code.builtinCode) == (127, 150)
    for name, wanted in (("DEQUANTIZE", 6), ("CONV_2D", 3)):
        assert OPERATORS[name][0] == wanted


def test_the_schema_is_that_of_the_runtime():
    for name, (number, table) in OPERATORS.items():
        assert getattr(schema.BuiltinOperator, name) == number
        assert table is None or getattr(schema.BuiltinOptions, table) == OPTIONS[table][0]
    for name, number in TENSOR_TYPES.items():
        assert getattr(schema.TensorType, name.upper()) == number


OTHER_NAMES = {
    "activation": "fusedActivationFunction",
    "filter_w": "filterWidth",
    "filter_h": "filterHeight",
    "dilation_w": "dilationWFactor",
    "dilation_h": "dilationHFactor",
}


@pytest.mark.parametrize("code", [code for code, (_, table) in OPERATORS.items() if table])
def test_every_option_arrives_in_its_place(code):
    slots = OPTIONS[OPERATORS[code][1]][1]
    source, target = tensor(1, 4, 4, 4), tensor(1, 4, 4, 4)
    # Values that are no field's default and differ from each other where the field can hold them.
    values = {name: True if kind == "bool" else 2 + i for i, (name, (_, kind, _)) in enumerate(slots.items())}
    data = write(Model([Operator(code, [source, source], [target], values)], [source], [target]))
    found = vars(parsed(data).subgraphs[0].operators[0].builtinOptions)
    for name, value in values.items():
        first, *rest = name.split("_")
        camel = first + "".join(word.capitalize() for word in rest)
        assert found[OTHER_NAMES.get(name, camel)] == value


def test_int4_is_packed_low_nibble_first():
    weights = np.array([[1, -2, 3]], np.int8)
    small = Tensor((1, 3), "int4", weights, Quantization.per_tensor(0.1, 0))
    source, target = tensor(1, 3, dtype="int8", scale=0.1), tensor(1, 1, dtype="int8", scale=0.1)
    data = write(Model([Operator("FULLY_CONNECTED", [source, small, None], [target])], [source], [target]))
    stored = [buffer.data for buffer in parsed(data).buffers if buffer.data is not None]
    assert [list(map(int, array)) for array in stored] == [[0xE1, 0x03]]


INT8 = {"dtype": "int8", "scale": 0.1}
IMAGE, IMAGE8 = tensor(1, 8, 8, 4), tensor(1, 8, 8, 4, **INT8)
AXIS = Tensor((), "int32", np.array(3, np.int32))


@pytest.mark.parametrize(
    ("version", "operator"),
    [
        (1, Operator("CONV_2D", [IMAGE, tensor(6, 3, 3, 4), None], [IMAGE])),
        (3, Operator("CONV_2D", [IMAGE8, tensor(6, 3, 3, 4, **INT8), None], [IMAGE8])),
        (6, Operator("CONV_2D", [IMAGE, tensor(6, 3, 3, 2), None], [IMAGE])),
        (7, Operator("CONV_2D", [IMAGE8, tensor(6, 3, 3, 4, dtype="int4", scale=0.1), None], [IMAGE8])),
        (2, Operator("CONV_2D", [IMAGE, tensor(6, 3, 3, 4, **INT8), None], [IMAGE])),
        (5, Operator("CONV_2D", [IMAGE, tensor(6, 3, 3, 4, **INT8, channels=6), None], [IMAGE])),
        (1, Operator("DEPTHWISE_CONV_2D", [IMAGE, tensor(1, 3, 3, 4), None], [IMAGE])),
        (2, Operator("DEPTHWISE_CONV_2D", [IMAGE, tensor(1, 3, 3, 4), None], [IMAGE], {"dilation_w": 2})),
        (3, Operator("DEPTHWISE_CONV_2D", [IMAGE8, tensor(1, 3, 3, 4, **INT8), None], [IMAGE8])),
        (6, Operator("DEPTHWISE_CONV_2D", [IMAGE, tensor(1, 3, 3, 4, **INT8, channels=4), None], [IMAGE])),
        (1, Operator("FULLY_CONNECTED", [IMAGE, tensor(2, 4), None], [IMAGE])),
        (3, Operator("FULLY_CONNECTED", [IMAGE, tensor(2, 4, **INT8), None], [IMAGE])),
        (12, Operator("FULLY_CONNECTED", [IMAGE, tensor(2, 4, **INT8, channels=2), None], [IMAGE])),
        (4, Operator("FULLY_CONNECTED", [IMAGE8, tensor(2, 4, **INT8, channels=2), None], [IMAGE8])),
        (5, Operator("FULLY_CONNECTED", [IMAGE, tensor(2, 4), None], [IMAGE], {"keep_num_dims": True})),
        (6, Operator("FULLY_CONNECTED", [IMAGE, tensor(2, 4)], [IMAGE])),
        (10, Operator("FULLY_CONNECTED", [IMAGE8, tensor(2, 4, dtype="int4", scale=1), None], [IMAGE8])),
        (1, Operator("MUL", [IMAGE, IMAGE], [IMAGE])),
        (2, Operator("MUL", [IMAGE8, IMAGE8], [IMAGE8])),
        (3, Operator("MUL", [IMAGE8, tensor(1, dtype="int8", scale=1)], [IMAGE8])),
        (1, Operator("TRANSPOSE", [IMAGE, AXIS], [IMAGE])),
        (2, Operator("TRANSPOSE", [IMAGE8, AXIS], [IMAGE8])),
        (4, Operator("TRANSPOSE", [tensor(1, 2, 2, 4, 4), AXIS], [IMAGE])),
        (1, Operator("SPLIT", [AXIS, IMAGE], [IMAGE])),
        (2, Operator("SPLIT", [AXIS, IMAGE8], [IMAGE8])),
        (1, Operator("DEQUANTIZE", [tensor(4, dtype="uint8", scale=1)], [IMAGE])),
        (2, Operator("DEQUANTIZE", [IMAGE8], [IMAGE])),
        (3, Operator("DEQUANTIZE", [tensor(4, dtype="float16")], [IMAGE])),
        (5, Operator("DEQUANTIZE", [tensor(4, **INT8, channels=4)], [IMAGE])),
        (1, Operator("QUANTIZE", [IMAGE], [IMAGE8])),
        (1, Operator("QUANTIZE", [IMAGE8], [IMAGE8])),
        (1, Operator("TRANSPOSE_CONV", [AXIS, tensor(6, 3, 3, 4), IMAGE], [IMAGE])),
        (3, Operator("TRANSPOSE_CONV", [AXIS, tensor(6, 3, 3, 4), IMAGE, tensor(6)], [IMAGE])),
        (3, Operator("RESIZE_BILINEAR", [IMAGE, AXIS], [IMAGE], {"half_pixel_centers": True})),
        (1, Operator("RESIZE_BILINEAR", [IMAGE, AXIS], [IMAGE], {"align_corners": True})),
        (2, Operator("RESIZE_BILINEAR", [IMAGE8, AXIS], [IMAGE8])),
        (3, Operator("RESIZE_NEAREST_NEIGHBOR", [IMAGE8, AXIS], [IMAGE8], {"align_corners": True})),
        (3, Operator("SUB", [tensor(1, 2, 2, 2, 2), tensor(2)], [IMAGE])),
        (1, Operator("HARD_SWISH", [IMAGE8], [IMAGE8])),
        (1, Operator("LEAKY_RELU", [IMAGE8], [IMAGE8])),
        (1, Operator("PRELU", [IMAGE8, IMAGE8], [IMAGE8])),
        (1, Operator("RESHAPE", [IMAGE8, AXIS], [IMAGE8])),
        *((2, Operator(code, [IMAGE8], [IMAGE8])) for code in (
            "ADD", "SUB", "MAX_POOL_2D", "AVERAGE_POOL_2D", "CONCATENATION", "LOGISTIC", "TANH", "SOFTMAX",
            "MEAN", "REDUCE_MAX", "PAD", "PADV2", "MIRROR_PAD", "SLICE", "STRIDED_SLICE", "RELU", "RELU6",
            "MAXIMUM",
        )),
    ],
    ids=lambda value: f"{value.code}" if isinstance(value, Operator) else str(value),
)  # fmt: skip
def test_lowest_versions(version, operator):
    assert lowest_version(operator) == version
