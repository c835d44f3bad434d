"""Model files of a few hundred bytes: one fully connected layer over a 4 x 4 picture."""

from __future__ import annotations

import hashlib
from pathlib import Path

import flatbuffers
import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from onnx import TensorProto, helper, numpy_helper

from edgecnn.ondevice.manifest import Manifest, Preprocessing, TensorSpec

HEIGHT = WIDTH = 4
N_CLASSES = 3
CLASS_NAMES = ("top", "middle", "bottom")
INPUT_SCALE, INPUT_ZERO_POINT = 0.02, -10
WEIGHT_SCALE = 0.01
OUTPUT_SCALE, OUTPUT_ZERO_POINT = 0.03, 5


def preprocessing(channels: int = 1) -> Preprocessing:
    return Preprocessing(HEIGHT, WIDTH, channels, (0.4,) * channels, (0.3,) * channels)


def integer_weights(channels: int = 1) -> np.ndarray:
    """int8 [classes, height * width * channels], columns in NHWC order."""
    return np.random.default_rng(7).integers(-127, 128, (N_CLASSES, HEIGHT * WIDTH * channels)).astype(np.int8)


def float_weights(channels: int = 1) -> np.ndarray:
    return integer_weights(channels).astype(np.float32) * np.float32(WEIGHT_SCALE)


def random_images(n: int, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (n, HEIGHT, WIDTH, channels)).astype(np.uint8)


def expected_logits(images_nhwc: np.ndarray) -> np.ndarray:
    """What the float models compute, in float64."""
    channels = images_nhwc.shape[3]
    pre = preprocessing(channels)
    x = (images_nhwc / 255 - np.array(pre.mean)) / np.array(pre.std)
    return x.reshape(len(x), -1) @ float_weights(channels).astype(np.float64).T


def write_onnx(path: Path, channels: int = 1, batch: int | str = "batch", n_outputs: int = 1) -> Path:
    """Float32, NCHW in, logits out."""
    by_channel = float_weights(channels).reshape(N_CLASSES, HEIGHT, WIDTH, channels).transpose(0, 3, 1, 2)
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w"], ["logits"], transB=1),
    ]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, N_CLASSES])]
    for i in range(1, n_outputs):
        nodes.append(helper.make_node("Relu", ["logits"], [f"extra{i}"]))
        outputs.append(helper.make_tensor_value_info(f"extra{i}", TensorProto.FLOAT, [batch, N_CLASSES]))
    weights = numpy_helper.from_array(by_channel.reshape(N_CLASSES, -1).copy(), "w")
    return _save_onnx(path, nodes, [weights], outputs, TensorProto.FLOAT, [batch, channels, HEIGHT, WIDTH])


def write_qdq_onnx(path: Path) -> Path:
    """The int8 twin of `write_tflite(quantized=True)`: uint8 activations, float in, float logits out."""
    constants = {
        "xs": np.float32(INPUT_SCALE),
        "xz": np.uint8(INPUT_ZERO_POINT + 128),
        "ws": np.float32(WEIGHT_SCALE),
        "wz": np.int8(0),
        "ys": np.float32(OUTPUT_SCALE),
        "yz": np.uint8(OUTPUT_ZERO_POINT + 128),
        "w": integer_weights(),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["image", "xs", "xz"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "xs", "xz"], ["xd"]),
        helper.make_node("Flatten", ["xd"], ["flat"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"]),
        helper.make_node("Gemm", ["flat", "wd"], ["y"], transB=1),
        helper.make_node("QuantizeLinear", ["y", "ys", "yz"], ["yq"]),
        helper.make_node("DequantizeLinear", ["yq", "ys", "yz"], ["logits"]),
    ]
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", N_CLASSES])]
    return _save_onnx(path, nodes, initializers, outputs, TensorProto.FLOAT, ["batch", 1, HEIGHT, WIDTH])


def write_integer_input_onnx(path: Path) -> Path:
    """An ONNX model that takes uint8 steps: only a manifest can say what they mean."""
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["float"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w"], ["logits"], transB=1),
    ]
    weights = numpy_helper.from_array(np.eye(N_CLASSES, HEIGHT * WIDTH, dtype=np.float32), "w")
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", N_CLASSES])]
    return _save_onnx(path, nodes, [weights], outputs, TensorProto.UINT8, ["batch", 1, HEIGHT, WIDTH])


def write_two_input_onnx(path: Path) -> Path:
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in ("left", "right")]
    outputs = [helper.make_tensor_value_info("sum", TensorProto.FLOAT, [1, 2])]
    graph = helper.make_graph([helper.make_node("Add", ["left", "right"], ["sum"])], "g", inputs, outputs)
    onnx.save(_model(graph), path)
    return path


def _save_onnx(path: Path, nodes: list, initializers: list, outputs: list, dtype: int, shape: list) -> Path:
    image = helper.make_tensor_value_info("image", dtype, shape)
    onnx.save(_model(helper.make_graph(nodes, "g", [image], outputs, initializers)), path)
    return path


def _model(graph: onnx.GraphProto) -> onnx.ModelProto:
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def write_tflite(path: Path, quantized: bool, channels: int = 1) -> Path:
    """Float32, or int8 in and out: NHWC, batch 1, one FULLY_CONNECTED."""
    weights = integer_weights(channels) if quantized else float_weights(channels)
    dtype = schema.TensorType.INT8 if quantized else schema.TensorType.FLOAT32
    n_inputs = weights.shape[1]

    def tensor(name: str, shape: list[int], buffer: int, kind: int, scale: float, zero_point: int):
        made = schema.TensorT()
        made.name, made.shape, made.buffer, made.type = name, shape, buffer, kind
        if quantized:
            made.quantization = schema.QuantizationParametersT()
            made.quantization.scale = np.array([scale], np.float32)
            made.quantization.zeroPoint = np.array([zero_point], np.int64)
        return made

    bias_type = schema.TensorType.INT32 if quantized else dtype
    bias_bytes = np.zeros(N_CLASSES, np.int32 if quantized else np.float32).tobytes()
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0, 1, 2], [3]
    operator.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
    operator.builtinOptions = schema.FullyConnectedOptionsT()
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
    code.version = 4 if quantized else 1
    graph = schema.SubGraphT()
    graph.tensors = [
        tensor("image", [1, HEIGHT, WIDTH, channels], 0, dtype, INPUT_SCALE, INPUT_ZERO_POINT),
        tensor("w", [N_CLASSES, n_inputs], 1, dtype, WEIGHT_SCALE, 0),
        tensor("b", [N_CLASSES], 2, bias_type, np.float32(INPUT_SCALE) * np.float32(WEIGHT_SCALE), 0),
        tensor("logits", [1, N_CLASSES], 0, dtype, OUTPUT_SCALE, OUTPUT_ZERO_POINT),
    ]
    graph.inputs, graph.outputs, graph.operators = [0], [3], [operator]
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [graph]
    model.buffers = [schema.BufferT() for _ in range(3)]
    model.buffers[1].data = np.frombuffer(weights.tobytes(), np.uint8)
    model.buffers[2].data = np.frombuffer(bias_bytes, np.uint8)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def manifest_for(path: Path, precision: str = "fp32", channels: int = 1) -> Manifest:
    """What the build would write beside the file at `path`."""
    is_onnx = path.suffix == ".onnx"
    integer = precision == "int8" and not is_onnx
    dtype = "int8" if integer else "float32"
    shape = (0, channels, HEIGHT, WIDTH) if is_onnx else (1, HEIGHT, WIDTH, channels)
    input_scale = (INPUT_SCALE, INPUT_ZERO_POINT) if integer else (None, None)
    output_scale = (OUTPUT_SCALE, OUTPUT_ZERO_POINT) if integer else (None, None)
    return Manifest(
        format="onnx" if is_onnx else "tflite",
        precision=precision,
        variant="final",
        layout="NCHW" if is_onnx else "NHWC",
        preprocessing=preprocessing(channels),
        inputs=(TensorSpec("image", shape, dtype, *input_scale),),
        outputs=(TensorSpec("logits", (shape[0], N_CLASSES), dtype, *output_scale),),
        class_names=CLASS_NAMES,
        n_params=N_CLASSES * HEIGHT * WIDTH * channels,
        n_macs=N_CLASSES * HEIGHT * WIDTH * channels,
        size_bytes=path.stat().st_size,
        file_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        recipe_name="tiny",
        recipe_sha256="0" * 64,
    )
