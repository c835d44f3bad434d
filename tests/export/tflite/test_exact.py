"""Every integer operator that we emit, fed by itself with integers, against exact arithmetic.

What is compared is one operator (or the few that one ONNX operator became, where a QUANTIZE is among them) in a
file of its own, taken from the nets of the zoo and from the cases of one ONNX operator each. Off by one step of
the output's scale at most; by two where a QUANTIZE had to be added.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import groupby

import numpy as np
import onnx
import pytest
from agreement.zoo import ZOO
from export.tflite.exact import ExactModel, Tensor
from export.tflite.nets import lenet5, qdq
from export.tflite.running import RuntimeCrashError, run_tflite
from export.tflite.test_operators import CASES, NOT_IN_REFERENCE, built
from export.tflite.test_zoo import cleaned

from edgecnn.export.tflite import _lowered, convert
from edgecnn.export.tflite.model import Model, Operator, Quantization
from edgecnn.export.tflite.writer import write

RUNTIMES = ["litert", "litert-reference", "tflite-runtime", "tflm"]
# Operators that need proof by themselves; all others that appear are compared as well.
PROVEN = {
    "ADD", "AVERAGE_POOL_2D", "CONCATENATION", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "LOGISTIC",
    "MAX_POOL_2D", "MEAN", "MUL", "PAD", "QUANTIZE", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "SOFTMAX",
    "SUB", "TANH",
}  # fmt: skip


def lowered(model: onnx.ModelProto) -> Model:
    return _lowered(model, batch=1, io="int8", keep_nchw_input=False)[0]


def alone(operators: list[Operator]) -> Model:
    """These operators as a model: what none of them computes comes in, what the last gives goes out."""
    made = {id(tensor) for operator in operators for tensor in operator.outputs}
    read = [t for operator in operators for t in operator.inputs if t is not None and t.data is None]
    inputs = {id(tensor): tensor for tensor in read if id(tensor) not in made}
    return Model(operators, list(inputs.values()), list(operators[-1].outputs))


def parts(model: Model) -> Iterator[tuple[list[Operator], int]]:
    """(operators, by how many steps they may be off), for everything integer in the model."""
    for operator in model.operators:
        if operator.outputs[0].dtype == "int8":
            yield [operator], 1
    for _, group in groupby(model.operators, lambda operator: operator.source):
        operators = list(group)
        if len(operators) > 1 and any(operator.code == "QUANTIZE" for operator in operators):
            yield operators, 2


def numbers_for(tensor: Tensor, like: Tensor, random: np.random.Generator) -> np.ndarray:
    """Integers all over the range; where real numbers go in, such as the output can hold."""
    integers = random.integers(-128, 128, tensor.shape)
    if tensor.is_quantized or tensor.dtype.kind != "f":
        return integers.astype(tensor.dtype)
    spread = (integers + random.uniform(-0.4, 0.4, tensor.shape) - like.zero_point.item()) * like.scale.item()
    return spread.astype(np.float32)


@dataclass(frozen=True)
class Trial:
    """A file, what goes in, and what exact arithmetic says should come out."""

    name: str
    most_steps: int
    data: bytes
    arrays: list[np.ndarray]
    wanted: list[np.ndarray]

    def steps_off(self, runtime: str, data: bytes | None = None) -> int:
        """By how many steps of its scale the output is off at most. `data`: the file to run, if another."""
        actual = run_tflite(data or self.data, [self.arrays], runtime)[0]
        # The Python interface of the microcontroller runtime gives the first output.
        pairs = zip(actual, self.wanted, strict=False)
        return max(int(np.abs(a.astype(int) - w.astype(int)).max()) for a, w in pairs)


def trial(operators: list[Operator], most_steps: int = 1) -> Trial:
    data = write(alone(operators))
    exact = ExactModel(data)
    random = np.random.default_rng(0)
    like = exact.tensors[exact.outputs[0]]
    arrays = [numbers_for(exact.tensors[i], like, random) for i in exact.inputs]
    name = f"{' + '.join(operator.code for operator in operators)} of {operators[0].source}"
    return Trial(name, most_steps, data, arrays, exact.run(arrays, rounding=False))


def trials(model: onnx.ModelProto) -> list[Trial]:
    return [trial(operators, most) for operators, most in parts(lowered(model))]


# Each is computed once for all runtimes.
@cache
def trials_of_case(name: str) -> list[Trial]:
    return trials(qdq(built(CASES[name])))


@cache
def trials_of_net(name: str) -> list[Trial]:
    return trials(qdq(cleaned(name)))


def faults(found: list[Trial], runtime: str) -> list[str]:
    """Each part that is off by more than it may be, and what runtimes refuse."""
    told = []
    for one in found:
        try:
            steps = one.steps_off(runtime)
        except RuntimeCrashError as fault:
            told.append(f"{one.name}: {fault}")
            continue
        if steps > one.most_steps:
            told.append(f"{one.name}: off by {steps} steps, may be {one.most_steps}")
    return told


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", CASES)
def test_cases(name, runtime):
    if runtime == "litert-reference" and name in NOT_IN_REFERENCE:
        pytest.skip("the reference kernels lack its operator")
    assert not faults(trials_of_case(name), runtime)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", ZOO)
def test_zoo(name, runtime):
    assert not faults(trials_of_net(name), runtime)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_requantized_cases(runtime):
    """Parts of unequal scales: every kind of QUANTIZE that is added."""
    wide = np.float32(4)
    for case in (
        lambda n, x: n("Concat", x, n("Mul", x, wide), axis=1),
        lambda n, x: n("Max", x, n("Mul", x, wide)),
        lambda n, x: n("ReduceMax", x, axes=[2, 3], keepdims=0),
        lambda n, x: n("MaxPool", x, kernel_shape=[2, 2]),
        lambda n, x: n("Resize", n("Relu", x), "", np.array([1, 1, 2, 2], np.float32), mode="linear"),
    ):
        found = trials(qdq(built(case), unify=False))
        assert any("QUANTIZE" in one.name and one.most_steps == 2 for one in found)
        assert not faults(found, runtime)


def test_every_operator_that_matters_was_compared():
    seen = {one.name.split()[0] for name in CASES for one in trials_of_case(name)}
    assert seen >= PROVEN, PROVEN - seen


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_whole_lenet(runtime):
    """Every tensor rounded as the file says, nothing else: at most one step at the end."""
    data = convert(qdq(lenet5())).data
    exact = ExactModel(data)
    random = np.random.default_rng(0)
    batches = [[random.integers(-128, 128, (1, 28, 28, 1)).astype(np.int8)] for _ in range(20)]
    for arrays, actual in zip(batches, run_tflite(data, batches, runtime), strict=True):
        (wanted,) = exact.run(arrays)
        assert np.abs(actual[0].astype(int) - wanted).max() <= 1


@pytest.mark.parametrize("change", ["bias", "weights", "zero point", "dilation"])
def test_the_comparison_can_fail(change):
    """The runtime is given another operator than the arithmetic."""
    model = qdq(built(lambda n, x: n.conv(x, 4, 6, 3, pads=[1] * 4)))
    plain, (changed,) = lowered(model).operators, lowered(model).operators
    _, weights, bias = changed.inputs
    output = changed.outputs[0].quantization
    assert weights is not None and bias is not None and output is not None
    assert weights.data is not None and bias.data is not None
    match change:
        case "bias":
            bias.data = bias.data + 2000
        case "weights":
            weights.data = weights.data[:, ::-1].copy()
        case "zero point":
            changed.outputs[0].quantization = Quantization(output.scale, output.zero_point + 2)
        case "dilation":
            changed.options["dilation_h"] = 2
    found = trial(plain)
    assert found.steps_off("litert") <= 1
    assert found.steps_off("litert", write(alone([changed]))) > 1
