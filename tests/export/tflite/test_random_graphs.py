"""Graphs that nobody wrote: each converts and agrees with onnxruntime, or is refused for a reason we know.

The runtime lives in a child process, so that its crash is a failure with the graph saved, not the end of
the tests. EDGECNN_RANDOM_GRAPHS sets how many graphs each test draws.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from export.tflite.agreement import compare
from export.tflite.nets import Net, qdq, random_inputs
from export.tflite.running import run_onnx
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from edgecnn.errors import ConversionError
from edgecnn.export.tflite import convert

N_GRAPHS = int(os.environ.get("EDGECNN_RANDOM_GRAPHS", "40"))
DRAWN = settings(
    max_examples=N_GRAPHS,
    deadline=None,
    derandomize=N_GRAPHS <= 100,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
KNOWN_REFUSALS = ("takes other pixels than TFLite can", "tflm cannot run")
RUNTIMES = st.sampled_from(["litert", "litert-reference", "tflite-runtime", "tflm"])

Draw = Any


def window(draw: Draw, size: tuple[int, int], *, pads_below_kernel: bool = False) -> dict[str, list[int]]:
    kernel = [draw(st.integers(1, min(4, axis))) for axis in size]
    most = [k - 1 if pads_below_kernel else 3 for k in kernel]
    pads = [draw(st.integers(0, most[i % 2])) for i in range(4)]
    return {"kernel_shape": kernel, "strides": [draw(st.integers(1, 3)) for _ in size], "pads": pads}


def conv(draw: Draw, net: Net, x: str, shape: tuple[int, ...]) -> str:
    channels = shape[1]
    options = window(draw, shape[2:])
    groups = draw(st.sampled_from([g for g in range(1, channels + 1) if channels % g == 0]))
    n_out = groups * draw(st.integers(1, 3))
    extra = [net.weights(n_out)] if draw(st.booleans()) else []
    weights = net.weights(n_out, channels // groups, *options["kernel_shape"])
    y = net("Conv", x, weights, *extra, group=groups, **options)
    match draw(st.integers(0, 3)):
        case 0:
            return net("Relu", y)
        case 1:
            return net("Clip", y, np.float32(0), np.float32(6))
    return y


def conv_transpose(draw: Draw, net: Net, x: str, shape: tuple[int, ...]) -> str:
    kernel = [draw(st.integers(1, 4)) for _ in range(2)]
    strides = [draw(st.integers(1, k)) for k in kernel]
    pads = [draw(st.integers(0, (k - 1) // 2)) for k in kernel] * 2
    groups = draw(st.sampled_from([g for g in range(1, shape[1] + 1) if shape[1] % g == 0]))
    weights = net.weights(shape[1], draw(st.integers(1, 4)), *kernel)
    dilations = [draw(st.integers(1, 2)) for _ in range(2)]
    return net("ConvTranspose", x, weights, strides=strides, pads=pads, group=groups, dilations=dilations)


def max_pool(draw: Draw, net: Net, x: str, shape: tuple[int, ...]) -> str:
    options = window(draw, shape[2:], pads_below_kernel=True)
    return net("MaxPool", x, ceil_mode=int(draw(st.booleans()) and no_window_beyond(options, shape)), **options)


def no_window_beyond(options: dict[str, list[int]], shape: tuple[int, ...]) -> bool:
    """Whether rounding up adds no window that begins after the image: there onnxruntime contradicts itself."""
    for axis in (0, 1):
        before, after = options["pads"][axis], options["pads"][axis + 2]
        stride, size = options["strides"][axis], shape[2 + axis]
        n = -(-(size + before + after - options["kernel_shape"][axis]) // stride) + 1
        if (n - 1) * stride >= size + before:
            return False
    return True


def average_pool(draw: Draw, net: Net, x: str, shape: tuple[int, ...]) -> str:
    options = window(draw, shape[2:], pads_below_kernel=True)
    return net("AveragePool", x, count_include_pad=draw(st.integers(0, 1)), **options)


def activation(draw: Draw, net: Net, x: str, shape: tuple[int, ...]) -> str:
    names = ["Relu", "LeakyRelu", "Sigmoid", "Tanh", "HardSwish", "HardSigmoid"]
    # Those without an integer kernel, and those that are spelled out in others.
    names += ["Elu", "Selu", "Celu", "Softplus", "Erf", "Abs", "Neg"]
    return net(draw(st.sampled_from(names)), x)


def clip(draw: Draw, net: Net, x: str, shape: tuple[int, ...]) -> str:
    low = draw(st.sampled_from([-1.0, -0.25, 0.0]))
    return net("Clip", x, np.float32(low), np.float32(draw(st.sampled_from([0.5, 1.0, 6.0]))))


def operand(draw: Draw, net: Net, x: str, shape: tuple[int, ...]) -> str:
    full = tuple(size if draw(st.booleans()) else 1 for size in shape[1:])
    constant = net.weights(*full[draw(st.integers(0, 2)) :])
    other = draw(st.sampled_from(["constant", "scalar", "self", "mean"]))
    value: Any = {"constant": constant, "scalar": np.float32(0.75), "self": x, "mean": None}[other]
    if value is None:
        value = net("GlobalAveragePool", x)
    pair = [x, value] if draw(st.booleans()) else [value, x]
    return net(draw(st.sampled_from(["Add", "Sub", "Mul"])), *pair)


def concat(draw: Draw, net: Net, x: str, shape: tuple[int, ...]) -> str:
    other = draw(st.sampled_from(["self", "relu"]))
    return net("Concat", x, x if other == "self" else net("Relu", x), axis=draw(st.integers(1, 3)))


def slice_(draw: Draw, net: Net, x: str, shape: tuple[int, ...]) -> str:
    axis = draw(st.integers(1, 3))
    start = draw(st.integers(0, shape[axis] - 1))
    end = draw(st.integers(start + 1, shape[axis]))
    arrays = [np.array([n], np.int64) for n in (start, end, axis, draw(st.integers(1, 2)))]
    return net("Slice", x, *arrays)


def split(draw: Draw, net: Net, x: str, shape: tuple[int, ...]) -> str:
    axis = draw(st.integers(1, 3))
    first = draw(st.integers(1, max(shape[axis] - 1, 1)))
    if first >= shape[axis]:
        return net("Relu", x)
    sizes = np.array([first, shape[axis] - first], np.int64)
    return draw(st.sampled_from(net("Split", x, sizes, n_outputs=2, axis=axis)))


def pad(draw: Draw, net: Net, x: str, shape: tuple[int, ...]) -> str:
    pads = np.array([draw(st.integers(0, 2)) if i % 4 else 0 for i in range(8)], np.int64)
    return net("Pad", x, pads)


def resize(draw: Draw, net: Net, x: str, shape: tuple[int, ...]) -> str:
    mode = draw(st.sampled_from(["nearest", "linear"]))
    way = draw(st.sampled_from(["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"]))
    scales = np.array([1, 1, *(draw(st.sampled_from([0.5, 1, 1.5, 2, 3])) for _ in range(2))], np.float32)
    scales = np.where(np.array(shape) * scales < 1, np.float32(1), scales)
    rounding = {"nearest_mode": "floor" if way == "asymmetric" else "round_prefer_floor"}
    return net("Resize", x, "", scales, mode=mode, coordinate_transformation_mode=way, **rounding)


def transpose(draw: Draw, net: Net, x: str, shape: tuple[int, ...]) -> str:
    return net("Transpose", x, perm=[0, *draw(st.permutations([1, 2, 3]))])


def reshape(draw: Draw, net: Net, x: str, shape: tuple[int, ...]) -> str:
    wanted = draw(st.permutations(shape[1:]))
    if draw(st.booleans()) and wanted[0] % 2 == 0:
        wanted = [wanted[0] // 2, wanted[1] * 2, wanted[2]]
    return net("Reshape", x, np.array([shape[0], *wanted], np.int64))


def softmax(draw: Draw, net: Net, x: str, shape: tuple[int, ...]) -> str:
    return net("Softmax", x, axis=draw(st.integers(1, 3)))


def normalized(draw: Draw, net: Net, x: str, shape: tuple[int, ...]) -> str:
    if draw(st.booleans()):
        return net("InstanceNormalization", x, net.weights(shape[1]), net.weights(shape[1]), epsilon=0.1)
    axis = draw(st.integers(1, 3))
    return net("LayerNormalization", x, net.weights(*shape[axis:]), axis=axis, epsilon=0.1)


def selected(draw: Draw, net: Net, x: str, shape: tuple[int, ...]) -> str:
    mask = net(draw(st.sampled_from(["Greater", "LessOrEqual"])), x, np.float32(0.1))
    if draw(st.booleans()):
        mask = net("Not", mask)
    return net("Where", mask, x, net("GlobalAveragePool", x) if draw(st.booleans()) else np.float32(0.5))


def mean(draw: Draw, net: Net, x: str, shape: tuple[int, ...]) -> str:
    axes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=2, unique=True))
    return net(draw(st.sampled_from(["ReduceMean", "ReduceMax"])), x, axes=sorted(axes), keepdims=1)


def blocks(draw: Draw, net: Net, x: str, shape: tuple[int, ...]) -> str:
    """Channels to pixels, or pixels to channels, whichever the shape allows."""
    block = draw(st.integers(2, 3))
    if shape[1] % block**2 == 0 and draw(st.booleans()):
        return net("DepthToSpace", x, blocksize=block, mode=draw(st.sampled_from(["DCR", "CRD"])))
    if shape[2] % block == 0 and shape[3] % block == 0:
        return net("SpaceToDepth", x, blocksize=block)
    widened = net("Conv", x, net.weights(2 * block**2, shape[1], 1, 1))
    return net("DepthToSpace", widened, blocksize=block, mode=draw(st.sampled_from(["DCR", "CRD"])))


def repeated(draw: Draw, net: Net, x: str, shape: tuple[int, ...]) -> str:
    match draw(st.integers(0, 2)):
        case 0:
            return net("Tile", x, np.array([1, *(draw(st.integers(1, 2)) for _ in range(3))], np.int64))
        case 1:
            mean = net("ReduceMean", x, axes=sorted(draw(st.sets(st.integers(1, 3), min_size=1))), keepdims=1)
            return net("Expand", mean, np.array(shape, np.int64))
    pads = np.array([draw(st.integers(0, 2)) if i % 4 else 0 for i in range(8)], np.int64)
    return net("Pad", x, pads, mode="edge")


def chosen(draw: Draw, net: Net, x: str, shape: tuple[int, ...]) -> str:
    """Some elements of an axis, in some order, or all of them backwards."""
    axis = draw(st.integers(1, 3))
    if draw(st.booleans()):
        return net("Slice", x, *(np.array([n], np.int64) for n in (-1, -99, axis, -1)))
    indices = draw(st.lists(st.integers(-shape[axis], shape[axis] - 1), min_size=1, max_size=4))
    return net("Gather", x, np.array(indices, np.int64), axis=axis)


OPERATIONS = [
    conv, conv, conv, conv_transpose, max_pool, average_pool, activation, clip, operand, operand, concat,
    slice_, split, pad, resize, transpose, reshape, softmax, mean, blocks, repeated, chosen,
    normalized, selected,
]  # fmt: skip


def dense(draw: Draw, net: Net, x: str, shape: tuple[int, ...]) -> str:
    rows = net("Flatten", x) if draw(st.booleans()) else net("Reshape", x, np.array([shape[0], -1], np.int64))
    if draw(st.booleans()):
        rows = net("Relu", rows)
    n_in, n_out = int(np.prod(shape[1:])), draw(st.integers(1, 5))
    if draw(st.booleans()):
        return net("Gemm", rows, net.weights(n_out, n_in), net.weights(n_out), transB=1)
    return net("MatMul", rows, net.weights(n_in, n_out))


@st.composite
def networks(draw: Draw) -> onnx.ModelProto:
    net = Net(seed=draw(st.integers(0, 999)))
    x = net.input(draw(st.integers(1, 2)), *(draw(st.integers(*limits)) for limits in ((1, 6), (3, 9), (3, 9))))
    values = [x]
    for _ in range(draw(st.integers(1, 7))):
        source = values[-1] if draw(st.integers(0, 3)) else draw(st.sampled_from(values))
        shape = net.shape(source)
        if np.prod(shape) > 4000:
            break
        values.append(draw(st.sampled_from(OPERATIONS))(draw, net, source, shape))
        if min(net.shape(values[-1])) < 1:
            values.pop()
            net.nodes.pop()
    outputs = [values[-1]]
    if len(values) > 3 and draw(st.booleans()):
        outputs.append(draw(st.sampled_from(values[1:-1])))
    if draw(st.booleans()):
        outputs[0] = dense(draw, net, outputs[0], net.shape(outputs[0]))
    return net.model(*outputs)


@st.composite
def operations(draw: Draw) -> onnx.ModelProto:
    """One operation alone. A dense layer behind another one would add up its single steps, by the hundred."""
    net = Net(seed=draw(st.integers(0, 999)))
    x = net.input(draw(st.integers(1, 2)), *(draw(st.integers(*limits)) for limits in ((1, 6), (3, 9), (3, 9))))
    y = draw(st.sampled_from((*OPERATIONS, dense)))(draw, net, x, net.shape(x))
    assume(min(net.shape(y)) >= 1)
    return net.model(y)


quantizers = st.fixed_dictionaries(
    {
        "activation": st.sampled_from(["uint8", "int8"]),
        "weight": st.sampled_from(["int8", "uint8"]),
        "bias": st.sampled_from(["int32", "float"]),
        "per_channel": st.sampled_from([("Conv", "ConvTranspose"), (), ("Conv", "Gemm", "ConvTranspose")]),
        "fuse_relu": st.booleans(),
        "unify": st.booleans(),
        "skip": st.sampled_from(
            [(), (), ("MaxPool", "Reshape", "Flatten", "Transpose"), ("Conv",), ("Add", "Sigmoid")]
        ),
    }
)


def saved(model: onnx.ModelProto) -> Path:
    """Where a graph that failed lies for a closer look."""
    content = model.SerializeToString()
    path = Path(tempfile.gettempdir()) / f"edgecnn-random-{hashlib.sha256(content).hexdigest()[:10]}.onnx"
    path.write_bytes(content)
    return path


def agreed(model: onnx.ModelProto, runtime: str = "litert") -> list[Any] | None:
    """What compare() measured, None where the graph was refused for a known reason."""
    try:
        _, results = compare(model, n=2, runtime=runtime)
    except ConversionError as refusal:
        if any(reason in str(refusal) for reason in KNOWN_REFUSALS):
            return None
        raise AssertionError(f"refused, graph in {saved(model)}: {refusal}") from refusal
    except AssertionError as fault:
        if runtime == "litert-reference" and "Didn't find op" in str(fault):
            return None  # Its set of plain kernels is not whole; no user meets it.
        raise AssertionError(f"{runtime}, graph in {saved(model)}: {fault}") from fault
    return results


@DRAWN
@given(networks(), RUNTIMES)
def test_float(model, runtime):
    for error in agreed(model, runtime) or []:
        assert error <= 1e-4, f"relative error {error}, graph in {saved(model)}"


@DRAWN
@given(operations(), quantizers, RUNTIMES)
def test_int8_operation_by_operation(model, options, runtime):
    """A step or two off at most: nothing amplifies a difference yet."""
    quantized = qdq(model, **{**options, "fuse_relu": True})
    for result in agreed(quantized, runtime) or []:
        if isinstance(result, float):
            assert result <= 0.02, f"relative error {result}, graph in {saved(quantized)}"
        else:
            assert result.max() <= 3, f"off by {result.max()} steps, graph in {saved(quantized)}"


@DRAWN
@given(networks(), quantizers)
def test_int8_networks(model, options):
    """Networks may amplify single steps: the .tflite file must be as near to float as the QDQ file."""
    quantized = qdq(model, **options)
    results = agreed(quantized)
    if results is None:
        return
    if any(node.op_type == "Where" for node in model.graph.node):
        return  # It jumps: a single step beside its threshold may become any number. Alone it is tested above.
    batches = [random_inputs(model, 1000 + seed) for seed in range(2)]
    wanted, given_ = run_onnx(model, batches), run_onnx(quantized, batches)
    conversion = convert(quantized)
    if any("suit its bias" in note for note in conversion.notes):
        return  # A scale that has nothing to do with the bias: told, and not to be mended.
    for i, result in enumerate(results):
        if isinstance(result, float):
            continue
        scale = conversion.outputs[i].scale
        noise = np.mean([np.abs(w[i] - g[i]).mean() for w, g in zip(wanted, given_, strict=True)]) / scale
        least = 1 if result.size > 30 else 5  # The mean of a few numbers scatters.
        assert result.mean() <= least + 1.5 * noise, f"{result.mean()} steps, graph in {saved(quantized)}"


def test_the_comparison_can_fail():
    net = Net()
    model = net.model(net("Relu", net.input(1, 3, 4, 5)))
    wrong = onnx.ModelProto()
    wrong.CopyFrom(model)
    wrong.graph.node[0].op_type = "Sigmoid"
    data = convert(wrong)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("export.tflite.agreement.convert", lambda *_, **__: data)
        (error,) = agreed(model)
    assert error > 1e-2
