"""The shapes and types of a node's outputs, by ONNX's own shape inference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.shape_inference import infer_node_outputs

from edgecnn.export.tflite.graph import Node, Value
from edgecnn.export.tflite.problems import Unsupported

# What shape inference may need to see of a constant: shapes, axes, pads, scales. Never weights.
_LARGEST_SHAPE_CONSTANT = 64


def inferred_outputs(proto: onnx.NodeProto, node: Node, opset: int, ir_version: int) -> list[Value]:
    """The outputs, with the shapes that ONNX's own inference gives."""
    types, data = {}, {}
    for name, value in zip(proto.input, node.inputs, strict=True):
        if value is None:
            continue
        dtype = np.dtype("float32" if value.quantization else value.dtype)
        types[name] = onnx.helper.make_tensor_type_proto(
            onnx.helper.np_dtype_to_tensor_dtype(dtype), value.shape
        )
        if value.data is not None and value.data.size <= _LARGEST_SHAPE_CONSTANT:
            data[name] = numpy_helper.from_array(np.ascontiguousarray(value.numbers()), name)
    try:
        schema = onnx.defs.get_schema(node.op, opset, "")
        inferred: Mapping[str, Any] = infer_node_outputs(
            schema, proto, types, data,
            opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=ir_version,
        )  # fmt: skip
    except Exception as fault:  # onnx raises its own and pybind's exceptions, of no common class  # noqa: BLE001
        raise Unsupported(f"its shape cannot be inferred ({str(fault).strip()})") from None
    outputs = [_typed_value(name, inferred.get(name)) for name in proto.output if name]
    if node.attributes.get("ceil_mode"):
        _drop_windows_beyond(node, outputs)
    return outputs


def _drop_windows_beyond(node: Node, outputs: list[Value]) -> None:
    """With `ceil_mode`, a window that would begin in the padding after the image is none.

    So PyTorch and onnxruntime have it; ONNX's own inference counts it before opset 19.
    """
    strides = node.attributes.get("strides", [1, 1])
    pads = node.attributes.get("pads", [0, 0, 0, 0])
    for value in outputs:
        shape = list(value.shape)
        for axis, (stride, before) in enumerate(zip(strides, pads, strict=False)):
            if (shape[2 + axis] - 1) * stride >= node.data_input().shape[2 + axis] + before:
                shape[2 + axis] -= 1
        value.shape = tuple(shape)


def _typed_value(name: str, type_proto: Any) -> Value:
    shape: list[int] = []
    known = type_proto is not None and type_proto.tensor_type.HasField("shape")
    if known:
        for dim in type_proto.tensor_type.shape.dim:
            known = known and dim.HasField("dim_value")
            shape.append(dim.dim_value)
    if not known:
        raise Unsupported(f"the shape of its output {name} depends on data")
    dtype = onnx.helper.tensor_dtype_to_np_dtype(type_proto.tensor_type.elem_type).name
    return Value(name, tuple(shape), dtype)
