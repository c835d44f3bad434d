"""The part of the TFLite FlatBuffer schema that the converter writes: operators, option tables, types.

Source: `schema.fbs` of TensorFlow Lite (schema version 3). Numbers and field slots there never change.
Kept here as data, so that converting needs no runtime and no 20,000 lines of generated code.
"""

from __future__ import annotations

SCHEMA_VERSION = 3
FILE_IDENTIFIER = b"TFL3"

TENSOR_TYPES = {
    "float32": 0,
    "float16": 1,
    "int32": 2,
    "uint8": 3,
    "int64": 4,
    "bool": 6,
    "int16": 7,
    "int8": 9,
    "int4": 17,
}

ACTIVATIONS = {"NONE": 0, "RELU": 1, "RELU_N1_TO_1": 2, "RELU6": 3}
PADDINGS = {"SAME": 0, "VALID": 1}

# Each field: (slot, FlatBuffer kind, default).
Field = tuple[int, str, int | float]

OPTIONS: dict[str, tuple[int, dict[str, Field]]] = {
    "Conv2DOptions": (
        1,
        {
            "padding": (0, "int8", 0),
            "stride_w": (1, "int32", 0),
            "stride_h": (2, "int32", 0),
            "activation": (3, "int8", 0),
            "dilation_w": (4, "int32", 1),
            "dilation_h": (5, "int32", 1),
        },
    ),
    "DepthwiseConv2DOptions": (
        2,
        {
            "padding": (0, "int8", 0),
            "stride_w": (1, "int32", 0),
            "stride_h": (2, "int32", 0),
            "depth_multiplier": (3, "int32", 0),
            "activation": (4, "int8", 0),
            "dilation_w": (5, "int32", 1),
            "dilation_h": (6, "int32", 1),
        },
    ),
    "Pool2DOptions": (
        5,
        {
            "padding": (0, "int8", 0),
            "stride_w": (1, "int32", 0),
            "stride_h": (2, "int32", 0),
            "filter_w": (3, "int32", 0),
            "filter_h": (4, "int32", 0),
            "activation": (5, "int8", 0),
        },
    ),
    "FullyConnectedOptions": (
        8,
        {
            "activation": (0, "int8", 0),
            "keep_num_dims": (2, "bool", 0),
            "asymmetric_quantize_inputs": (3, "bool", 0),
        },
    ),
    "SoftmaxOptions": (9, {"beta": (0, "float32", 0.0)}),
    "ConcatenationOptions": (10, {"axis": (0, "int32", 0), "activation": (1, "int8", 0)}),
    "AddOptions": (11, {"activation": (0, "int8", 0)}),
    "SpaceToDepthOptions": (19, {"block_size": (0, "int32", 0)}),
    "ResizeBilinearOptions": (15, {"align_corners": (2, "bool", 0), "half_pixel_centers": (3, "bool", 0)}),
    "MulOptions": (21, {"activation": (0, "int8", 0)}),
    "GatherOptions": (23, {"axis": (0, "int32", 0)}),
    "ReducerOptions": (27, {"keep_dims": (0, "bool", 0)}),
    "SubOptions": (28, {"activation": (0, "int8", 0)}),
    "DivOptions": (29, {"activation": (0, "int8", 0)}),
    "StridedSliceOptions": (
        32,
        {
            "begin_mask": (0, "int32", 0),
            "end_mask": (1, "int32", 0),
            "ellipsis_mask": (2, "int32", 0),
            "new_axis_mask": (3, "int32", 0),
            "shrink_axis_mask": (4, "int32", 0),
        },
    ),
    "SplitOptions": (35, {"num_splits": (0, "int32", 0)}),
    "ArgMaxOptions": (40, {"output_type": (0, "int8", 0)}),
    "TransposeConvOptions": (
        49,
        {
            "padding": (0, "int8", 0),
            "stride_w": (1, "int32", 0),
            "stride_h": (2, "int32", 0),
            "activation": (3, "int8", 0),
        },
    ),
    "ArgMinOptions": (57, {"output_type": (0, "int8", 0)}),
    "ResizeNearestNeighborOptions": (
        74,
        {"align_corners": (0, "bool", 0), "half_pixel_centers": (1, "bool", 0)},
    ),
    "LeakyReluOptions": (75, {"alpha": (0, "float32", 0.0)}),
    "MirrorPadOptions": (77, {"mode": (0, "int8", 0)}),
    "SplitVOptions": (79, {"num_splits": (0, "int32", 0)}),
    "DepthToSpaceOptions": (94, {"block_size": (0, "int32", 0)}),
    "BatchMatMulOptions": (101, {"adj_x": (0, "bool", 0), "adj_y": (1, "bool", 0)}),
    "GeluOptions": (116, {"approximate": (0, "bool", 0)}),
}

# The runtimes take a missing option table for zeros, which here is a mode that does not exist.
NEEDS_OPTIONS = frozenset(["MIRROR_PAD"])

# Operator -> (builtin code, option table). Operators whose options hold nothing we set have no table:
# every runtime takes a missing table for the defaults.
OPERATORS: dict[str, tuple[int, str | None]] = {
    "ADD": (0, "AddOptions"),
    "AVERAGE_POOL_2D": (1, "Pool2DOptions"),
    "CONCATENATION": (2, "ConcatenationOptions"),
    "CONV_2D": (3, "Conv2DOptions"),
    "DEPTHWISE_CONV_2D": (4, "DepthwiseConv2DOptions"),
    "DEPTH_TO_SPACE": (5, "DepthToSpaceOptions"),
    "DEQUANTIZE": (6, None),
    "FLOOR": (8, None),
    "FULLY_CONNECTED": (9, "FullyConnectedOptions"),
    "LOGISTIC": (14, None),
    "MAX_POOL_2D": (17, "Pool2DOptions"),
    "MUL": (18, "MulOptions"),
    "RELU": (19, None),
    "RELU_N1_TO_1": (20, None),
    "RELU6": (21, None),
    "RESHAPE": (22, None),
    "RESIZE_BILINEAR": (23, "ResizeBilinearOptions"),
    "SOFTMAX": (25, "SoftmaxOptions"),
    "SPACE_TO_DEPTH": (26, "SpaceToDepthOptions"),
    "TANH": (28, None),
    "PAD": (34, None),
    "GATHER": (36, "GatherOptions"),
    "TRANSPOSE": (39, None),
    "MEAN": (40, "ReducerOptions"),
    "SUB": (41, "SubOptions"),
    "DIV": (42, "DivOptions"),
    "STRIDED_SLICE": (45, "StridedSliceOptions"),
    "EXP": (47, None),
    "SPLIT": (49, "SplitOptions"),
    "LOG_SOFTMAX": (50, None),
    "CAST": (53, None),
    "PRELU": (54, None),
    "MAXIMUM": (55, None),
    "ARG_MAX": (56, "ArgMaxOptions"),
    "MINIMUM": (57, None),
    "LESS": (58, None),
    "NEG": (59, None),
    "PADV2": (60, None),
    "GREATER": (61, None),
    "GREATER_EQUAL": (62, None),
    "LESS_EQUAL": (63, None),
    "SLICE": (65, None),
    "SIN": (66, None),
    "TRANSPOSE_CONV": (67, "TransposeConvOptions"),
    "EQUAL": (71, None),
    "LOG": (73, None),
    "SUM": (74, "ReducerOptions"),
    "SQRT": (75, None),
    "POW": (78, None),
    "ARG_MIN": (79, "ArgMinOptions"),
    "REDUCE_PROD": (81, "ReducerOptions"),
    "REDUCE_MAX": (82, "ReducerOptions"),
    "LOGICAL_OR": (84, None),
    "LOGICAL_AND": (86, None),
    "LOGICAL_NOT": (87, None),
    "REDUCE_MIN": (89, "ReducerOptions"),
    "RESIZE_NEAREST_NEIGHBOR": (97, "ResizeNearestNeighborOptions"),
    "LEAKY_RELU": (98, "LeakyReluOptions"),
    "MIRROR_PAD": (100, "MirrorPadOptions"),
    "ABS": (101, None),
    "SPLIT_V": (102, "SplitVOptions"),
    "CEIL": (104, None),
    "COS": (108, None),
    "ELU": (111, None),
    "QUANTIZE": (114, None),
    "ROUND": (116, None),
    "HARD_SWISH": (117, None),
    "SELECT_V2": (123, None),
    "BATCH_MATMUL": (126, "BatchMatMulOptions"),
    "BROADCAST_TO": (130, None),
    "GELU": (150, "GeluOptions"),
}
