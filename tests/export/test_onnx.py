from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from edgecnn.export import cost
from edgecnn.export.onnx import export_onnx, name_global_pooling
from edgecnn.models import MODELS, build_model


@pytest.fixture(scope="module", params=MODELS)
def exported(request: pytest.FixtureRequest) -> tuple[torch.nn.Module, onnx.ModelProto]:
    model = build_model(request.param, in_channels=1, n_classes=10, seed=3).eval()
    return model, export_onnx(model, (1, 28, 28))


def test_the_file_gives_what_torch_gives_for_any_batch(
    exported: tuple[torch.nn.Module, onnx.ModelProto],
) -> None:
    model, proto = exported
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    for batch in (1, 7):
        images = torch.rand(batch, 1, 28, 28)
        (logits,) = session.run(["logits"], {"images": images.numpy()})
        np.testing.assert_allclose(logits, model(images).detach().numpy(), atol=2e-5)


def test_the_file_is_the_network_and_nothing_else(
    exported: tuple[torch.nn.Module, onnx.ModelProto],
) -> None:
    model, proto = exported
    onnx.checker.check_model(proto, full_check=True)
    content = proto.SerializeToString()
    assert len(content) < 4 * sum(p.numel() for p in model.parameters()) + 2_500
    assert b".py" not in content, "no source paths"
    assert not proto.metadata_props
    assert not any(node.metadata_props or node.doc_string for node in proto.graph.node)
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param, "the batch is open"
    assert not any(tensor.external_data for tensor in proto.graph.initializer)


def test_exporting_twice_gives_the_same_bytes() -> None:
    def content() -> bytes:
        model = build_model("lenet5", in_channels=1, n_classes=10, seed=3)
        return export_onnx(model, (1, 28, 28)).SerializeToString()

    assert content() == content()


def test_the_mode_of_the_model_is_left_alone() -> None:
    model = build_model("lenet5", in_channels=1, n_classes=10).train()
    export_onnx(model, (1, 28, 28))
    assert model.training


def test_parameters_and_macs_of_lenet5() -> None:
    model = build_model("lenet5", in_channels=1, n_classes=10)
    found = cost.count(export_onnx(model, (1, 28, 28)))
    assert found.n_params == 61_706
    # conv1 28x28x6 x 25, conv2 10x10x16 x 150, then 400x120 + 120x84 + 84x10
    assert found.n_macs == 117_600 + 240_000 + 48_000 + 10_080 + 840


def mean_over(axes: list[int], *, keepdims: int = 1, rank: int = 4) -> onnx.ModelProto:
    """x -> ReduceMean over `axes` -> y"""
    dims: list[str | int] = ["n", 2, 3, 4, 5][:rank]
    n_left = rank if keepdims else rank - len(axes)
    node = onnx.helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=keepdims)
    graph = onnx.helper.make_graph(
        [node],
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, dims)],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [None] * n_left)],
        [onnx.numpy_helper.from_array(np.array(axes, np.int64), "axes")],
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)


@pytest.mark.parametrize("axes", [[2, 3], [-1, -2], [3, 2]])
def test_a_mean_over_height_and_width_is_global_average_pooling(axes: list[int]) -> None:
    model, images = mean_over(axes), np.random.default_rng(0).normal(size=(2, 2, 3, 4)).astype(np.float32)
    name_global_pooling(model)
    onnx.checker.check_model(model, full_check=True)
    (node,) = model.graph.node
    assert (node.op_type, list(node.input), len(node.attribute)) == ("GlobalAveragePool", ["x"], 0)
    assert not model.graph.initializer
    (pooled,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": images})
    np.testing.assert_allclose(pooled, images.mean((2, 3), keepdims=True), atol=1e-6)


@pytest.mark.parametrize(
    "other",
    [
        {"axes": [2, 3], "keepdims": 0},
        {"axes": [1]},
        {"axes": [3]},
        {"axes": [1, 2, 3]},
        {"axes": [2, 3], "rank": 5},
        {"axes": [-2, -1], "rank": 3},
    ],
)
def test_any_other_mean_is_left_alone(other: dict[str, Any]) -> None:
    model = mean_over(**other)
    before = model.SerializeToString()
    name_global_pooling(model)
    assert model.SerializeToString() == before
