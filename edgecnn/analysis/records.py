"""What `analysis.json` holds, as frozen types: sizes in bytes, accuracies as fractions 0..1, ratios in dB."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgecnn.records import Record

SCHEMA_VERSION: Literal[1] = 1


class Epoch(Record):
    """One pass over the training images. `title` names the run of training within its stage."""

    stage: str
    title: str
    epoch: int
    train_loss: float
    train_accuracy: float
    validation_accuracy: float


class LayerBytes(Record):
    """What the weights and biases of one layer take in a file."""

    layer: str
    operator: str
    n_params: int
    weight_bytes: int


class FileBytes(Record):
    """Every byte of a model file by what it is for, and the layers that have weights, in order."""

    bytes_by_kind: dict[str, int]
    layers: tuple[LayerBytes, ...]


class ActivationRange(Record):
    """One quantized tensor between layers, beside the same tensor of the float network.

    `low` and `high` bound what its integers can hold, `float_low` and `float_high` what the float network
    puts there; `clipped` is the share of its values that lies outside. Ratios are of signal to error, over
    all values; None where there is no error, or no signal.
    """

    tensor: str
    operator: str
    scale: float
    zero_point: int
    low: float
    high: float
    float_low: float
    float_high: float
    clipped: float
    sqnr_db: float | None = Field(description="the int8 network's values: errors of all layers before included")
    own_sqnr_db: float | None = Field(description="the float network's values, put into these integers alone")


class WeightRange(Record):
    """The weights of one layer, and what rounding them to integers changed."""

    layer: str
    shape: tuple[int, ...]
    granularity: Literal["per-tensor", "per-channel"]
    low: float
    high: float
    sqnr_db: float | None


class QuantizationAnalysis(Record):
    """The int8 network against the float network of the same weights, tensor by tensor, in order.

    `n_unmatched` tensors have no counterpart in the float network and are not listed.
    """

    split: str
    n_images: int
    activations: tuple[ActivationRange, ...]
    weights: tuple[WeightRange, ...]
    n_unmatched: int = 0
    is_trained: bool = Field(False, description="quantization-aware training changed the weights as well")


class Disagreement(Record):
    """A test image that the two networks put in different classes. Outputs are logits, one a class."""

    image: int = Field(description="its place in the test set, from 0")
    label: int
    float_class: int
    int8_class: int
    float_outputs: tuple[float, ...]
    int8_outputs: tuple[float, ...]
    png: str = Field(description="the picture, as base64")


class Disagreements(Record):
    """Where int8 and float answer differently; `shown` are some of these, those that int8 gets wrong first."""

    float_run: str = Field(description="artifact and runtime")
    int8_run: str
    n_images: int
    n_only_float_right: int
    n_only_int8_right: int
    n_both_wrong: int
    shown: tuple[Disagreement, ...]

    @property
    def n_different(self) -> int:
        return self.n_only_float_right + self.n_only_int8_right + self.n_both_wrong


class Analysis(Record):
    """`sha256` names, by artifact, the files that it is about."""

    schema_version: Literal[1] = SCHEMA_VERSION
    sha256: dict[str, str]
    training: tuple[Epoch, ...]
    files: dict[str, FileBytes]
    quantization: QuantizationAnalysis | None = None
    disagreements: Disagreements | None = None
