"""SqueezeNet through pruning, export, both engines and the conversion: integers from end to end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from cli.commands import run
from digits_for_tests import use_fewer
from export.tflite.agreement import to_tflite
from export.tflite.running import operators, run_onnx, run_tflite
from measurements_for_tests import measure_little
from onnx import numpy_helper
from recipes_for_tests import ROOT
from torch.nn import functional

from edgecnn import data
from edgecnn.compress import engines
from edgecnn.compress.prune import prune
from edgecnn.compress.quantize import quantize
from edgecnn.data import DATASETS
from edgecnn.export.onnx import export_onnx
from edgecnn.export.tflite import convert
from edgecnn.models import MODELS, build_model
from edgecnn.ondevice.manifest import TensorSpec
from edgecnn.ondevice.preprocess import normalize
from edgecnn.recipe import QuantizeSpec, target_widths

N_STEPS, BATCH_SIZE, N_EVALUATED = 60, 64, 200
WIDTHS = {layer: 8 if "squeeze" in layer else 16 for layer in MODELS["squeezenet1_1"].widths}


def pictures(split: data.Dataset, first: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """(float32 [n, 1, 28, 28], labels)"""
    images = normalize(split.images_nhwc[first : first + n], DATASETS["mnist"].preprocessing)
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)), split.labels[first : first + n]


@pytest.fixture(scope="module")
def splits() -> data.Splits:
    return data.load("mnist")


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "bypass"])
def float_model(request: pytest.FixtureRequest, splits: data.Splits) -> onnx.ModelProto:
    """A narrow network, pruned, after a few seconds of training: the logits of random weights hardly differ."""
    options = {"stem": "small", "simple_bypass": request.param}
    model = build_model("squeezenet1_1", in_channels=1, n_classes=10, widths=WIDTHS, options=options)
    images, labels = (torch.from_numpy(x) for x in pictures(splits.train, 0, N_STEPS * BATCH_SIZE))
    prune(model, target_widths(WIDTHS, 0.3), "taylor", images[:256], labels[:256], seed=0)
    model.eval()  # without dropout, which slows the start
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for batch in torch.arange(len(images)).split(BATCH_SIZE):
        optimizer.zero_grad()
        functional.cross_entropy(model(images[batch]), labels[batch]).backward()
        optimizer.step()
    # As the training loop lays them out.
    return export_onnx(model.to(memory_format=torch.channels_last), (1, 28, 28))


@pytest.fixture(scope="module", params=engines.ENGINES)
def quantized(
    request: pytest.FixtureRequest, float_model: onnx.ModelProto, splits: data.Splits
) -> onnx.ModelProto:
    if not engines.is_installed(request.param):
        pytest.skip(f"{request.param} is not installed")
    calibration, _ = pictures(splits.train, 5_000, 60)
    return quantize(float_model, calibration, QuantizeSpec(engine=request.param)).model


def test_the_float_file_pools_under_a_name_that_the_quantizers_know(float_model: onnx.ModelProto) -> None:
    kinds = [node.op_type for node in float_model.graph.node]
    assert kinds[-2:] == ["GlobalAveragePool", "Reshape"]
    assert set(kinds) <= {"Conv", "Relu", "MaxPool", "Concat", "Add", "GlobalAveragePool", "Reshape"}


def test_every_operator_stands_between_integers(quantized: onnx.ModelProto) -> None:
    made_by = {name: node.op_type for node in quantized.graph.node for name in node.output}
    for node in quantized.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            tensors = [name for name in node.input if name in made_by]
            assert {made_by[name] for name in tensors} == {"DequantizeLinear"}, node.op_type


def test_the_sides_of_a_fire_module_have_one_range(quantized: onnx.ModelProto) -> None:
    made_by = {name: node for node in quantized.graph.node for name in node.output}
    read_by = {name: node for node in quantized.graph.node for name in node.input}
    joins = [node for node in quantized.graph.node if node.op_type == "Concat"]
    assert len(joins) == 8
    values = {tensor.name: numpy_helper.to_array(tensor).item(0) for tensor in quantized.graph.initializer}
    for join in joins:
        ends = [*(made_by[name] for name in join.input), read_by[join.output[0]]]
        assert len({(values[end.input[1]], values[end.input[2]]) for end in ends}) == 1


def test_the_tflite_file_is_integers_from_end_to_end(quantized: onnx.ModelProto) -> None:
    conversion = convert(quantized)
    codes = {code for code, _ in operators(conversion.data)}
    assert codes <= {"CONV_2D", "MAX_POOL_2D", "CONCATENATION", "ADD", "MEAN", "RESHAPE"}, codes
    assert (conversion.inputs[0].dtype, conversion.outputs[0].dtype) == ("int8", "int8")


@pytest.fixture(scope="module")
def images(splits: data.Splits) -> np.ndarray:
    return pictures(splits.test, 0, N_EVALUATED)[0]


@pytest.fixture(scope="module")
def onnx_logits(quantized: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    return np.concatenate([out[0] for out in run_onnx(quantized, [[image[None]] for image in images])])


@pytest.fixture(scope="module")
def error(float_model: onnx.ModelProto, images: np.ndarray, onnx_logits: np.ndarray) -> np.ndarray:
    """What quantizing changes in each logit."""
    session = onnxruntime.InferenceSession(float_model.SerializeToString())
    return onnx_logits - session.run(None, {"images": images})[0]


def integers_of(quantized: onnx.ModelProto, images: np.ndarray, kernels: str) -> tuple[np.ndarray, TensorSpec]:
    """What the .tflite file answers, int [pictures, 10], and its output."""
    conversion = convert(quantized)
    (spec,), (output,) = conversion.inputs, conversion.outputs
    given = [[to_tflite(image[None], conversion.input_permutations[0], spec)] for image in images]
    integers = np.concatenate([out[0] for out in run_tflite(conversion.data, given, kernels)])
    return integers.astype(int), output


@pytest.mark.parametrize("kernels", ["litert", "litert-reference"])
def test_both_int8_files_are_the_same_network(
    quantized: onnx.ModelProto, images: np.ndarray, onnx_logits: np.ndarray, error: np.ndarray, kernels: str
) -> None:
    integers, output = integers_of(quantized, images, kernels)
    wanted = np.rint(onnx_logits / np.float32(output.scale)).astype(int) + output.zero_point
    steps = np.abs(integers - wanted)
    if kernels == "litert":
        assert steps.max() <= 1, np.bincount(steps.reshape(-1))
        assert np.mean(steps == 0) >= 0.99
    else:
        # These round a product twice: a step more or less in any of 26 layers, which the network carries on.
        # How far is the network's doing; all together it is a part of what quantizing itself changes.
        assert np.mean(steps <= 1) >= 0.97
        assert np.sqrt(np.mean(steps**2)) <= 0.6 * np.sqrt(np.mean(error**2)) / output.scale
    # Where the TFLite file's class is another one, the two were as good as equal.
    behind = wanted.max(1) - wanted[np.arange(len(wanted)), integers.argmax(1)]
    assert behind.max() <= 3, np.bincount(behind)


def test_quantizing_changes_little(quantized: onnx.ModelProto, error: np.ndarray) -> None:
    (output,) = convert(quantized).outputs
    # A picture outside the range of the calibration images is clipped.
    assert np.mean(np.abs(error) <= 16 * output.scale) >= 0.99


def test_both_engines_agree_on_squeezenet(float_model: onnx.ModelProto, splits: data.Splits) -> None:
    if not engines.is_installed("neural-compressor"):
        pytest.skip("neural-compressor is not installed")
    calibration, _ = pictures(splits.train, 5_000, 20)
    asked = {
        engine: quantize(float_model, calibration, QuantizeSpec(engine=engine)) for engine in engines.ENGINES
    }
    bypasses = any(node.op_type == "Add" for node in float_model.graph.node)
    by_default = asked["neural-compressor"]
    assert by_default.engine == ("onnxruntime" if bypasses else "neural-compressor")
    if bypasses:
        assert by_default.notes == ("neural-compressor leaves Add in float32: quantized by onnxruntime",)
    images, _ = pictures(splits.test, 0, 20)
    one, other = (run_onnx(quantized.model, [[images]])[0][0] for quantized in asked.values())
    assert np.array_equal(one, other)


@pytest.mark.slow
def test_a_short_build_of_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_fewer(monkeypatch)
    measure_little(monkeypatch)
    settings = {
        "train.epochs": 1,
        "compress.0.prune.finetune_epochs": 0,
        "compress.1.finetune.epochs": 1,
        "model.squeezenet1_1.widths": [8] * 24 + [16],
        "budget": "{}",
    }
    changed = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    result = run("build", ROOT / "recipes" / "mnist_squeezenet_int8.yaml", "-o", tmp_path / "build", *changed)
    assert result.exit_code == 0, result.output
    assert {path.suffix for path in (tmp_path / "build").glob("*int8.*")} >= {".onnx", ".tflite"}
