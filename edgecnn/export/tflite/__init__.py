"""ONNX -> TFLite, written directly: float32 from a float graph, full int8 from one with QDQ pairs.

Three rooms: `reader`, `graph`, `passes` and `quantization` know ONNX; `lowering` turns one into the other;
`model`, `versions` and `writer` know TFLite.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgecnn.errors import ConversionError, UsageError
from edgecnn.ondevice.manifest import TensorSpec

if TYPE_CHECKING:
    import onnx

    from edgecnn.export.tflite.model import Tensor

__all__ = ["Conversion", "convert"]


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
    keep_nchw_input: bool = False,
    debug_names: bool = False,
) -> Conversion:
    """The TFLite equivalent of an ONNX model, or of the file at a path.

    A model with QuantizeLinear / DequantizeLinear pairs gives an integer file with the same scales, zero
    points and weights; uint8 activations become int8, their zero points shifted by 128. `batch` is the size
    given to a dynamic batch axis. Image inputs are NHWC unless `keep_nchw_input`, which costs a TRANSPOSE.
    With `debug_names` internal tensors keep their names.

    Raises ConversionError, which lists every node that has no TFLite equivalent and why; UsageError for a
    file that is no ONNX model.
    """
    from edgecnn.export.tflite.lowering import LOWERINGS, lower
    from edgecnn.export.tflite.passes import simplify
    from edgecnn.export.tflite.quantization import absorb_quantization, quantize_interface
    from edgecnn.export.tflite.reader import KNOWN_OPERATORS, Reader
    from edgecnn.export.tflite.writer import write

    proto = _load(Path(model)) if isinstance(model, str | Path) else model
    graph = Reader(proto, batch, KNOWN_OPERATORS | LOWERINGS.keys()).read()
    simplify(graph)
    absorb_quantization(graph)
    quantize_interface(graph)
    tflite, notes = lower(graph, keep_nchw_input=keep_nchw_input)
    return Conversion(
        data=write(tflite, debug_names=debug_names),
        inputs=tuple(_spec(tensor) for tensor in tflite.inputs),
        outputs=tuple(_spec(tensor) for tensor in tflite.outputs),
        input_permutations=tuple(tensor.permutation for tensor in tflite.inputs),
        output_permutations=tuple(tensor.permutation for tensor in tflite.outputs),
        notes=tuple(notes),
        n_operators=len(tflite.operators),
    )


def _load(path: Path) -> onnx.ModelProto:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path)
    except OSError as fault:
        raise UsageError(f"cannot read it: {fault.strerror or fault}", where=str(path)) from fault
    except DecodeError as fault:
        raise UsageError("this is no ONNX model", where=str(path)) from fault
    except (
        Exception
    ) as fault:  # onnx raises its own classes for external data that is missing or lies elsewhere
        raise ConversionError(
            str(fault), where=str(path), fix="keep the .onnx file and its .data file in one folder"
        ) from fault
    if not model.graph.node:
        raise UsageError("this is no ONNX model, or an empty one", where=str(path))
    return model


def _spec(tensor: Tensor) -> TensorSpec:
    quantization = tensor.quantization
    if quantization is None:
        return TensorSpec(tensor.memory.name or "", tensor.shape, tensor.dtype)
    scale, zero_point = float(quantization.scale[0]), int(quantization.zero_point[0])
    return TensorSpec(tensor.memory.name or "", tensor.shape, tensor.dtype, scale, zero_point)
