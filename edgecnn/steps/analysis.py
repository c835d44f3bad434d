"""The stage that looks into the networks: bytes and quantization error by layer, what int8 does otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecnn import files, inspection, metrics
from edgecnn.analysis import disagreements
from edgecnn.analysis.records import (
    Analysis,
    Disagreements,
    Epoch,
    FileBytes,
    LayerBytes,
    QuantizationAnalysis,
)
from edgecnn.ondevice.manifest import Manifest, TensorSpec
from edgecnn.ondevice.preprocess import dequantize, model_input
from edgecnn.records import Artifact, LayerSensitivity
from edgecnn.stages import Stage
from edgecnn.steps import foreign
from edgecnn.steps.evaluation import FLOAT_KEYS
from edgecnn.steps.networks import ONNX_FILE, Workshop, installed_version
from edgecnn.steps.quantization import QUANTIZED_FILE

if TYPE_CHECKING:
    import onnx

ANALYSIS_FILE = "analysis.json"
# Validation images whose tensors are compared; of large ones fewer, down to a handful: pixels in all.
N_IMAGES, LEAST_IMAGES, N_PIXELS = 256, 32, 2**23
# The files that are compared, the preferred one first.
QUANTIZED_KEYS = ("int8.tflite", "int4.tflite", "int8.onnx", "int4.onnx")


def analysis_stage(
    shop: Workshop, networks: tuple[Stage, ...], quantized: Stage | None, export: Stage, evaluate: Stage
) -> Stage:
    """Leaves `analysis.json`: an `Analysis` of the exported files, from the stages that made them.

    The facts are `sensitivity`, as in the report: empty where training went on after quantizing, for then the
    float network is not the one that was rounded.
    """

    def work(folder: Path) -> dict[str, Any]:
        shop.progress.start("analyse", total=3)
        trained = (*networks, quantized) if quantized else networks
        where = shop.store.folder(export)
        artifacts = [Artifact.model_validate(record) for record in shop.store.facts(export)["artifacts"]]
        names = {
            "dense": _named_layers(shop.store.folder(networks[0]) / ONNX_FILE),
            "final": _named_layers(shop.store.folder(networks[-1]) / ONNX_FILE),
        }
        by_file = {one.key: _file_bytes(where / one.file, names[one.variant]) for one in artifacts}
        shop.progress.advance(1, "bytes by layer")
        error, sensitivity = _quantization(shop, networks[-1], quantized, export) if quantized else (None, ())
        shop.progress.advance(1, "quantization error")
        analysis = Analysis(
            sha256={one.key: one.sha256 for one in artifacts},
            training=tuple(epoch for stage in trained for epoch in _epochs(shop, stage)),
            files=by_file,
            quantization=error,
            disagreements=_disagreements(shop, export, evaluate) if quantized else None,
        )
        files.write_text(folder / ANALYSIS_FILE, analysis.model_dump_json() + "\n")
        shop.progress.finish(_told(analysis))
        return {"sensitivity": [one.model_dump(mode="json") for one in sensitivity]}

    needs = (*networks, *((quantized,) if quantized else ()), export, evaluate)
    inputs = {"images": N_IMAGES, "onnx": installed_version("onnx")}
    code = (
        "edgecnn.analysis",
        "edgecnn.inspection",
        "edgecnn.metrics",
        "edgecnn.ondevice.preprocess",
        "edgecnn.steps.analysis",
    )
    return Stage("analyse", inputs, work, needs, code)


def _told(analysis: Analysis) -> str:
    found = analysis.disagreements
    if found is None:
        return f"{len(analysis.files)} files"
    return f"quantized and float files answer differently on {found.n_different:,} of {found.n_images:,} images"


def _epochs(shop: Workshop, stage: Stage) -> list[Epoch]:
    fields = Epoch.model_fields.keys() - {"stage"}
    history = shop.store.facts(stage).get("history", ())
    return [Epoch(stage=stage.name, **{name: row[name] for name in fields}) for row in history]


def _named_layers(onnx_path: Path) -> list[tuple[str, int]]:
    """Name and number of parameters of each layer with weights, in order."""
    import onnx

    from edgecnn.analysis.matching import layer_name

    graph = onnx.load(onnx_path).graph
    sizes = {
        tensor.name: int(np.prod(tensor.dims))
        for tensor in graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT
    }
    layers = []
    for node in graph.node:
        named = [name for name in node.input if name in sizes]
        if named:
            layers.append((layer_name(named[0]), sum(sizes[name] for name in named)))
    return layers


def _file_bytes(path: Path, named: list[tuple[str, int]]) -> FileBytes:
    """What the bytes of a file are for. Formats keep no layer names: a layer is known by its parameters."""
    found = inspection.inspect(path)
    left = list(named)
    layers = []
    for layer in found.layers:
        if not layer.weight_bytes:
            continue
        twin = next((one for one in left if one[1] == layer.n_params), None)
        if twin is not None:
            left.remove(twin)
        layers.append(
            LayerBytes(
                layer=twin[0] if twin else f"{layer.operator} {layer.index}",
                operator=layer.operator,
                n_params=layer.n_params,
                weight_bytes=layer.weight_bytes,
            )
        )
    return FileBytes(bytes_by_kind=found.bytes_by_kind, layers=tuple(layers))


def _quantization(
    shop: Workshop, network: Stage, quantized: Stage, export: Stage
) -> tuple[QuantizationAnalysis, tuple[LayerSensitivity, ...]]:
    import onnx

    from edgecnn.analysis.quantization import analyse
    from edgecnn.analysis.sensitivity import layer_sensitivity
    from edgecnn.compress.equalization import equalize

    float_model: onnx.ModelProto = onnx.load(shop.store.folder(network) / ONNX_FILE)
    if shop.store.facts(quantized)["equalized"]:
        equalize(float_model)  # what the integers stand for
    qdq_model = onnx.load(shop.store.folder(quantized) / QUANTIZED_FILE)
    validation = shop.splits.validation
    (first, *_) = shop.store.facts(export)["artifacts"]
    preprocessing = Manifest.read_for(shop.store.folder(export) / first["file"]).preprocessing
    fitting = max(LEAST_IMAGES, N_PIXELS // (preprocessing.height * preprocessing.width))
    n_images = min(N_IMAGES, fitting, len(validation))
    chosen = np.linspace(0, len(validation) - 1, num=n_images).astype(int)
    spec = TensorSpec("", (), "float32")
    inputs = model_input(validation.images_nhwc[chosen], preprocessing, "NCHW", spec)
    is_trained = bool(shop.store.facts(quantized).get("history"))
    models = (float_model, qdq_model, inputs)
    error = foreign.run(shop, analyse, *models, split=validation.split, is_trained=is_trained)
    if is_trained:
        return error, ()
    labels = validation.labels[chosen] if shop.is_labelled else None
    return error, foreign.run(shop, layer_sensitivity, *models, labels)


def _disagreements(shop: Workshop, export: Stage, evaluate: Stage) -> Disagreements | None:
    """The int8 file that is deployed against the float file of the same weights, by their recorded outputs."""
    runs = shop.store.facts(evaluate)["measurements"]
    float_key = next((key for key in FLOAT_KEYS if runs.get(key)), None)
    int8_key = next((key for key in QUANTIZED_KEYS if runs.get(key)), None)
    if float_key is None or int8_key is None:
        return None
    float_logits = _outputs(shop, export, evaluate, float_key)
    test = shop.splits.test.labelled_by(metrics.top1(float_logits))
    return disagreements.find(
        float_logits,
        _outputs(shop, export, evaluate, int8_key),
        test.labels,
        test.images_nhwc,
        float_run=f"{float_key} on {runs[float_key][0]['runtime']}",
        int8_run=f"{int8_key} on {runs[int8_key][0]['runtime']}",
    )


def _outputs(shop: Workshop, export: Stage, evaluate: Stage, key: str) -> NDArray[Any]:
    """The logits [n, classes] of an artifact's first run, as real numbers."""
    run = shop.store.facts(evaluate)["measurements"][key][0]
    raw: NDArray[Any] = np.load(
        shop.store.folder(evaluate) / f"{key}.{run['runtime']}.{run['num_threads']}.npy"
    )
    if np.issubdtype(raw.dtype, np.floating):
        return raw
    file = next(one["file"] for one in shop.store.facts(export)["artifacts"] if one["key"] == key)
    spec = Manifest.read_for(shop.store.folder(export) / file).outputs[0]
    if spec.scale is None or spec.zero_point is None:
        return raw.astype(np.float32)
    return dequantize(raw, spec.scale, spec.zero_point)
