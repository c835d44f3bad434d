"""The ledger of a model file: what each layer is and costs, and what every byte of the file is for."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edgecnn.errors import UsageError

SCHEMA_VERSION = 1

# No runtime takes more axes than 8; what claims more than this is no shape.
LARGEST_RANK = 32
# A network of 10,000 operators has about 150,000 tables or messages. This bounds time and memory on what
# claims more.
MOST_PARTS = 300_000

# A size of an axis; None where the file leaves it open.
Shape = tuple[int | None, ...]

# What constants are for; they are the kinds of their bytes as well.
WEIGHTS, BIASES, CONSTANTS, QUANTIZATION = "weights", "biases", "constants", "quantization"


def corrupt(what: str) -> UsageError:
    """The error of a file that contradicts itself or ends too early."""
    return UsageError(f"the file is corrupt: {what}", fix="copy or export it again")


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of a model or a layer. `shape` is None where the file does not tell it.

    `scale` and `zero_point` are None where the tensor is not quantized: real = scale * (q - zero_point).
    """

    name: str | None
    shape: Shape | None
    dtype: str
    scale: float | None = None
    zero_point: int | None = None


@dataclass(frozen=True)
class Weights:
    """How a layer stores its weights. `granularity` is per-tensor, per-channel, blockwise; None for floats."""

    shape: Shape
    dtype: str
    granularity: str | None = None
    bias_dtype: str | None = None


@dataclass(frozen=True)
class Layer:
    """One operator, in the order of the file.

    `index` counts the operators of its subgraph, those of an ONNX file that are folded into a layer included.
    `version` is the builtin version (TFLite) or the opset of `domain` (ONNX). `inputs` are activations.
    `n_params` and `weight_bytes` count weights and biases where they are first used, `n_macs` the
    multiply-accumulates of one run; None where they cannot be counted.
    """

    index: int
    subgraph: int
    operator: str
    domain: str | None
    version: int | None
    name: str | None
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    n_params: int
    n_macs: int | None
    weight_bytes: int
    weights: Weights | None
    activation: str | None

    @property
    def input_shapes(self) -> tuple[Shape | None, ...]:
        return tuple(tensor.shape for tensor in self.inputs)

    @property
    def output_shapes(self) -> tuple[Shape | None, ...]:
        return tuple(tensor.shape for tensor in self.outputs)


@dataclass(frozen=True)
class Totals:
    """Sums over the layers. `n_macs` leaves out `n_uncounted_layers` (loops, custom operators, open shapes).

    `n_folded` is how many Quantize and Dequantize nodes of an ONNX file belong to a layer and have no row.
    """

    n_layers: int
    n_params: int
    n_macs: int
    n_uncounted_layers: int
    weight_bytes: int
    n_folded: int = 0


@dataclass(frozen=True)
class Inspection:
    """What a model file holds. Every byte of it is in `bytes_by_kind` once; `external_bytes` lie beside it."""

    path: str
    format: str
    size_bytes: int
    sha256: str
    producer: str | None
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    layers: tuple[Layer, ...]
    totals: Totals
    bytes_by_kind: dict[str, int]
    external_bytes: int = 0

    def to_json(self) -> dict[str, Any]:
        """The ledger as JSON values: sizes in bytes, open axes null."""
        return {"schema_version": SCHEMA_VERSION, **asdict(self)}


@dataclass(frozen=True)
class Contents:
    """What a parser finds in the bytes: an Inspection without what is known of the file from outside."""

    format: str
    producer: str | None
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    layers: tuple[Layer, ...]
    bytes_by_kind: dict[str, int]
    external_bytes: int = 0
    n_folded: int = 0

    def totals(self) -> Totals:
        counted = [layer.n_macs for layer in self.layers if layer.n_macs is not None]
        return Totals(
            n_layers=len(self.layers),
            n_params=sum(layer.n_params for layer in self.layers),
            n_macs=sum(counted),
            n_uncounted_layers=len(self.layers) - len(counted),
            weight_bytes=sum(layer.weight_bytes for layer in self.layers),
            n_folded=self.n_folded,
        )


def checked_rank(axes: Sequence[Any], what: str) -> None:
    if len(axes) > LARGEST_RANK:
        raise corrupt(f"{what} has {len(axes):,} axes")


def n_elements(shape: Shape | None) -> int | None:
    """How many elements a tensor of that shape has, None where that is open."""
    sizes = [size for size in shape or () if size is not None]
    return math.prod(sizes) if shape is not None and len(sizes) == len(shape) else None


def product(factors: Iterable[int | None]) -> int | None:
    """The product, None where a factor is not known."""
    known = list(factors)
    return None if None in known else math.prod(factor for factor in known if factor is not None)


def sorted_kinds(counts: dict[str, int]) -> dict[str, int]:
    """The kinds that have bytes, the largest first."""
    return {kind: n for kind, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if n}
