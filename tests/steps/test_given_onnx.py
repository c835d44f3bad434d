"""A float ONNX file as the dense network: fitted to the data, or refused with the reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from recipes_for_tests import MINIMAL_RECIPE

from edgecnn import recipe_file
from edgecnn.errors import ModelError, RecipeError
from edgecnn.progress import Silent
from edgecnn.stages import StageStore
from edgecnn.steps.given_onnx import given_stage, read, save_fitted
from edgecnn.steps.manifests import output_of
from edgecnn.steps.networks import Workshop

RNG = np.random.default_rng(0)


def model_file(
    path: Path,
    *,
    shape: tuple[object, ...] = ("n", 1, 28, 28),
    n_outputs: int = 10,
    n_ones: int = 0,
    nodes_after: tuple[onnx.NodeProto, ...] = (),
    reshape: tuple[int, ...] | None = None,
    opset: int = 17,
    elem_type: int = TensorProto.FLOAT,
    weights: float = 0.1,
) -> Path:
    """Convolution, batch norm, ReLU, global pooling, flatten (or a fixed reshape), Gemm."""
    channels = shape[1] if isinstance(shape[1], int) else 1
    constants = {
        "w": RNG.normal(size=(4, channels, 3, 3)) * weights,
        "gain": np.array([1.0, 2, 3, 4]),
        "shift": np.zeros(4),
        "mean": np.full(4, 0.1),
        "variance": np.full(4, 2.0),
        "v": RNG.normal(size=(n_outputs, 4)),
    }
    flatten = (
        helper.make_node("Flatten", ["pooled"], ["flat"])
        if reshape is None
        else helper.make_node("Reshape", ["pooled", "sizes"], ["flat"])
    )
    nodes = [
        helper.make_node("Conv", ["pictures", "w"], ["conv"]),
        helper.make_node("BatchNormalization", ["conv", "gain", "shift", "mean", "variance"], ["norm"]),
        helper.make_node("Relu", ["norm"], ["relu"]),
        helper.make_node("GlobalAveragePool", ["relu"], ["pooled"]),
        flatten,
        helper.make_node("Gemm", ["flat", "v"], ["gemm" if nodes_after else "out"], transB=1),
        *nodes_after,
    ]
    initializers = [numpy_helper.from_array(a.astype(np.float32), n) for n, a in constants.items()]
    if reshape is not None:
        initializers.append(numpy_helper.from_array(np.array(reshape, np.int64), "sizes"))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("pictures", elem_type, list(shape))],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", n_outputs, *([1] * n_ones)])],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def shop_for(tmp_path: Path, file: Path, data: str = "mnist") -> Workshop:
    recipe = tmp_path / "recipe.yaml"
    text = MINIMAL_RECIPE.replace("train: {epochs: 1, threads: 2}\n", "").replace("lenet5", f"{{onnx: {file}}}")
    recipe.write_text(text.replace("data: mnist", f"data: {data}"))
    return Workshop(recipe_file.load(recipe).recipe, StageStore(tmp_path / "build"), Silent())


def fitted(tmp_path: Path, file: Path, data: str = "mnist") -> onnx.ModelProto:
    save_fitted(shop_for(tmp_path, file, data), file, tmp_path / "fitted.onnx")
    return onnx.load(tmp_path / "fitted.onnx")


def told(tmp_path: Path, file: Path, data: str = "mnist") -> str:
    with pytest.raises(ModelError) as fault:
        fitted(tmp_path, file, data)
    assert fault.value.exit_code == 2
    assert str(fault.value).startswith(str(file))
    assert not (tmp_path / "fitted.onnx").exists()
    return str(fault.value)


def outputs(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {session.get_inputs()[0].name: images})[0]


@pytest.mark.parametrize(
    "shape", [("n", 1, 28, 28), (1, 1, 28, 28), ("n", "c", "h", "w"), (None, 1, None, None)]
)
def test_the_same_network_with_an_open_batch_and_no_batch_norm(
    tmp_path: Path, shape: tuple[object, ...]
) -> None:
    file = model_file(tmp_path / "net.onnx", shape=shape)
    model = fitted(tmp_path, file)
    sizes = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    assert sizes == [0, 1, 28, 28]
    assert [node.op_type for node in model.graph.node] == [
        "Conv",
        "Relu",
        "GlobalAveragePool",
        "Flatten",
        "Gemm",
    ]
    images = RNG.normal(size=(1, 1, 28, 28)).astype(np.float32)
    np.testing.assert_allclose(outputs(model, images), outputs(onnx.load(file), images), rtol=1e-4, atol=1e-5)


def test_a_batch_that_is_built_into_the_graph_stays_one(tmp_path: Path) -> None:
    model = fitted(tmp_path, model_file(tmp_path / "net.onnx", shape=(1, 1, 28, 28), reshape=(1, 4)))
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1


def test_an_older_opset_is_brought_up(tmp_path: Path) -> None:
    model = fitted(tmp_path, model_file(tmp_path / "net.onnx", opset=11))
    assert model.opset_import[0].version == 13


def test_a_softmax_at_the_end_is_told_in_the_manifest(tmp_path: Path) -> None:
    softmax = (helper.make_node("Softmax", ["gemm"], ["out"]),)
    for name, nodes, expected in (("a", (), "logits"), ("b", softmax, "probabilities")):
        fitted(tmp_path, model_file(tmp_path / f"{name}.onnx", nodes_after=nodes))
        assert output_of(tmp_path / "fitted.onnx") == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"shape": ("n", 3, 28, 28)}, "[n, 3, 28, 28]; the pictures of mnist are [n, 1, 28, 28]"),
        ({"shape": ("n", 3, 28, 28)}, "the network wants 3 channels"),
        ({"shape": ("n", 1, 32, 32)}, "data: {mnist: {size: [32, 32]}}"),
        ({"n_outputs": 5}, "it has 5 outputs; mnist has 10 classes"),
        ({"reshape": (8, 4), "shape": (8, 1, 28, 28)}, "it does not run on a picture"),
        ({"n_ones": 1, "nodes_after": (helper.make_node("Unsqueeze", ["gemm", "axis"], ["out"]),)},
         "[1, 10, 1], not [1, 10]"),
        ({"elem_type": TensorProto.FLOAT16}, "its input pictures is float16, not float32"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_data_is_told(tmp_path: Path, options: dict, expected: str) -> None:
    file = model_file(tmp_path / "net.onnx", **options)
    if "nodes_after" in options:
        model = onnx.load(file)
        model.graph.initializer.append(numpy_helper.from_array(np.array([2], np.int64), "axis"))
        onnx.save(model, file)
    if "elem_type" in options:  # a cast makes it a valid model
        model = onnx.load(file)
        model.graph.node[0].input[0] = "cast"
        model.graph.node.insert(0, helper.make_node("Cast", ["pictures"], ["cast"], to=TensorProto.FLOAT))
        onnx.save(model, file)
    assert expected in told(tmp_path, file)


def test_channels_last_is_recognized(tmp_path: Path) -> None:
    file = model_file(tmp_path / "net.onnx", shape=("n", 28, 28, 1))
    assert "export it channels first" in told(tmp_path, file)


def test_several_inputs_are_refused(tmp_path: Path) -> None:
    model = onnx.load(model_file(tmp_path / "net.onnx"))
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))
    onnx.save(model, tmp_path / "net.onnx")
    assert "it has 2 inputs and 1 outputs" in told(tmp_path, tmp_path / "net.onnx")


def test_nan_is_told_before_anything_is_quantized(tmp_path: Path) -> None:
    file = model_file(tmp_path / "net.onnx", weights=float("nan"))
    shop = shop_for(tmp_path, file)
    with pytest.raises(ModelError, match="NaN or infinite logits on the validation pictures"):
        given_stage(shop).work(tmp_path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "there is no such file"),
        (b"", "not a valid ONNX model"),
        (b"\x08\x07junk", "not a valid ONNX model"),
    ],
)
def test_what_is_no_onnx_file(tmp_path: Path, content: bytes | None, expected: str) -> None:
    if content is not None:
        (tmp_path / "net.onnx").write_bytes(content)
    with pytest.raises(ModelError) as fault:
        read(tmp_path / "net.onnx")
    assert expected in str(fault.value)


def test_a_quantized_file_is_refused_with_what_can_be_done(tmp_path: Path) -> None:
    nodes = (
        helper.make_node("QuantizeLinear", ["gemm", "s"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s"], ["out"]),
    )
    file = model_file(tmp_path / "net.onnx", nodes_after=nodes)
    model = onnx.load(file)
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0.1), "s"))
    onnx.save(model, file)
    message = told(tmp_path, file)
    assert "it is quantized already (DequantizeLinear, QuantizeLinear)" in message
    assert f"edgecnn convert {file} --compare 20" in message


def test_weights_in_a_file_beside_it_are_part_of_the_hash(tmp_path: Path) -> None:
    file = model_file(tmp_path / "net.onnx")
    onnx.save(
        onnx.load(file), file, save_as_external_data=True, location="net.data", size_threshold=0,
        convert_attribute=False,
    )  # fmt: skip
    assert (tmp_path / "net.data").is_file()
    before = given_stage(shop_for(tmp_path, file)).key
    assert given_stage(shop_for(tmp_path, file)).key == before
    raw = bytearray((tmp_path / "net.data").read_bytes())
    raw[1] ^= 1
    (tmp_path / "net.data").write_bytes(raw)
    assert given_stage(shop_for(tmp_path, file)).key != before
    (tmp_path / "net.data").unlink()
    with pytest.raises(ModelError, match="its weights lie in a file beside it"):
        given_stage(shop_for(tmp_path, file))


@pytest.mark.parametrize("step", ["prune: {ratio: 0.5}", "finetune"])
def test_training_is_refused_in_the_recipe(tmp_path: Path, step: str) -> None:
    shop_for(tmp_path, tmp_path / "net.onnx")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("  - quantize", f"  - {step}\n  - quantize"))
    with pytest.raises(RecipeError, match=r"recipe\.yaml:6: compress\.0: a network given as an ONNX file"):
        recipe_file.load(recipe)
    with pytest.raises(RecipeError, match=r"train\.epochs=3: a network given as an ONNX file is not trained"):
        recipe_file.load(recipe, ("train.epochs=3",))
