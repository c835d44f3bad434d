"""The predicted cost against the file that is really written."""

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

from edgecnn.compress.qat import prepare, trained_model  # noqa: E402
from edgecnn.compress.quantize import quantize  # noqa: E402
from edgecnn.export.cost import count  # noqa: E402
from edgecnn.export.onnx import export_onnx  # noqa: E402
from edgecnn.models import MODELS, build_model  # noqa: E402
from edgecnn.recipe import QatSpec, QuantizeSpec  # noqa: E402
from edgecnn.search import cost  # noqa: E402

LENET = MODELS["lenet5"].widths


def network(widths: tuple[int, ...]) -> onnx.ModelProto:
    model = build_model("lenet5", in_channels=1, n_classes=10, widths=dict(zip(LENET, widths, strict=True)))
    return export_onnx(model, (1, 28, 28))


def quantized(widths: tuple[int, ...]) -> onnx.ModelProto:
    images = np.random.default_rng(0).normal(size=(2, 1, 28, 28)).astype(np.float32)
    return quantize(network(widths), images, QuantizeSpec(engine="onnxruntime")).model


def in_four_bits(widths: tuple[int, ...]) -> onnx.ModelProto:
    return trained_model(*prepare(network(widths), quantized(widths), QatSpec(weights="int4")))


def but_for_one_layer(widths: tuple[int, ...]) -> onnx.ModelProto:
    spec = QatSpec(weights="int4", int8_layers=("fc1",))
    return trained_model(*prepare(network(widths), quantized(widths), spec))


def packed_bytes(model: onnx.ModelProto) -> int:
    return len(cost.tflite(model, weights="packed"))


@pytest.mark.parametrize(
    ("build", "measure"),
    [
        pytest.param(quantized, lambda model: len(cost.tflite(model)), id="bytes in int8"),
        pytest.param(in_four_bits, packed_bytes, id="bytes in int4"),
        pytest.param(but_for_one_layer, packed_bytes, id="bytes in int4, one layer in int8"),
        pytest.param(network, lambda model: len(cost.tflite(model)), id="bytes in float32"),
        pytest.param(network, lambda model: count(model).n_macs, id="multiply-accumulates"),
    ],
)
def test_the_cost_of_any_widths_is_that_of_the_real_file(build, measure) -> None:
    dense = tuple(LENET.values())
    predicted = cost.Cost(cost.ScalableGraph(build, dense, tuple(cost.narrowed(dense, 1))), measure)
    random = np.random.default_rng(1)
    for _ in range(4):
        widths = tuple(int(random.integers(1, width + 1)) for width in dense)
        assert predicted(widths) == measure(build(widths)), widths


def test_layers_that_a_concat_joins_add_up() -> None:
    dense = (8, 16, 24)

    def build(widths: tuple[int, ...]) -> onnx.ModelProto:
        a, b, c = widths
        left, right = torch.nn.Conv2d(3, a, 1), torch.nn.Conv2d(3, b, 3, padding=1)
        last = torch.nn.Conv2d(a + b, c, 1)

        class Fire(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.left, self.right, self.last = left, right, last

            def forward(self, x):
                return self.last(torch.cat([self.left(x), self.right(x)], 1)).mean((2, 3))

        return export_onnx(Fire(), (3, 6, 6))

    graph = cost.ScalableGraph(build, dense, tuple(cost.narrowed(dense, 8)))
    for widths in ((8, 8, 8), (3, 5, 7), (16, 16, 32)):
        assert len(cost.tflite(graph.resized(widths))) == len(cost.tflite(build(widths)))


def test_a_layer_of_one_step_is_probed_wider() -> None:
    assert list(cost.narrowed((8, 24), 8)) == [(16, 24), (8, 16)]


def test_a_network_that_changes_its_operators_with_its_widths_is_refused() -> None:
    def build(widths: tuple[int, ...]) -> onnx.ModelProto:
        layers = [torch.nn.Conv2d(1, widths[0], 1)]
        if widths[0] > 4:
            layers.append(torch.nn.ReLU())
        return export_onnx(torch.nn.Sequential(*layers), (1, 4, 4))

    with pytest.raises(ValueError, match="other operators"):
        cost.ScalableGraph(build, (8,), ((4,),))
