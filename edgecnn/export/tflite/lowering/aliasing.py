"""A copy where the memory planner of LiteRT would let one operator overwrite what another still reads.

The planner lets element-wise operators write over their input, and RESHAPE share its input's memory. It counts
the readers of the tensor that the memory began with, not of those that came to share it. After

    b = MUL(a, ...)   # in place: b lies where a lay, which nothing else reads
    c = RESHAPE(b)    # shares the memory of b
    d = SOFTMAX(c)    # in place: c has one reader, and so has a

`b` is overwritten though others read it (`ArenaPlanner::IdentifyInPlaceTensors`). Where XNNPACK takes the
operators over, all is well; without it, the result is silently wrong.
"""

from __future__ import annotations

from collections import Counter

from edgecnn.export.tflite.lowering.context import Lowering
from edgecnn.export.tflite.model import Operator, Tensor

_IN_PLACE = frozenset(
    [
        *("ABS", "ADD", "DIV", "ELU", "EXP", "GELU", "HARD_SWISH", "LEAKY_RELU", "LOG", "LOGISTIC"),
        *("LOG_SOFTMAX", "MAXIMUM", "MINIMUM", "MUL", "NEG", "POW", "PRELU", "RELU", "RELU6"),
        *("RELU_N1_TO_1", "SOFTMAX", "SQRT", "SUB", "TANH"),
        *("CEIL", "COS", "FLOOR", "LOGICAL_NOT", "ROUND", "SIN"),
    ]
)


def copy_shared_memory(lower: Lowering) -> None:
    """Puts a SLICE of everything, which is a copy, before each RESHAPE that begins such a chain."""
    model = lower.model
    n_readers = Counter(id(t) for operator in model.operators for t in operator.inputs if t is not None)
    n_readers.update(id(tensor.memory) for tensor in model.outputs)
    producers = {id(tensor): operator for operator in model.operators for tensor in operator.outputs}
    for position in reversed(range(len(model.operators))):
        operator = model.operators[position]
        source = operator.inputs[0]
        if operator.code != "RESHAPE" or source is None or n_readers[id(source)] < 2:
            continue
        producer = producers.get(id(source))
        shares = producer is not None and producer.code in _IN_PLACE | {"RESHAPE"}
        if shares and _is_overwritten(operator.outputs[0], model.operators):
            copy = Tensor(source.shape, source.dtype, None, source.quantization)
            begin, size = lower.vector([0] * len(source.shape)), lower.vector(source.shape)
            operator.inputs[0] = copy
            model.operators.insert(
                position, Operator("SLICE", [source, begin, size], [copy], {}, operator.source)
            )


def _is_overwritten(tensor: Tensor, operators: list[Operator]) -> bool:
    """Whether an operator that reads the tensor, or a reshape of it, may write over it."""
    for operator in operators:
        if any(read is tensor for read in operator.inputs):
            if operator.code in _IN_PLACE:
                return True
            if operator.code == "RESHAPE" and _is_overwritten(operator.outputs[0], operators):
                return True
    return False
