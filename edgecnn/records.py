"""What `report.json` holds, as frozen types: sizes in bytes, times in ms, accuracies as fractions 0..1."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION: Literal[1] = 1

Status = Literal["pass", "fail", "missing", "inconclusive", "refused"]


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Latency(Record):
    """One inference at batch 1, in ms, over all samples."""

    min: float
    median: float
    mean: float
    p90: float
    p99: float


class ClassFigures(Record):
    """Figures of one class; None where there is nothing to divide by."""

    name: str
    precision: float | None
    recall: float | None
    f1: float | None
    n_images: int


class Doubt(Record):
    """What can be said against a latency figure: its kind, what was seen, and what to do about it."""

    kind: str
    text: str
    advice: str


class Rejection(Record):
    """What "none of these" does to the test images: how many are answered, and how many of those rightly."""

    threshold: float = Field(description="the best class has less: none of these")
    n_answered: int
    coverage: float = Field(description="share of the test images that are answered")
    accuracy: float | None = Field(description="on those; None where there are none")


class Agreement(Record):
    """How far a quantized file follows the float file of the same weights; see `metrics.Agreement`."""

    top1: float
    where_sure: float | None
    n_sure: int
    in_top5: float


class Measurement(Record):
    """One artifact on one runtime with one thread count on one target."""

    runtime: str
    runtime_version: str
    target: str
    emulated: bool
    num_threads: int
    load_ms: float | None = None
    first_run_ms: float | None = None
    warmup_runs: int | None = None
    n_runs: int | None = None
    timed_every: int | None = None
    latency_ms: Latency | None = None
    median_interval_ms: tuple[float, float] | None = None
    peak_rss_bytes: int | None = None
    rss_before_load_bytes: int | None = None
    n_images: int
    accuracy: float
    accuracy_drop: float
    accuracy_drop_interval: tuple[float, float]
    mcnemar_p: float
    macro_recall: float
    macro_f1: float
    agreement: float | None = Field(None, description="equal top-1 with the float model of the same weights")
    follows: Agreement | None = Field(None, description="the same, where the float model is sure, and more")
    per_class: tuple[ClassFigures, ...]
    confusion: tuple[tuple[int, ...], ...]
    rejection: Rejection | None = None
    warnings: tuple[Doubt, ...] = ()
    samples_ms: tuple[float, ...] = ()


class Artifact(Record):
    """One exported model file. `key` is its name without the recipe's: "int8.tflite"."""

    key: str
    file: str
    format: Literal["onnx", "tflite"]
    variant: Literal["dense", "final"]
    precision: Literal["fp32", "fp16", "int8", "int8_dynamic", "int4"]
    size_bytes: int
    weight_bytes: int = Field(description="constants, biases included")
    overhead_bytes: int = Field(description="what is neither weight nor bias")
    sha256: str
    n_params: int
    n_macs: int
    measurements: tuple[Measurement, ...] = ()

    @property
    def is_quantized(self) -> bool:
        """Whether it computes in integers: int8 activations, weights in 8 or 4 bits."""
        return self.precision in ("int8", "int4")


class StageFigures(Record):
    """The ledger: the network after each stage, as the files that it would be written to."""

    stage: str
    n_params: int
    n_macs: int
    weight_bytes: int
    file_bytes: int = Field(description="of the .tflite")
    gzip_bytes: int = Field(description="of the .tflite, gzipped")
    validation_accuracy: float | None = Field(description="None where the pictures have no labels")
    seconds: float


class ParityRecord(Record):
    """How far the two int8 files are apart on the test images, in steps of the output scale."""

    reference: str
    candidate: str
    runtime: str
    top1_equal: float
    max_lsb: int
    lsb_histogram: dict[str, int]
    n_images: int


class FloatParity(Record):
    """How far the two float32 files of the compressed network are apart on the test images."""

    reference: str
    candidate: str
    runtime: str
    largest_difference: float = Field(description="of a logit, as a share of the largest logit")
    n_images: int


class BoardParity(Record):
    """How far a board's outputs of one file are from this machine's, on the same test images.

    In steps of the output's scale where it is quantized, else as a share of the largest logit.
    """

    artifact: str
    target: str
    runtime: str
    reference: str
    top1_equal: float
    max_lsb: int | None = None
    lsb_histogram: dict[str, int] | None = None
    largest_difference: float | None = None
    n_images: int


class Verdict(Record):
    """One limit, held against what was measured. Only `pass` is green."""

    metric: str
    artifact: str
    limit: float
    actual: float | None
    status: Status


class Report(Record):
    """Everything that a build found out."""

    schema_version: Literal[1] = SCHEMA_VERSION
    recipe: dict[str, Any]
    environment: dict[str, Any]
    artifacts: tuple[Artifact, ...]
    stages: tuple[StageFigures, ...]
    parity: tuple[ParityRecord, ...]
    float_parity: tuple[FloatParity, ...] = ()
    board_parity: tuple[BoardParity, ...] = ()
    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...] = ()

    @property
    def dense(self) -> Artifact | None:
        """The file of the dense network, which the others are compared with."""
        return next((artifact for artifact in self.artifacts if artifact.variant == "dense"), None)

    @property
    def smallest(self) -> Artifact | None:
        """The file that a build is for."""
        return min(self.artifacts, key=lambda artifact: artifact.size_bytes, default=None)

    @property
    def is_labelled(self) -> bool:
        """Whether the pictures have labels. Where not, the dense network's answers stand for them."""
        return all(stage.validation_accuracy is not None for stage in self.stages)

    @property
    def passed(self) -> bool:
        """Whether every limit of the budget holds."""
        return all(verdict.status == "pass" for verdict in self.verdicts)
