"""Odd .tflite files, written with the object API that LiteRT generates from the schema."""

from __future__ import annotations

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgecnn.export.tflite.schema import FILE_IDENTIFIER

WEIGHTS = np.arange(12, dtype=np.float32)


def filled(options: object) -> object:
    """An option table whose vectors and strings are all there, so that none can be overlooked."""
    for name, value in vars(options).items():
        if value is not None:
            continue
        for attempt in ([1, 0], "text"):
            setattr(options, name, attempt)
            try:
                options.Pack(flatbuffers.Builder(0))  # type: ignore[attr-defined]
                break
            except (TypeError, AttributeError):
                setattr(options, name, None)
    return options


def tensor(name: str, shape: list[int], buffer: int = 0, dtype: int = 0) -> schema.TensorT:
    made = schema.TensorT()
    made.name, made.shape, made.buffer, made.type = name, shape, buffer, dtype
    return made


def operator(code: int, inputs: list[int], outputs: list[int]) -> schema.OperatorT:
    made = schema.OperatorT()
    made.opcodeIndex, made.inputs, made.outputs = code, inputs, outputs
    return made


def small_model() -> schema.ModelT:
    """FULLY_CONNECTED of 4 numbers with 3 x 4 weights, then a custom operator."""
    model = schema.ModelT()
    model.version = 3
    fully_connected, custom = schema.OperatorCodeT(), schema.OperatorCodeT()
    fully_connected.deprecatedBuiltinCode = fully_connected.builtinCode = 9
    fully_connected.version = 1
    custom.deprecatedBuiltinCode = custom.builtinCode = 32
    custom.customCode = "Detect"
    model.operatorCodes = [fully_connected, custom]
    empty, weights = schema.BufferT(), schema.BufferT()
    weights.data = WEIGHTS.view(np.uint8)
    model.buffers = [empty, weights]
    graph = schema.SubGraphT()
    graph.name = "main"
    graph.tensors = [tensor("in", [1, 4]), tensor("w", [3, 4], 1), tensor("mid", [1, 3]), tensor("out", [1, 3])]
    graph.inputs, graph.outputs = [0], [3]
    graph.operators = [operator(0, [0, 1, -1], [2]), operator(1, [2], [3])]
    model.subgraphs = [graph]
    return model


def packed(model: schema.ModelT) -> bytes:
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=FILE_IDENTIFIER)
    return bytes(builder.Output())


def everything_model() -> schema.ModelT:
    """`small_model` with every optional table of the schema in it."""
    model = small_model()
    graph = model.subgraphs[0]
    quantization = schema.QuantizationParametersT()
    quantization.min, quantization.max = [0.0], [1.0]
    quantization.scale, quantization.zeroPoint = [0.5, 0.25, 0.125], [0, 0, 0]
    quantization.detailsType, quantization.details = 2, filled(schema.BlockwiseQuantizationT())
    graph.tensors[1].quantization = quantization
    sparsity, dimension = schema.SparsityParametersT(), schema.DimensionMetadataT()
    sparsity.traversalOrder, sparsity.blockMap = [0, 1], [0]
    segments, indices = schema.Int32VectorT(), schema.Uint8VectorT()
    segments.values, indices.values = [0, 2], [0, 1, 2]
    dimension.format, dimension.arraySegmentsType, dimension.arraySegments = 1, 1, segments
    dimension.arrayIndicesType, dimension.arrayIndices = 3, indices
    sparsity.dimMetadata = [dimension]
    graph.tensors[2].sparsity = sparsity
    variant = schema.VariantSubTypeT()
    variant.shape = [2, 3]
    graph.tensors[3].variantTensors, graph.tensors[3].shapeSignature = [variant], [-1, 3]
    graph.tensors[0].shapeSignature = [-1, 4]
    graph.operators[1].customOptions = np.arange(5, dtype=np.uint8)
    graph.operators[1].mutatingVariableInputs, graph.operators[1].intermediates = [True], [2]
    _add_metadata(model)
    return model


def _add_metadata(model: schema.ModelT) -> None:
    model.description = "made by a test"
    note, entry = schema.BufferT(), schema.MetadataT()
    note.data = np.frombuffer(b"a note", np.uint8)
    model.buffers.append(note)
    entry.name, entry.buffer = "NOTE", 2
    model.metadata, model.metadataBuffer = [entry], [2]
    signature, first, last = schema.SignatureDefT(), schema.TensorMapT(), schema.TensorMapT()
    first.name, first.tensorIndex, last.name, last.tensorIndex = "x", 0, "y", 3
    signature.inputs, signature.outputs, signature.signatureKey = [first], [last], "serving_default"
    model.signatureDefs = [signature]
    group, external = schema.ExternalBufferGroupT(), schema.ExternalBufferT()
    group.name, external.packing = "weights.bin", "none"
    model.externalBufferGroups, model.externalBuffers = [group], [external]
