"""Which layer suffers from its quantization, on a network in which one was made to."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgecnn.analysis.sensitivity import layer_sensitivity

LAYERS = ("first", "second")


def network(steps: dict[str, float] | None) -> onnx.ModelProto:
    """Two 4 x 4 fully connected layers behind one another; with `steps`, their weights in such int8 steps."""
    rng = np.random.default_rng(0)
    nodes, constants, data = [], [], "x"
    for name in LAYERS:
        weights = rng.uniform(-1, 1, size=(4, 4)).astype(np.float32)
        read, used = data, f"{name}.weight"
        if steps:
            integers = np.clip(np.rint(weights / steps[name]), -127, 127).astype(np.int8)
            for suffix, array in (
                ("s", np.float32(steps[name])),
                ("z", np.int8(0)),
                ("xs", np.float32(0.1)),
                ("xz", np.uint8(128)),
            ):
                constants.append(numpy_helper.from_array(np.array(array), f"{name}.{suffix}"))
            constants.append(numpy_helper.from_array(integers, f"{name}.q"))
            scales = [f"{name}.xs", f"{name}.xz"]
            nodes += [
                helper.make_node("QuantizeLinear", [data, *scales], [f"{name}.xq"]),
                helper.make_node("DequantizeLinear", [f"{name}.xq", *scales], [f"{name}.xd"]),
                helper.make_node("DequantizeLinear", [f"{name}.q", f"{name}.s", f"{name}.z"], [f"{name}.d"]),
            ]
            read, used = f"{name}.xd", f"{name}.d"
        else:
            constants.append(numpy_helper.from_array(weights, used))
        data = "y" if name == LAYERS[-1] else f"{name}.out"
        nodes.append(helper.make_node("Gemm", [read, used], [data]))
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


INPUTS = np.random.default_rng(1).uniform(-3, 3, size=(50, 4)).astype(np.float32)


@pytest.mark.parametrize("coarse", LAYERS)
def test_the_layer_of_coarse_weights_comes_first(coarse: str) -> None:
    steps = {name: 0.9 if name == coarse else 0.01 for name in LAYERS}
    worst, other = layer_sensitivity(network(None), network(steps), INPUTS, None)
    assert (worst.layer, worst.n_images, worst.accuracy_drop) == (coarse, 50, None)
    assert worst.divergence > 10 * other.divergence
    assert worst.top1_equal < other.top1_equal


def test_of_one_layer_its_weights_and_its_inputs_are_rounded_and_nothing_else() -> None:
    """Worked out with numpy: KL divergence of the softmax outputs."""
    steps = dict.fromkeys(LAYERS, 0.25)
    rng = np.random.default_rng(0)
    first, second = (rng.uniform(-1, 1, size=(4, 4)).astype(np.float32).astype(np.float64) for _ in LAYERS)
    exact = INPUTS.astype(np.float64) @ first @ second
    rounded = np.rint(INPUTS / np.float32(0.1)) * 0.1
    changed = rounded @ (np.rint(first / 0.25) * 0.25) @ second

    def log_softmax(logits: np.ndarray) -> np.ndarray:
        return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))

    p, q = log_softmax(exact), log_softmax(changed)
    labels = exact.argmax(axis=1)
    found = {one.layer: one for one in layer_sensitivity(network(None), network(steps), INPUTS, labels)}
    assert found["first"].divergence == pytest.approx(np.mean(np.sum(np.exp(p) * (p - q), axis=1)), rel=1e-3)
    equal = float(np.mean(changed.argmax(axis=1) == labels))
    assert found["first"].top1_equal == pytest.approx(equal)
    assert found["first"].accuracy_drop == pytest.approx(1 - equal), "the labels are the float network's"
