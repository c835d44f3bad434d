"""What is in a model file: the ledger of its layers and of its bytes, for .tflite and .onnx.

Read in pure Python from the bytes, so that a hostile file can neither crash the process nor run anything,
and so that looking at a file needs no runtime.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from edgecnn.confined import check_model_file
from edgecnn.errors import UsageError
from edgecnn.export.tflite.schema import FILE_IDENTIFIER
from edgecnn.inspection.ledger import Contents, Inspection, Layer, TensorInfo, Totals, Weights

__all__ = ["Inspection", "Layer", "TensorInfo", "Totals", "Weights", "inspect"]


def inspect(path: Path | str) -> Inspection:
    """The ledger of a .tflite or .onnx file; what it is, is told by its bytes, not by its name.

    Raises UsageError for a file that cannot be read, is neither, or is corrupt, and for an ONNX file whose
    external data is missing.
    """
    path = Path(path)
    check_model_file(path)
    try:
        data = path.read_bytes()
        contents = _contents(data, path.parent)
    except OSError as fault:
        raise UsageError(f"cannot read it: {fault.strerror or fault}", where=str(path)) from fault
    except UsageError as fault:
        fault.where = fault.where or str(path)
        raise
    return Inspection(
        path=str(path),
        format=contents.format,
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        producer=contents.producer,
        inputs=contents.inputs,
        outputs=contents.outputs,
        layers=contents.layers,
        totals=contents.totals(),
        bytes_by_kind=contents.bytes_by_kind,
        external_bytes=contents.external_bytes,
    )


def _contents(data: bytes, folder: Path) -> Contents:
    if not data:
        raise UsageError("the file is empty")
    if data[4:8] == FILE_IDENTIFIER:
        from edgecnn.inspection.tflite_ledger import read_tflite

        return read_tflite(data)
    from edgecnn.inspection.onnx_ledger import read_onnx

    return read_onnx(data, folder)
