"""`edgecnn convert`: what it writes, what it compares, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner, Result
from onnx import TensorProto, helper, numpy_helper

from edgecnn import comparison, operations
from edgecnn.cli import cli
from edgecnn.compress.quantize import quantize
from edgecnn.export.onnx import export_onnx
from edgecnn.export.tflite import convert
from edgecnn.models import build_model
from edgecnn.recipe import QuantizeSpec
from edgecnn.targets.host import HostTarget


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["convert", *map(str, arguments)])


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """LeNet-5 with random weights, in float and in QDQ."""
    folder = tmp_path_factory.mktemp("convert")
    network = export_onnx(build_model("lenet5", in_channels=1, n_classes=10, seed=4), (1, 28, 28))
    images = np.random.default_rng(0).normal(size=(10, 1, 28, 28)).astype(np.float32)
    quantized = quantize(network, images, QuantizeSpec(engine="onnxruntime")).model
    paths = {"float": folder / "float.onnx", "int8": folder / "int8.onnx"}
    onnx.save(network, paths["float"])
    onnx.save(quantized, paths["int8"])
    return paths


def test_it_writes_beside_the_source_and_compares(models: dict[str, Path]) -> None:
    result = run(models["float"], "--compare", "3")
    assert result.exit_code == 0, result.output
    written = models["float"].with_suffix(".tflite")
    assert written.read_bytes() == convert(models["float"]).data
    assert f"wrote {written}" in result.stdout.replace("\n", "")
    assert "agrees with onnxruntime on 3 random inputs" in result.stdout
    assert "input images: float32 1 x 28 x 28 x 1" in result.stdout


def test_int8_is_compared_in_steps(models: dict[str, Path], tmp_path: Path) -> None:
    result = run(models["int8"], "-o", tmp_path / "m.tflite", "--compare", "20", "--json")
    assert result.exit_code == 0
    facts = json.loads(result.stdout)
    (output,) = facts["comparison"]["outputs"]
    assert sum(output["lsb_histogram"].values()) == 200
    assert max(map(int, output["lsb_histogram"])) <= 1
    assert facts["size_bytes"] == (tmp_path / "m.tflite").stat().st_size
    assert facts["inputs"][0]["dtype"] == "int8"


@pytest.mark.parametrize("io", ["uint8", "float32"])
def test_other_interfaces_agree_too(models: dict[str, Path], tmp_path: Path, io: str) -> None:
    facts = operations.convert(models["int8"], tmp_path / "m.tflite", n_compared=5, io=io)
    assert facts["inputs"][0]["dtype"] == io
    assert facts["comparison"]["agrees"]


def test_scales_that_are_chosen_make_a_smaller_file_that_agrees(
    models: dict[str, Path], tmp_path: Path
) -> None:
    result = run(models["int8"], "-o", tmp_path / "m.tflite", "--unit-scales", "--compare", "20", "--json")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["comparison"]["agrees"]
    assert facts["size_bytes"] < len(convert(models["int8"]).data)


def test_weights_in_fewer_bits_are_compared_but_not_judged(models: dict[str, Path], tmp_path: Path) -> None:
    result = run(models["float"], "-o", tmp_path / "m.tflite", "--weights", "int8", "--compare", "5")
    assert result.exit_code == 0
    assert "weights in fewer bits, compared with onnxruntime" in result.stdout
    assert (tmp_path / "m.tflite").stat().st_size < 70_000


def test_a_wrong_file_is_found_out(models: dict[str, Path], tmp_path: Path) -> None:
    other = export_onnx(build_model("lenet5", in_channels=1, n_classes=10, seed=5), (1, 28, 28))
    conversion = convert(other)
    (tmp_path / "other.tflite").write_bytes(conversion.data)
    found = comparison.compare(models["float"], tmp_path / "other.tflite", conversion, HostTarget(), n_inputs=2)
    assert not found.agrees
    assert found.outputs[0].relative_difference > 0.01


def test_several_inputs_and_outputs_are_compared_each(tmp_path: Path) -> None:
    class Two(torch.nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.relu(a) + b, torch.sigmoid(b)

    path = tmp_path / "two.onnx"
    example = (torch.rand(1, 3, 4, 5), torch.rand(1, 3, 4, 5))
    program = torch.onnx.export(
        Two().eval(), example, dynamo=True, input_names=["a", "b"], output_names=["s", "t"], external_data=False
    )
    program.save(path)
    facts = operations.convert(path, n_compared=4)
    assert [output["name"] for output in facts["comparison"]["outputs"]] == ["s", "t"]
    assert facts["comparison"]["agrees"]


def test_what_cannot_be_converted_is_listed_whole_and_nothing_is_written(tmp_path: Path) -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy")
    nodes = [
        helper.make_node("CumSum", ["x", "axis"], ["a"], name="first"),
        helper.make_node("Einsum", ["a"], ["y"], name="second", equation="ij->ij"),
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "g", [x], [y], [numpy_helper.from_array(np.array(1), "axis")]),
        opset_imports=[helper.make_opsetid("", 17)],
    )
    path = tmp_path / "odd.onnx"
    onnx.save(model, path)
    result = run(path)
    assert result.exit_code == 2
    assert "first" in result.stderr
    assert "second" in result.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["odd.onnx"]


def test_bad_files_are_told_of(tmp_path: Path, models: dict[str, Path]) -> None:
    result = run(tmp_path / "none.onnx")
    assert (result.exit_code, "No such file" in result.stderr) == (2, True)
    (tmp_path / "bad.onnx").write_bytes(b"\x00\x01 not a model")
    result = run(tmp_path / "bad.onnx")
    assert (result.exit_code, "no ONNX model" in result.stderr) == (2, True)
    result = run(models["float"], "-o", models["float"])
    assert (result.exit_code, "would replace the source" in result.stderr) == (2, True)
    result = run(models["float"], "-o", tmp_path / "nowhere" / "x.tflite")
    assert result.exit_code == 3
    assert f"{tmp_path / 'nowhere' / 'x.tflite'}: cannot be written: there is no such folder" in result.stderr
    result = run(models["float"], "--runtime", "tflite-rutime")
    assert result.exit_code == 2
    assert "tflite-runtime==2.14" in result.stderr
