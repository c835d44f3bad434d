"""What `schema.fbs` of TensorFlow Lite (schema version 3) says of a file, as far as the ledger reads it.

Numbers and field slots there never change, so tables of a newer schema are read as far as they are known.
"""

from __future__ import annotations

from edgecnn.export.tflite import schema as written

# Builtin code = position.
_OPERATORS = """
    ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE EMBEDDING_LOOKUP
    FLOOR FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D LOCAL_RESPONSE_NORMALIZATION LOGISTIC
    LSH_PROJECTION LSTM MAX_POOL_2D MUL RELU RELU_N1_TO_1 RELU6 RESHAPE RESIZE_BILINEAR RNN SOFTMAX
    SPACE_TO_DEPTH SVDF TANH CONCAT_EMBEDDINGS SKIP_GRAM CALL CUSTOM EMBEDDING_LOOKUP_SPARSE PAD
    UNIDIRECTIONAL_SEQUENCE_RNN GATHER BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND TRANSPOSE MEAN SUB DIV SQUEEZE
    UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE BIDIRECTIONAL_SEQUENCE_RNN EXP TOPK_V2 SPLIT LOG_SOFTMAX
    DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM CAST PRELU MAXIMUM ARG_MAX MINIMUM LESS NEG PADV2 GREATER
    GREATER_EQUAL LESS_EQUAL SELECT SLICE SIN TRANSPOSE_CONV SPARSE_TO_DENSE TILE EXPAND_DIMS EQUAL
    NOT_EQUAL LOG SUM SQRT RSQRT SHAPE POW ARG_MIN FAKE_QUANT REDUCE_PROD REDUCE_MAX PACK LOGICAL_OR ONE_HOT
    LOGICAL_AND LOGICAL_NOT UNPACK REDUCE_MIN FLOOR_DIV REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD RANGE
    RESIZE_NEAREST_NEIGHBOR LEAKY_RELU SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL REVERSE_V2
    ADD_N GATHER_ND COS WHERE RANK ELU REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG ROUND
    HARD_SWISH IF WHILE NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 SCATTER_ND SELECT_V2 DENSIFY
    SEGMENT_SUM BATCH_MATMUL PLACEHOLDER CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D IMAG REAL COMPLEX_ABS
    HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL CONV_3D_TRANSPOSE VAR_HANDLE
    READ_VARIABLE ASSIGN_VARIABLE BROADCAST_ARGS RANDOM_STANDARD_NORMAL BUCKETIZE RANDOM_UNIFORM MULTINOMIAL
    GELU DYNAMIC_UPDATE_SLICE RELU_0_TO_1 UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_SUM
    ATAN2 UNSORTED_SEGMENT_MIN SIGN BITCAST BITWISE_XOR RIGHT_SHIFT STABLEHLO_LOGISTIC STABLEHLO_ADD
    STABLEHLO_DIVIDE STABLEHLO_MULTIPLY STABLEHLO_MAXIMUM STABLEHLO_RESHAPE STABLEHLO_CLAMP
    STABLEHLO_CONCATENATE STABLEHLO_BROADCAST_IN_DIM STABLEHLO_CONVOLUTION STABLEHLO_SLICE
    STABLEHLO_CUSTOM_CALL STABLEHLO_REDUCE STABLEHLO_ABS STABLEHLO_AND STABLEHLO_COSINE
    STABLEHLO_EXPONENTIAL STABLEHLO_FLOOR STABLEHLO_LOG STABLEHLO_MINIMUM STABLEHLO_NEGATE STABLEHLO_OR
    STABLEHLO_POWER STABLEHLO_REMAINDER STABLEHLO_RSQRT STABLEHLO_SELECT STABLEHLO_SUBTRACT STABLEHLO_TANH
    STABLEHLO_SCATTER STABLEHLO_COMPARE STABLEHLO_CONVERT STABLEHLO_DYNAMIC_SLICE
    STABLEHLO_DYNAMIC_UPDATE_SLICE STABLEHLO_PAD STABLEHLO_IOTA STABLEHLO_DOT_GENERAL
    STABLEHLO_REDUCE_WINDOW STABLEHLO_SORT STABLEHLO_WHILE STABLEHLO_GATHER STABLEHLO_TRANSPOSE DILATE
    STABLEHLO_RNG_BIT_GENERATOR REDUCE_WINDOW STABLEHLO_COMPOSITE STABLEHLO_SHIFT_LEFT STABLEHLO_CBRT
    STABLEHLO_CASE
"""
OPERATOR_NAMES = _OPERATORS.split()

_TYPES = """
    float32 float16 int32 uint8 int64 string bool int16 complex64 int8 float64 complex128 uint64 resource
    variant uint32 uint16 int4 bfloat16 int2 uint4 float8_e4m3fn float8_e5m2
"""
TENSOR_TYPES = _TYPES.split()

# Bits of an element; strings, resources and variants have no fixed size.
BITS = {
    "float32": 32, "float16": 16, "int32": 32, "uint8": 8, "int64": 64, "bool": 8, "int16": 16, "complex64": 64,
    "int8": 8, "float64": 64, "complex128": 128, "uint64": 64, "uint32": 32, "uint16": 16, "int4": 4,
    "bfloat16": 16, "int2": 2, "uint4": 4, "float8_e4m3fn": 8, "float8_e5m2": 8,
}  # fmt: skip

FUSED_ACTIVATIONS = (None, "RELU", "RELU_N1_TO_1", "RELU6", "TANH", "SIGN_BIT")

# Number of an option table -> the slot of its fused activation.
ACTIVATION_SLOTS = {
    number: fields["activation"][0] for number, fields in written.OPTIONS.values() if "activation" in fields
}

# Number of an option table -> {slot: struct format of the vector there, "text" for a string}. All other fields
# are scalars, which lie in the table itself.
OPTION_VECTORS: dict[int, dict[int, str]] = {
    3: {1: "i", 2: "i"},  # ConcatEmbeddings
    8: {5: "B"},  # FullyConnected
    17: {0: "i"},  # Reshape
    30: {0: "i"},  # Squeeze
    111: {0: "text", 1: "text"},  # VarHandle
    115: {0: "f"},  # Bucketize
}
# The same for the second union of option tables (StableHLO).
OPTION_2_VECTORS: dict[int, dict[int, str]] = {
    2: {0: "q"},
    3: {0: "q", 1: "q", 2: "q"},
    4: {0: "q", 1: "q", 2: "q", 3: "q", 4: "?", 7: "q", 10: "q", 13: "q", 16: "I"},
    5: {0: "text", 2: "text", 4: "i", 5: "B"},
    6: {0: "q"},
    7: {1: "q", 2: "q", 3: "q"},
    9: {0: "q"},
    10: {0: "q", 1: "q", 2: "q"},
    12: {0: "q", 1: "q", 2: "q", 3: "q", 4: "I"},
    13: {0: "q", 1: "q", 2: "q", 3: "q", 4: "q"},
    16: {0: "q", 1: "q", 2: "q", 4: "q"},
    17: {0: "q"},
    21: {0: "text", 2: "B"},
    23: {0: "i"},
}

# What each input of an operator is: A activation, W weights, B bias, K a constant such as a shape. A constant
# of an input that is not listed is a weight where it has several numbers (floats or quantized), else K.
INPUT_ROLES = {
    "CONV_2D": "AWB",
    "DEPTHWISE_CONV_2D": "AWB",
    "CONV_3D": "AWB",
    "FULLY_CONNECTED": "AWB",
    "TRANSPOSE_CONV": "KWAB",
    "CONV_3D_TRANSPOSE": "KWAB",
    "BATCH_MATMUL": "WW",
    "PRELU": "AW",
    "PADV2": "AKK",
    "MAXIMUM": "KK",
    "MINIMUM": "KK",
}

# Constants pass through these to the layer that computes with them.
UNPACKING = frozenset(["DEQUANTIZE", "DENSIFY"])

# Operators that multiply a number of times that is not known from shapes, or not counted here.
_UNCOUNTED = """
    CALL CALL_ONCE CUSTOM DELEGATE IF WHILE LSTM RNN SVDF UNIDIRECTIONAL_SEQUENCE_RNN
    UNIDIRECTIONAL_SEQUENCE_LSTM BIDIRECTIONAL_SEQUENCE_RNN BIDIRECTIONAL_SEQUENCE_LSTM STABLEHLO_CONVOLUTION
    STABLEHLO_DOT_GENERAL STABLEHLO_CUSTOM_CALL STABLEHLO_WHILE STABLEHLO_CASE STABLEHLO_COMPOSITE
    STABLEHLO_REDUCE_WINDOW
"""
UNCOUNTED = frozenset(_UNCOUNTED.split())
