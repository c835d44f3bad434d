"""What `onnx.proto` (IR version 13) says of a file, as far as the ledger reads it."""

from __future__ import annotations

from edgecnn.inspection.protobuf import FLOAT, FLOATS, NUMBER, NUMBERS, SPAN, TEXT, Schema

# Function bodies, training graphs and the like stay spans: their bytes count, nothing looks into them.
MESSAGES: Schema = {
    "Model": {
        1: ("ir_version", NUMBER), 2: ("producer_name", TEXT), 3: ("producer_version", TEXT),
        4: ("domain", TEXT), 5: ("model_version", NUMBER), 6: ("doc_string", TEXT), 7: ("graph", "Graph"),
        8: ("opset_import", "Opset"), 14: ("metadata_props", "Entry"), 20: ("training_info", SPAN),
        25: ("functions", "Function"), 26: ("configuration", SPAN),
    },
    "Opset": {1: ("domain", TEXT), 2: ("version", NUMBER)},
    "Entry": {1: ("key", TEXT), 2: ("value", TEXT)},
    "Function": {1: ("name", TEXT), 7: ("node", SPAN), 8: ("doc_string", TEXT), 10: ("domain", TEXT)},
    "Graph": {
        1: ("node", "Node"), 2: ("name", TEXT), 5: ("initializer", "Tensor"), 10: ("doc_string", TEXT),
        11: ("input", "Value"), 12: ("output", "Value"), 13: ("value_info", "Value"),
        14: ("quantization_annotation", SPAN), 15: ("sparse_initializer", "SparseTensor"),
        16: ("metadata_props", "Entry"),
    },
    "Node": {
        1: ("input", TEXT), 2: ("output", TEXT), 3: ("name", TEXT), 4: ("op_type", TEXT),
        5: ("attribute", "Attribute"), 6: ("doc_string", TEXT), 7: ("domain", TEXT), 8: ("overload", TEXT),
        9: ("metadata_props", "Entry"),
    },
    "Attribute": {
        1: ("name", TEXT), 2: ("f", FLOAT), 3: ("i", NUMBER), 4: ("s", TEXT), 5: ("t", "Tensor"),
        6: ("g", "Graph"), 7: ("floats", FLOATS), 8: ("ints", NUMBERS), 9: ("strings", SPAN),
        10: ("tensors", "Tensor"), 11: ("graphs", "Graph"), 13: ("doc_string", TEXT), 20: ("type", NUMBER),
    },
    "Value": {1: ("name", TEXT), 2: ("type", "Type"), 3: ("doc_string", TEXT), 4: ("metadata_props", "Entry")},
    "Type": {1: ("tensor_type", "TensorType")},
    "TensorType": {1: ("elem_type", NUMBER), 2: ("shape", "Shape")},
    "Shape": {1: ("dim", "Dim")},
    "Dim": {1: ("dim_value", NUMBER), 2: ("dim_param", TEXT)},
    "Tensor": {
        1: ("dims", NUMBERS), 2: ("data_type", NUMBER), 4: ("float_data", SPAN), 5: ("int32_data", SPAN),
        6: ("string_data", SPAN), 7: ("int64_data", SPAN), 8: ("name", TEXT), 9: ("raw_data", SPAN),
        10: ("double_data", SPAN), 11: ("uint64_data", SPAN), 12: ("doc_string", TEXT),
        13: ("external_data", "Entry"), 14: ("data_location", NUMBER), 16: ("metadata_props", "Entry"),
    },
    "SparseTensor": {1: ("values", "Tensor"), 2: ("indices", "Tensor"), 3: ("dims", NUMBERS)},
}  # fmt: skip

# Fields that hold the elements of a tensor.
DATA_FIELDS = (
    "raw_data",
    "float_data",
    "int32_data",
    "int64_data",
    "double_data",
    "uint64_data",
    "string_data",
)

_TYPES = """
    undefined float32 uint8 int8 uint16 int16 int32 int64 string bool float16 float64 uint32 uint64 complex64
    complex128 bfloat16 float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz uint4 int4 float4_e2m1
    float8_e8m0 uint2 int2
"""
DATA_TYPES = _TYPES.split()

# Bits of an element in `raw_data`; strings have no fixed size.
BITS = {
    "float32": 32, "uint8": 8, "int8": 8, "uint16": 16, "int16": 16, "int32": 32, "int64": 64, "bool": 8,
    "float16": 16, "float64": 64, "uint32": 32, "uint64": 64, "complex64": 64, "complex128": 128,
    "bfloat16": 16,
    "float8_e4m3fn": 8, "float8_e4m3fnuz": 8, "float8_e5m2": 8, "float8_e5m2fnuz": 8, "uint4": 4, "int4": 4,
    "float4_e2m1": 4, "float8_e8m0": 8, "uint2": 2, "int2": 2,
}  # fmt: skip

# What each input of an operator is: A activation, W weights, B bias, K a constant such as a shape, S a scale
# or zero point. A constant of an input that is not listed is a weight where it has several numbers that are
# floats or quantized, else K.
INPUT_ROLES = {
    "Conv": "AWB",
    "ConvTranspose": "AWB",
    "Gemm": "WWB",
    "MatMul": "WW",
    "PRelu": "AW",
    "Clip": "AKK",
    "Min": "KK",
    "Max": "KK",
    "Pad": "AKKK",
    "Resize": "AKKK",
    "Upsample": "AK",
    "Dropout": "AKK",
    "ConstantOfShape": "K",
    "QuantizeLinear": "ASS",
    "DequantizeLinear": "ASS",
    "QLinearConv": "ASSWSSSSB",
    "QLinearMatMul": "ASSWSSSS",
    "ConvInteger": "AWSS",
    "MatMulInteger": "AWSS",
}

# Constants pass through these to the layer that computes with them.
UNPACKING = frozenset(["DequantizeLinear", "QuantizeLinear", "Identity", "Cast"])

# Operators that multiply a number of times that is not known from shapes, or not counted here.
UNCOUNTED = frozenset(
    ["If", "Loop", "Scan", "SequenceMap", "LSTM", "GRU", "RNN", "Einsum", "Attention", "DeformConv"]
)

STANDARD_DOMAINS = ("", "ai.onnx")
