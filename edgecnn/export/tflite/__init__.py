"""ONNX -> TFLite, written directly: float32 from a float graph, full int8 from one with QDQ pairs.

Three rooms: `reader`, `graph`, `passes` and `quantization` know ONNX; `lowering` turns one into the other;
`model`, `versions` and `writer` know TFLite.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgecnn.confined import check_model_file
from edgecnn.errors import ConversionError, EdgeCNNError, UsageError
from edgecnn.ondevice.manifest import TensorSpec

if TYPE_CHECKING:
    import onnx

    from edgecnn.export.tflite.metadata import Metadata
    from edgecnn.export.tflite.model import Model, Tensor

__all__ = ["Conversion", "convert"]

INTERFACES = ("int8", "uint8", "float32")


@dataclass(frozen=True)
class Conversion:
    """A .tflite file in memory, and what is to be known of it.

    `inputs` and `outputs` have the names of the ONNX file and the shapes of the .tflite file (images NHWC).
    `input_permutations[i][j]` is the ONNX axis of axis j of input i: transpose an ONNX input by it;
    likewise for the outputs. `notes` tell of what was changed on the way.
    """

    data: bytes
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    input_permutations: tuple[tuple[int, ...], ...]
    output_permutations: tuple[tuple[int, ...], ...]
    notes: tuple[str, ...]
    n_operators: int


def convert(
    model: onnx.ModelProto | str | Path,
    *,
    batch: int = 1,
    io: str = "int8",
    weights: str = "as-is",
    runtime: str | None = None,
    keep_nchw_input: bool = False,
    signature: bool = False,
    metadata: Metadata | None = None,
    debug_names: bool = False,
    unit_scales: bool = False,
) -> Conversion:
    """The TFLite equivalent of an ONNX model, or of the file at a path.

    A model with QuantizeLinear / DequantizeLinear pairs gives an integer file with the same scales, zero
    points and weights; uint8 activations become int8, their zero points shifted by 128.

    - `batch` is the size given to a dynamic batch axis.
    - `io` is the type of quantized inputs and outputs: "int8", "uint8", or "float32" (converted inside).
    - `weights` stores weights in fewer bits: "as-is", "float16", "int8" (both for float models), "int4" or
      "packed" (for integer ones); see `weights.shrink_weights`.
    - `runtime` writes what "litert", "tflite-runtime==2.14" or "tflm" knows, and refuses what has no equivalent
      there.
    - `keep_nchw_input` leaves image inputs NCHW, at the cost of a TRANSPOSE; otherwise they are NHWC.
    - `signature` adds the signature `serving_default`, `debug_names` the names of internal tensors.
    - `metadata` adds TFLite Model Metadata: see `metadata.Metadata`.
    - `unit_scales` chooses the scales inside, which the integers do not hang on, for a smaller file: see
      `edgecnn.export.unit_scales`.

    Raises ConversionError, which lists every node that has no TFLite equivalent and why; UsageError for a
    file that is no ONNX model, and for an option that is not known.
    """
    from edgecnn.export.tflite.runtimes import check_runtime, require_known
    from edgecnn.export.tflite.weights import shrink_weights

    if io not in INTERFACES:
        raise UsageError(f"io {io!r} is not known", fix=f"choose one of: {', '.join(INTERFACES)}")
    if runtime is not None:
        require_known(runtime)
    path, proto = (Path(model), _load(Path(model))) if isinstance(model, str | Path) else (None, model)
    with _no_traceback(path):
        proto = _with_unit_scales(proto) if unit_scales else proto
        tflite, notes = _lowered(proto, batch=batch, io=io, keep_nchw_input=keep_nchw_input, runtime=runtime)
    notes += shrink_weights(tflite, weights)
    if runtime is not None:
        check_runtime(tflite, runtime)
    data = _written(tflite, metadata, debug_names=debug_names, signature=signature)
    return _conversion(tflite, data, notes)


@contextmanager
def _no_traceback(path: Path | None) -> Iterator[None]:
    """Errors name the file, and are ours: a graph that contradicts itself may fail anywhere."""
    where = None if path is None else str(path)
    try:
        yield
    except EdgeCNNError as fault:
        fault.where = fault.where or where
        raise
    except Exception as fault:
        raise ConversionError(
            f"the graph cannot be understood ({type(fault).__name__}: {fault})",
            where=where,
            fix="check it with onnx.checker.check_model; if it passes, this is a bug of the converter",
        ) from fault


def _lowered(
    proto: onnx.ModelProto, *, batch: int, io: str, keep_nchw_input: bool, runtime: str | None = None
) -> tuple[Model, list[str]]:
    """(the TFLite model, notes)."""
    from edgecnn.export.tflite.decompositions import DECOMPOSITIONS, decompose
    from edgecnn.export.tflite.lowering import LOWERINGS, lower, use_uint8_interface
    from edgecnn.export.tflite.passes import drop_kept_axes, simplify
    from edgecnn.export.tflite.quantization import absorb_quantization, quantize_interface
    from edgecnn.export.tflite.reader import KNOWN_OPERATORS, Reader

    graph = Reader(proto, batch, KNOWN_OPERATORS | LOWERINGS.keys() | DECOMPOSITIONS.keys()).read()
    simplify(graph)
    absorb_quantization(graph)
    drop_kept_axes(graph)
    decompose(graph, runtime)
    if io != "float32":
        quantize_interface(graph)
    tflite, notes = lower(graph, keep_nchw_input=keep_nchw_input, runtime=runtime)
    if io == "uint8":
        use_uint8_interface(tflite)
    return tflite, notes


def _written(tflite: Model, metadata: Metadata | None, *, debug_names: bool, signature: bool) -> bytes:
    from edgecnn.export.tflite.metadata import METADATA_NAME, append_labels, encode
    from edgecnn.export.tflite.writer import write

    if metadata is None:
        return write(tflite, debug_names=debug_names, signature=signature)
    attachments = {METADATA_NAME: encode(metadata, tflite)}
    data = write(tflite, debug_names=debug_names, signature=signature, attachments=attachments)
    return append_labels(data, metadata.labels)


def _conversion(tflite: Model, data: bytes, notes: list[str]) -> Conversion:
    return Conversion(
        data=data,
        inputs=tuple(_spec(tensor) for tensor in tflite.inputs),
        outputs=tuple(_spec(tensor) for tensor in tflite.outputs),
        input_permutations=tuple(tensor.permutation for tensor in tflite.inputs),
        output_permutations=tuple(tensor.permutation for tensor in tflite.outputs),
        notes=tuple(notes),
        n_operators=len(tflite.operators),
    )


def _with_unit_scales(proto: onnx.ModelProto) -> onnx.ModelProto:
    from edgecnn.export.unit_scales import unit_scales

    return unit_scales(proto)


def _load(path: Path) -> onnx.ModelProto:
    import onnx
    from google.protobuf.message import DecodeError

    from edgecnn.ondevice.runtimes.external_data import check_external_data

    check_model_file(path)
    try:
        model = onnx.load(path, load_external_data=False)
        check_external_data(path)  # whatever this version of onnx looks at itself
        onnx.load_external_data_for_model(model, str(path.parent))
    except OSError as fault:
        raise UsageError(f"cannot read it: {fault.strerror or fault}", where=str(path)) from fault
    except DecodeError as fault:
        raise UsageError("this is no ONNX model", where=str(path)) from fault
    except Exception as fault:  # onnx has no common class for external data that is missing or lies elsewhere
        fix = "keep the .onnx file and its .data file in one folder"
        raise ConversionError(str(fault), where=str(path), fix=fix) from fault
    if not model.graph.node:
        raise UsageError("this is no ONNX model, or an empty one", where=str(path))
    return model


def _spec(tensor: Tensor) -> TensorSpec:
    quantization = tensor.quantization
    if quantization is None:
        return TensorSpec(tensor.memory.name or "", tensor.shape, tensor.dtype)
    scale, zero_point = float(quantization.scale[0]), int(quantization.zero_point[0])
    return TensorSpec(tensor.memory.name or "", tensor.shape, tensor.dtype, scale, zero_point)
