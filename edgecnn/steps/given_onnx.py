"""The stage for a network that the user brings as a float ONNX file: read, fitted to the data, not trained."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecnn import confined, files, metrics
from edgecnn.errors import ModelError
from edgecnn.ondevice.manifest import DeviceError, Preprocessing, TensorSpec
from edgecnn.ondevice.preprocess import model_input
from edgecnn.ondevice.runtimes import load_model
from edgecnn.ondevice.runtimes.external_data import check_external_data
from edgecnn.stages import Stage
from edgecnn.steps.manifests import onnx_outputs
from edgecnn.steps.networks import (
    ONNX_FILE,
    Workshop,
    installed_version,
    require_training_packages,
    told_accuracy,
)

if TYPE_CHECKING:
    import onnx

QUANTIZED_OPERATORS = frozenset({"QuantizeLinear", "DequantizeLinear", "QLinearConv", "ConvInteger"})
# The first with scales by channel, which int8 weights have.
OLDEST_OPSET = 13
N_TRIED_PICTURES = 3


def given_stage(shop: Workshop) -> Stage:
    """The recipe's ONNX file as the dense network. Raises ModelError where there is none that can be read."""
    file = Path(shop.recipe.model.path or "")
    contents = hashlib.sha256(read(file).SerializeToString(deterministic=True)).hexdigest()

    def work(folder: Path) -> dict[str, Any]:
        require_training_packages()
        shop.progress.start("import", total=2)
        save_fitted(shop, file, folder / ONNX_FILE)
        shop.progress.advance(1, "fits the data")
        validation = shop.splits.validation
        logits = onnx_outputs(shop, folder / ONNX_FILE, validation.images_nhwc)
        _check_finite(logits, file)
        accuracy = metrics.accuracy(metrics.top1(logits), validation.labels) if shop.is_labelled else None
        shop.progress.finish("fits the data" + told_accuracy(accuracy))
        notes = list(shop.splits.notes)
        return {"widths": {}, "validation_accuracy": accuracy, "history": [], "data_notes": notes}

    inputs = {
        "data": shop.source.sha256,
        "preprocessing": asdict(shop.recipe.preprocessing),
        "contents of the ONNX file": contents,
        **{tool: installed_version(tool) for tool in ("onnx", "onnxruntime")},
    }
    code = (
        "edgecnn.data",
        "edgecnn.metrics",
        "edgecnn.ondevice",
        "edgecnn.export.onnx",
        "edgecnn.steps.given_onnx",
        "edgecnn.steps.manifests",
    )
    return Stage("import", inputs, work, (), code)


def read(file: Path) -> onnx.ModelProto:
    """The valid float ONNX model in `file`, weights that lie beside it included. Raises ModelError, and what
    `confined.run` raises: the file is read in its worker.
    """
    if not file.exists():
        raise ModelError(
            "there is no such file", where=str(file), fix="paths begin where edgecnn runs; mend model.onnx"
        )
    return confined.run(_read, str(file), confined.check_model_file(file), file)


def _read(file: Path) -> onnx.ModelProto:
    import onnx

    where = str(file)
    try:
        check_external_data(file)  # whatever this version of onnx looks at itself
        model = onnx.load(file)
        onnx.checker.check_model(model)
    except Exception as fault:  # protobuf and onnx have no common class for what is wrong with a file
        reason = (str(fault).strip().splitlines() or [type(fault).__name__])[0]
        raise ModelError(
            f"not a valid ONNX model: {reason}",
            where=where,
            fix="export it again; where its weights lie in a file beside it, that file is needed, too",
        ) from fault
    if quantized := sorted({node.op_type for node in model.graph.node} & QUANTIZED_OPERATORS):
        raise ModelError(
            f"it is quantized already ({', '.join(quantized)}): there is no float network to compare with",
            where=where,
            fix=f"give the float model; or convert this one as it is: edgecnn convert {file} --compare 20",
        )
    return model


def save_fitted(shop: Workshop, file: Path, destination: Path) -> None:
    """Writes the model in `file` to `destination` as the pipeline needs it: one input of the size of the data's
    pictures, an open batch where it can be, constants folded, batch norms in their convolutions.

    Raises ModelError where it does not fit the data.
    """
    import onnx

    from edgecnn.export.onnx import name_global_pooling, strip

    read_model = read(file)
    n_bytes = read_model.ByteSize()
    model = confined.run(_of_known_opset, str(file), n_bytes, read_model, file)
    _fit_input(model, shop.recipe.preprocessing, shop.recipe.data.name, file)
    model = confined.run(_folded, str(file), n_bytes, model, file)
    name_global_pooling(model)
    strip(model)
    if fault := _fault_of(shop, model, file, n_pictures=1):
        raise fault
    opened = _with_open_batch(model)
    if _fault_of(shop, opened, file, n_pictures=N_TRIED_PICTURES) is None:
        model = opened
    with files.replacing(destination) as temporary:
        onnx.save(model, temporary)


def _of_known_opset(model: onnx.ModelProto, file: Path) -> onnx.ModelProto:
    from onnx import version_converter

    opset = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 0)
    if opset >= OLDEST_OPSET:
        return model
    try:
        return version_converter.convert_version(model, OLDEST_OPSET)
    except Exception as fault:  # the converter raises RuntimeError, ValueError, and its own
        raise ModelError(
            f"it is written in opset {opset}, and cannot be brought to {OLDEST_OPSET}: {fault}",
            where=str(file),
            fix=f"export it with opset {OLDEST_OPSET} or newer",
        ) from fault


def _fit_input(model: onnx.ModelProto, pre: Preprocessing, data_name: str, file: Path) -> None:
    """Gives the one image input the size of the data, with a batch of 1, in place. Raises ModelError."""
    import onnx

    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    where = str(file)
    if len(inputs) != 1 or len(graph.output) != 1:
        raise ModelError(
            f"it has {len(inputs)} inputs and {len(graph.output)} outputs; an image classifier has one of each",
            where=where,
            fix="export it with the pictures as its only input and the logits as its only output",
        )
    (image,) = inputs
    tensor = image.type.tensor_type
    if tensor.elem_type != onnx.TensorProto.FLOAT:
        kind = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
        raise ModelError(
            f"its input {image.name} is {kind}, not float32", where=where, fix="export it as float32"
        )
    has = [dim.dim_value for dim in tensor.shape.dim]
    wanted = [0, pre.channels, pre.height, pre.width]
    if len(has) != 4 or any(size not in (0, want) for size, want in zip(has[1:], wanted[1:], strict=True)):
        raise _misfit(has, wanted, data_name, where)
    for dim, size in zip(tensor.shape.dim, [1, *wanted[1:]], strict=True):
        dim.dim_value = size
    # Weights that are listed as inputs, as old exporters do, could be replaced, and are not folded.
    del graph.input[:]
    graph.input.append(image)
    del graph.value_info[:]


def _misfit(has: list[int], wanted: list[int], data_name: str, where: str) -> ModelError:
    def told(shape: list[int]) -> str:
        return f"[{', '.join(str(size) if size else 'n' for size in shape)}]"

    size = ", ".join(str(size or "ANY") for size in has[2:])
    fix = f"give the data the size of the network: data: {{{data_name}: {{size: [{size}]}}}}"
    if len(has) != 4:
        fix = "export it for pictures: [batch, channels, height, width]"
    elif has[3] == wanted[1] and has[1] != wanted[1]:
        fix = "export it channels first: [batch, channels, height, width]"
    elif has[1] not in (0, wanted[1]):
        fix = f"the network wants {has[1]} channels: give it data that have them, or another network"
    return ModelError(
        f"its input has the shape {told(has)}; the pictures of {data_name} are {told(wanted)}"
        " (batch, channels, height, width)",
        where=where,
        fix=fix,
    )


def _folded(model: onnx.ModelProto, file: Path) -> onnx.ModelProto:
    """The same network after onnxruntime's basic graph optimizations: constants folded, no batch norms left."""
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory(prefix="edgecnn-import-") as folder:
        folded = Path(folder) / "folded.onnx"
        options.optimized_model_filepath = str(folded)
        try:
            onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as fault:  # onnxruntime's exceptions have no common class
            raise ModelError(f"onnxruntime cannot load it: {fault}", where=str(file)) from fault
        return onnx.load(folded)


def _with_open_batch(model: onnx.ModelProto) -> onnx.ModelProto:
    import onnx

    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    for value in (*opened.graph.input, *opened.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    return opened


def _fault_of(shop: Workshop, model: onnx.ModelProto, file: Path, *, n_pictures: int) -> ModelError | None:
    """Runs `model` on so many validation pictures. Returns what is wrong with it, None where nothing is."""
    import onnx

    pictures = shop.splits.validation.images_nhwc[:n_pictures]
    images = model_input(pictures, shop.recipe.preprocessing, "NCHW", TensorSpec("", (), "float32"))
    with tempfile.TemporaryDirectory(prefix="edgecnn-import-") as folder:
        tried = Path(folder) / "tried.onnx"
        onnx.save(model, tried)
        try:
            (logits,) = confined.run(_run, str(file), model.ByteSize(), tried, images)
        except DeviceError as fault:
            return ModelError(
                f"it does not run on a picture: {fault.what}",
                where=str(file),
                fix="export it with an open batch, or a batch of 1",
            )
    wanted = (len(pictures), len(shop.source.class_names))
    if logits.shape == wanted:
        return None
    if logits.ndim == 2 and len(logits) == len(pictures):
        what = f"it has {logits.shape[1]} outputs; {shop.recipe.data.name} has {wanted[1]} classes"
        return ModelError(
            what, where=str(file), fix="its outputs must be the classes of the data, in their order"
        )
    return ModelError(
        f"for {len(pictures)} pictures it gives the shape {list(logits.shape)}, not {list(wanted)}",
        where=str(file),
        fix="export it with one row of logits for each picture",
    )


def _run(path: Path, images: NDArray[Any]) -> list[NDArray[Any]]:
    """The outputs of the ONNX file for a batch. Raises DeviceError."""
    return load_model("onnxruntime", path).run_all([images])


def _check_finite(logits: NDArray[Any], file: Path) -> None:
    if not np.isfinite(logits).all():
        raise ModelError(
            "it gives NaN or infinite logits on the validation pictures",
            where=str(file),
            fix="look at the normalization that it was trained with: data: {NAME: {normalization: ...}}",
        )
