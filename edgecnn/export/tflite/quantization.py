"""QuantizeLinear / DequantizeLinear pairs -> integer operations with the same scales and zero points.

An operation whose inputs all come out of DequantizeLinear, and whose output goes only into QuantizeLinear,
is one integer operation: it then reads and writes the integers, and the nodes around it vanish. What
remains of them stands at the borders between integer and float parts, and becomes QUANTIZE and DEQUANTIZE.
"""

from __future__ import annotations

import numpy as np

from edgecnn.export.tflite.graph import Graph, Node, Value
from edgecnn.export.tflite.model import Quantization

# Operations that select or order elements: they give the same result before and after quantizing.
MOVEMENTS = frozenset(
    [
        *("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "MaxPool", "Slice", "Split", "Gather"),
        *("Tile", "Expand", "DepthToSpace", "SpaceToDepth"),
    ]
)
# Operations with constant weights, which must be quantized for the operation to be an integer one.
WEIGHTED = frozenset(["Conv", "ConvTranspose", "Gemm", "MatMul"])
_OPERANDS = frozenset(["Add", "Sub", "Mul", "Concat", "Max", "Min"])
_REDUCTIONS = frozenset(["AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceMax", "ReduceMin"])
_ACTIVATIONS = frozenset(["Relu", "Clip", "LeakyRelu", "PRelu", "HardSwish", "HardSigmoid"])
# What integer kernels compute with, whatever the file says (TFLite's quantization specification).
FIXED_OUTPUTS = {
    "Sigmoid": Quantization.per_tensor(1 / 256, -128),
    "Softmax": Quantization.per_tensor(1 / 256, -128),
    "Tanh": Quantization.per_tensor(1 / 128, 0),
    "LogSoftmax": Quantization.per_tensor(16 / 256, 127),
}
_OTHERS = frozenset([*FIXED_OUTPUTS, "Pad", "Resize"])
INTEGER_OPERATIONS = MOVEMENTS | WEIGHTED | _OPERANDS | _REDUCTIONS | _ACTIVATIONS | _OTHERS
# A kernel that computes in steps so much larger than the file's would lose more than a requantization may.
LARGEST_COARSENING = 1.5
# Kernels rescale their sums by less than this. (HARD_SWISH by 128, XNNPACK's convolutions by 256.)
_LARGEST_RESCALING = 128
_RESCALING = frozenset(
    ["Add", "Sub", "Mul", "HardSwish", "LeakyRelu", "PRelu", "AveragePool", "GlobalAveragePool", "ReduceMean"]
)


def absorb_quantization(graph: Graph) -> None:
    """Rewrites the graph in place; afterwards each value with `quantization` is an integer tensor."""
    _merge_equal_quantizers(graph)
    _move_quantizers_up(graph)
    _move_dequantizers_down(graph)
    _group(graph)
    _read_integers(graph)
    _note_islands(graph)
    _remove_round_trips(graph)
    _dequantize_constants(graph)
    graph.remove_dead()


def quantize_interface(graph: Graph) -> None:
    """Inputs and outputs become the integers they are quantized to or dequantized from, names kept."""
    users, producers = graph.consumers(), graph.producers()
    for i, value in enumerate(graph.inputs):
        quantizer = graph.sole_consumer(value, users)
        if quantizer is not None and quantizer.op == "QuantizeLinear":
            graph.inputs[i] = quantizer.output
            graph.nodes.remove(quantizer)
            quantizer.output.name = value.name
    for i, value in enumerate(graph.outputs):
        dequantizer = producers.get(value)
        if dequantizer is not None and dequantizer.op == "DequantizeLinear":
            graph.outputs[i] = dequantizer.data_input()
    graph.remove_dead()


def _merge_equal_quantizers(graph: Graph) -> None:
    """Some tools write one QuantizeLinear for each reader of a tensor."""
    seen: dict[Value, list[Node]] = {}
    for node in graph.nodes:
        if node.op != "QuantizeLinear":
            continue
        twins = seen.setdefault(node.data_input(), [])
        twin = next((t for t in twins if _same_parameters(t.output, node.output)), None)
        if twin is None:
            twins.append(node)
        else:
            graph.replace(node.output, twin.output)
    graph.remove_dead()


def _same_parameters(a: Value, b: Value) -> bool:
    return a.quantization is not None and b.quantization is not None and a.quantization.same_as(b.quantization)


def _move_quantizers_up(graph: Graph) -> None:
    """movement -> Q becomes Q -> movement, so that what feeds the movement sees its quantization."""
    for node in reversed(list(graph.nodes)):
        if node.op not in MOVEMENTS or len(node.outputs) != 1:
            continue
        producers, users = graph.producers(), graph.consumers()
        source = node.data_input()
        quantizer = graph.sole_consumer(node.output, users)
        producer = producers.get(source)
        if quantizer is None or quantizer.op != "QuantizeLinear" or producer is None:
            continue
        if producer.op == "DequantizeLinear" or graph.sole_consumer(source, users) is not node:
            continue
        integers = quantizer.output
        before = Value(f"{source.name}_q", source.shape, integers.dtype, None, integers.quantization)
        graph.nodes.remove(quantizer)
        graph.nodes.insert(
            graph.nodes.index(node), Node("QuantizeLinear", [source], [before], {}, quantizer.name)
        )
        node.inputs[0] = before
        node.outputs = [integers]


def _move_dequantizers_down(graph: Graph) -> None:
    """DQ -> movement becomes movement -> DQ, unless a Q follows that will take them both."""
    for node in list(graph.nodes):
        if node.op == "Concat":
            _join_integers(graph, node)
        if node.op not in MOVEMENTS:
            continue
        dequantizer = graph.producers().get(node.data_input())
        if dequantizer is None or dequantizer.op != "DequantizeLinear":
            continue
        users = graph.consumers()
        if all(_only_quantized(graph, output, users) for output in node.outputs):
            continue
        integers = dequantizer.data_input()
        node.inputs[0] = integers
        position = graph.nodes.index(node) + 1
        for i, output in enumerate(node.outputs):
            after = Value(f"{output.name}_q", output.shape, integers.dtype, None, integers.quantization)
            node.outputs[i] = after
            graph.nodes.insert(position, Node("DequantizeLinear", [after], [output], {}, dequantizer.name))


def _join_integers(graph: Graph, node: Node) -> None:
    """DQ, DQ -> Concat becomes Concat -> DQ where the file does not quantize what is joined, but could have.

    Parts of one scale are joined as they are; others only where integer operations read the result.
    """
    producers, users = graph.producers(), graph.consumers()
    sources = [producers.get(value) for value in node.inputs if value is not None]
    parts = [s.data_input() for s in sources if s is not None and s.op == "DequantizeLinear"]
    found = [part.quantization for part in parts if part.quantization is not None]
    if len(found) != len(node.inputs) or _only_quantized(graph, node.output, users):
        return
    if not all(quantization.same_as(found[0]) for quantization in found):
        readers = users[node.output]
        integer = all(
            n.op in INTEGER_OPERATIONS and all(_only_quantized(graph, output, users) for output in n.outputs)
            for n in readers
        )
        if node.output in graph.outputs or not integer:
            return
    output = node.output
    joined = Value(f"{output.name}_q", output.shape, "int8", None, covering(found))
    node.inputs, node.outputs = [*parts], [joined]
    position = graph.nodes.index(node) + 1
    graph.nodes.insert(position, Node("DequantizeLinear", [joined], [output], {}, node.name))


def covering(quantizations: list[Quantization]) -> Quantization:
    """int8 parameters for all that the given ones can hold: one of them, if it can."""
    limits = [q.dequantize(np.array([-128, 127], np.int8)).astype(np.float64) for q in quantizations]
    low, high = min(pair[0] for pair in limits), max(pair[1] for pair in limits)
    for quantization, pair in zip(quantizations, limits, strict=True):
        if pair[0] == low and pair[1] == high:
            return quantization
    scale = (high - low) / 255
    return Quantization.per_tensor(scale, round(-128 - low / scale))


def _only_quantized(graph: Graph, value: Value, users: dict[Value, list[Node]]) -> bool:
    reader = graph.sole_consumer(value, users)
    return reader is not None and reader.op == "QuantizeLinear"


def _group(graph: Graph) -> None:
    producers, users = graph.producers(), graph.consumers()
    for node in graph.nodes:
        if node.op not in INTEGER_OPERATIONS:
            continue
        if not all(_only_quantized(graph, output, users) for output in node.outputs):
            continue
        integers = [_integers_behind(node, i, producers) for i in range(len(node.inputs))]
        if any(found is None and value is not None for found, value in zip(integers, node.inputs, strict=True)):
            continue
        if not any(value is not None and not value.is_constant for value in integers):
            continue
        outputs = [users[output][0].output for output in node.outputs]
        if _is_too_coarse(node, integers[0], outputs[0]) or _is_out_of_reach(node, integers, outputs[0]):
            continue
        if _has_scales_elsewhere(node, integers):
            continue
        node.inputs, node.outputs = integers, outputs
    taken = {output for node in graph.nodes if node.op != "QuantizeLinear" for output in node.outputs}
    graph.nodes = [n for n in graph.nodes if n.op != "QuantizeLinear" or n.output not in taken]


def _read_integers(graph: Graph) -> None:
    """The place of the largest integer is that of the largest number: ArgMax reads what was quantized."""
    producers = graph.producers()
    for node in graph.nodes:
        source = producers.get(node.data_input()) if node.op in ("ArgMax", "ArgMin") else None
        if source is not None and source.op == "DequantizeLinear":
            node.inputs[0] = source.data_input()


def _is_too_coarse(node: Node, source: Value | None, output: Value) -> bool:
    """Whether the integer kernel computes in a scale of its own that is much coarser than the file's."""
    kernel = FIXED_OUTPUTS.get(node.op)
    if node.op == "Resize" and source is not None:
        kernel = source.quantization
    if kernel is None or output.quantization is None:
        return False
    return bool(kernel.scale[0] > LARGEST_COARSENING * output.quantization.scale[0])


def _is_out_of_reach(node: Node, inputs: list[Value | None], output: Value) -> bool:
    """Whether the result would be rescaled by more than kernels can; XNNPACK takes the process down on it."""
    scales = [v.quantization.scale for v in inputs[:2] if v is not None and v.quantization is not None]
    if output.quantization is None or node.op not in WEIGHTED | _RESCALING:
        return False
    multiplies = node.op in WEIGHTED | {"Mul"}
    largest = np.max(scales[0] * scales[1]) if multiplies else max(map(np.max, scales))
    return bool(largest / output.quantization.scale[0] >= _LARGEST_RESCALING)


def _has_scales_elsewhere(node: Node, inputs: list[Value | None]) -> bool:
    """Whether scales run along another axis than the output channels of a weight: kernels take them for those
    of the channels, or (BATCH_MATMUL) the first for all. The lowering of ConvTranspose looks at its own.
    """
    if node.op not in ("Conv", "Gemm", "MatMul"):
        return False
    axes = (None, _channel_axis(node))
    found = [value.quantization if value is not None else None for value in inputs[:2]]
    pairs = zip(found, axes, strict=True)
    return any(q is not None and q.scale.size > 1 and q.axis != axis for q, axis in pairs)


def _channel_axis(node: Node) -> int | None:
    """The axis of the weights that the output channels lie along; None for a batch of matrices."""
    if node.op == "MatMul":
        return 1 if len(node.data_input(1).shape) == 2 else None
    return 0 if node.op == "Conv" or node.attributes.get("transB") else 1


def _note_islands(graph: Graph) -> None:
    """Tells of operations that stay float32 between integer ones."""
    producers, users = graph.producers(), graph.consumers()
    for node in graph.nodes:
        if node.op in ("QuantizeLinear", "DequantizeLinear"):
            continue
        sources = [producers.get(value) for value in node.inputs if value is not None and not value.is_constant]
        if not any(source is not None and source.op == "DequantizeLinear" for source in sources):
            continue
        if node.op not in INTEGER_OPERATIONS:
            why = "its integer kernel is silently wrong" if node.op == "Div" else "it has no integer kernel"
        elif not all(_only_quantized(graph, output, users) for output in node.outputs):
            why = "the file does not quantize its output"
        elif all(source is not None and source.op == "DequantizeLinear" for source in sources):
            why = "a constant of it is not quantized, or its scales do not suit the integer kernels"
        else:
            why = "the file does not quantize all its inputs"
        graph.notes.append(f"{node.op} {node.name} stays float32: {why}")


def _integers_behind(node: Node, index: int, producers: dict[Value, Node]) -> Value | None:
    """The integer value that an input dequantizes, None where there is none."""
    value = node.inputs[index]
    if value is None:
        return None
    if value.is_constant:
        is_operand = index == 0 or node.op in _OPERANDS | {"PRelu"} or _is_weight(node, index)
        if value.quantization is None and node.op in ("Add", "Sub", "Mul") and value.numbers().size == 1:
            return _exact_scalar(value)
        return value if value.quantization is not None or not is_operand else None
    producer = producers.get(value)
    return producer.data_input() if producer is not None and producer.op == "DequantizeLinear" else None


def _exact_scalar(value: Value) -> Value:
    """One number as an integer that stands for it exactly: 127 steps of a 127th of it."""
    number = float(value.numbers().reshape(-1)[0])
    quantization = Quantization.per_tensor(abs(number) / 127 or 1.0, 0)
    integers = np.full(value.shape, round(number / float(quantization.scale[0])), np.int8)
    return Value(value.name, value.shape, "int8", integers, quantization)


def _is_weight(node: Node, index: int) -> bool:
    return node.op in WEIGHTED and index == 1


def _remove_round_trips(graph: Graph) -> None:
    """DQ -> Q with equal parameters does nothing."""
    for node in list(graph.nodes):
        producer = graph.producers().get(node.data_input()) if node.op == "QuantizeLinear" else None
        if producer is None or producer.op != "DequantizeLinear":
            continue
        if _same_parameters(producer.data_input(), node.output):
            graph.nodes.remove(node)
            graph.replace(node.output, producer.data_input())


def _dequantize_constants(graph: Graph) -> None:
    """What stays float32 reads its constants as float32."""
    made: dict[Value, Value] = {}
    for node in graph.nodes:
        if any(output.quantization is not None for output in node.outputs):
            continue
        for i, value in enumerate(node.inputs):
            is_weight = node.op in WEIGHTED and i == 1  # The lowering decides how these are kept.
            if value is not None and value.is_constant and value.quantization is not None and not is_weight:
                if value not in made:
                    made[value] = Value(value.name, value.shape, "float32", value.numbers())
                node.inputs[i] = made[value]
