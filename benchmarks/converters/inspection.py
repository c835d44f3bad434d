"""What a .tflite file holds, read by the schema that LiteRT ships: no code of ours takes part."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as schema

_OPERATORS = {number: name for name, number in vars(schema.BuiltinOperator).items() if name[0] != "_"}
_TYPES = {number: name.lower() for name, number in vars(schema.TensorType).items() if name[0] != "_"}


@dataclass(frozen=True)
class Port:
    """An input or output; `scale` is 0 where it is not quantized."""

    shape: tuple[int, ...]
    dtype: str
    scale: float
    zero_point: int

    def quantized(self, values: np.ndarray) -> np.ndarray:
        if not self.scale:
            return values.astype(self.dtype)
        limits = np.iinfo(self.dtype)
        integers = np.rint(values / self.scale) + self.zero_point
        return np.clip(integers, limits.min, limits.max).astype(self.dtype)

    def dequantized(self, values: np.ndarray) -> np.ndarray:
        return (values.astype(np.float32) - self.zero_point) * self.scale if self.scale else values


@dataclass(frozen=True)
class Contents:
    n_bytes: int
    operators: tuple[tuple[str, int], ...]
    """(name, version) of each, in order."""
    has_signature: bool
    dtypes: tuple[str, ...]
    input: Port
    output: Port

    @property
    def n_transposes(self) -> int:
        return sum(name == "TRANSPOSE" for name, _ in self.operators)

    @property
    def is_integer(self) -> bool:
        return not any(dtype.startswith("float") for dtype in self.dtypes)

    @property
    def operator_list(self) -> str:
        counts = Counter(self.operators)
        return ", ".join(f"{n} {name} v{version}" for (name, version), n in counts.items())


def inspect(data: bytes) -> Contents:
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    graph = model.subgraphs[0]
    codes = [
        (_OPERATORS[max(code.builtinCode, code.deprecatedBuiltinCode)], code.version)
        for code in model.operatorCodes
    ]
    return Contents(
        n_bytes=len(data),
        operators=tuple(codes[operator.opcodeIndex] for operator in graph.operators),
        has_signature=bool(model.signatureDefs),
        dtypes=tuple(sorted({_TYPES[tensor.type] for tensor in graph.tensors})),
        input=_port(graph.tensors[graph.inputs[0]]),
        output=_port(graph.tensors[graph.outputs[0]]),
    )


def _port(tensor: schema.TensorT) -> Port:
    quantization = tensor.quantization
    is_quantized = quantization is not None and quantization.scale is not None and len(quantization.scale) > 0
    scale, zero_point = (quantization.scale[0], quantization.zeroPoint[0]) if is_quantized else (0.0, 0)
    return Port(tuple(map(int, tensor.shape)), _TYPES[tensor.type], float(scale), int(zero_point))
