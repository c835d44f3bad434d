"""The ledger of a .tflite file: its layers, and what every byte is for."""

from __future__ import annotations

from collections import Counter

from edgecnn.inspection import tflite_schema as schema
from edgecnn.inspection.ledger import (
    BIASES,
    CONSTANTS,
    WEIGHTS,
    Contents,
    Layer,
    TensorInfo,
    Weights,
    corrupt,
    n_elements,
    product,
    sorted_kinds,
)
from edgecnn.inspection.tflite_tables import METADATA, Model, Operator, SubGraph, Tensor, read_model

UNUSED = "unused_buffers"

# Of a buffer that serves several tensors, what it is for: the first of these.
_ROLE_ORDER = (WEIGHTS, BIASES, CONSTANTS)
_ROLES = {"W": WEIGHTS, "B": BIASES, "K": CONSTANTS, "A": WEIGHTS}


def read_tflite(data: bytes) -> Contents:
    """What a .tflite file holds. Raises UsageError where it is corrupt."""
    model = read_model(data)
    scan = _Scan(model)
    layers = tuple(
        scan.layer(number, subgraph, index, operator)
        for number, subgraph in enumerate(model.subgraphs)
        for index, operator in enumerate(subgraph.operators)
    )
    main = model.subgraphs[0]
    _mark_buffers(model, scan.roles)
    return Contents(
        format="tflite",
        producer=model.description or None,
        inputs=tuple(main.tensors[index].info(is_open=True) for index in main.inputs),
        outputs=tuple(main.tensors[index].info(is_open=True) for index in main.outputs),
        layers=layers,
        bytes_by_kind=sorted_kinds(Counter(model.reader.bytes_by_kind())),
    )


def _mark_buffers(model: Model, roles: dict[int, str]) -> None:
    """Those with a role first: of buffers that share their bytes, the one that is used tells what for."""
    for index, buffer in sorted(enumerate(model.buffers), key=lambda entry: entry[0] not in roles):
        kind = roles.get(index) or (METADATA if index in model.metadata_buffers else UNUSED)
        model.reader.mark(buffer.start, buffer.start + buffer.n_bytes, kind)


class _Scan:
    """Goes over the operators once; a constant belongs to the first layer that computes with it."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.roles: dict[int, str] = {}
        self._counted_tensors: set[Tensor] = set()
        self._counted_ranges: set[tuple[int, int]] = set()
        # Results of operators that only unpack a constant -> the constant.
        self._unpacked: dict[Tensor, Tensor] = {}

    def layer(self, number: int, subgraph: SubGraph, index: int, operator: Operator) -> Layer:
        inputs = [subgraph.tensors[i] if i >= 0 else None for i in operator.inputs]
        outputs = [subgraph.tensors[i] for i in operator.outputs if i >= 0]
        constants = self._constants(operator, inputs, outputs)
        return Layer(
            index=index,
            subgraph=number,
            operator=operator.code,
            domain=None,
            version=operator.version,
            name=(outputs[0].name or None) if outputs else None,
            inputs=self._activations(inputs),
            outputs=tuple(tensor.info() for tensor in outputs),
            n_params=sum(self._params(tensor) for tensor, role in constants if role != CONSTANTS),
            n_macs=_macs(operator, inputs, outputs),
            weight_bytes=sum(self._new_bytes(tensor) for tensor, role in constants if role != CONSTANTS),
            weights=_weights(constants),
            activation=operator.activation,
        )

    def _activations(self, inputs: list[Tensor | None]) -> tuple[TensorInfo, ...]:
        return tuple(t.info() for t in inputs if t and not self._is_constant(t) and t not in self._unpacked)

    def _is_constant(self, tensor: Tensor) -> bool:
        if tensor.buffer >= len(self.model.buffers):
            raise corrupt(f"a tensor has buffer number {tensor.buffer} of {len(self.model.buffers)}")
        return self.model.buffers[tensor.buffer].n_bytes > 0 or tensor.is_external

    def _constants(
        self, operator: Operator, inputs: list[Tensor | None], outputs: list[Tensor]
    ) -> list[tuple[Tensor, str]]:
        """The constants that the operator computes with, and what they are for."""
        found = []
        for position, tensor in enumerate(inputs):
            if tensor is None:
                continue
            if (
                operator.code in schema.UNPACKING
                and outputs
                and (self._is_constant(tensor) or tensor in self._unpacked)
            ):
                self._unpacked[outputs[0]] = self._unpacked.get(tensor, tensor)
                continue
            tensor = self._unpacked.get(tensor, tensor)
            if self._is_constant(tensor):
                self._check_size(tensor)
                role = _role(operator.code, position, tensor)
                found.append((tensor, role))
                before = self.roles.get(tensor.buffer, CONSTANTS)
                self.roles[tensor.buffer] = min(role, before, key=_ROLE_ORDER.index)
        return found

    def _check_size(self, tensor: Tensor) -> None:
        wanted, found = tensor.stored_bytes(), self.model.buffers[tensor.buffer].n_bytes
        if wanted is not None and wanted != found and not tensor.is_external:
            raise corrupt(
                f"a constant of shape {list(tensor.shape)} and type {tensor.dtype} has {found:,} bytes"
            )

    def _params(self, tensor: Tensor) -> int:
        if tensor in self._counted_tensors:
            return 0
        self._counted_tensors.add(tensor)
        return n_elements(tensor.shape) or 0

    def _new_bytes(self, tensor: Tensor) -> int:
        buffer = self.model.buffers[tensor.buffer]
        if (buffer.start, buffer.n_bytes) in self._counted_ranges:
            return 0
        self._counted_ranges.add((buffer.start, buffer.n_bytes))
        return buffer.n_bytes


def _role(code: str, position: int, tensor: Tensor) -> str:
    roles = schema.INPUT_ROLES.get(code, "")
    if position < len(roles):
        return _ROLES[roles[position]]
    is_number = tensor.quantization is not None or tensor.dtype.startswith(("float", "bfloat"))
    return WEIGHTS if is_number and (n_elements(tensor.shape) or 0) > 1 else CONSTANTS


def _weights(constants: list[tuple[Tensor, str]]) -> Weights | None:
    main = next((tensor for tensor, role in constants if role == WEIGHTS), None)
    if main is None:
        return None
    bias = next((tensor for tensor, role in constants if role == BIASES), None)
    return Weights(
        shape=main.shape,
        dtype=main.dtype,
        granularity=main.quantization.granularity if main.quantization else None,
        bias_dtype=bias.dtype if bias else None,
    )


def _macs(operator: Operator, inputs: list[Tensor | None], outputs: list[Tensor]) -> int | None:
    """Multiply-accumulates of convolutions and matrix products, 0 for others, None where they are not known."""
    code = operator.code
    if code in schema.UNCOUNTED or code not in _BUILTIN:
        return None
    if code not in _COUNTED:
        return 0
    shapes = [tensor.shape if tensor else () for tensor in inputs]
    n_outputs = n_elements(outputs[0].shape) if outputs else None
    if len(shapes) < 2 or not shapes[1]:
        return None
    filters = shapes[1]
    if code in ("CONV_2D", "FULLY_CONNECTED"):
        return product([n_outputs, *filters[1:]])
    if code == "CONV_3D":
        return product([n_outputs, *filters[:-1]])
    if code == "DEPTHWISE_CONV_2D":
        return product([n_outputs, *filters[1:3]])
    if code == "BATCH_MATMUL":
        first = shapes[0]
        return product([n_outputs, first[-2 if operator.adjoint[0] else -1]]) if len(first) > 1 else None
    n_inputs = n_elements(shapes[2]) if len(shapes) > 2 else None
    # The last axis of transposed filters is that of the input's channels.
    return product([n_inputs, *filters[:-1]])


_BUILTIN = frozenset(schema.OPERATOR_NAMES)
_COUNTED = frozenset(
    [
        "CONV_2D",
        "CONV_3D",
        "DEPTHWISE_CONV_2D",
        "FULLY_CONNECTED",
        "BATCH_MATMUL",
        "TRANSPOSE_CONV",
        "CONV_3D_TRANSPOSE",
    ]
)
