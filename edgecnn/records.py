"""What `report.json` holds, as frozen types: sizes in bytes, times in ms, accuracies as fractions 0..1."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from edgecnn.ondevice.names import FILE_PATTERN, is_name

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
    max: float | None = Field(None, description="None in reports that did not keep it")


class Launch(Record):
    """One process that timed an artifact: its warm-up, and the machine around its timed phase.

    What ends in `_before` and `_after` was read at those moments; None is what the machine does not tell.
    """

    load_ms: float
    first_run_ms: float
    warmup_runs: int
    warmup_s: float
    warmup_steady: bool
    n_runs: int
    timed_every: int
    timed_phase_s: float
    n_samples: int = Field(description="of the record's `samples_ms`, in the order of the launches")
    cpu_wall_ratio: float = Field(description="CPU seconds of the process per second of the timed phase")
    involuntary_switches: int
    major_faults: int
    other_cpu_share: float | None = Field(description="of the machine's CPU time, taken by other processes")
    load_1min_before: float | None
    load_1min_after: float | None
    governor_before: str | None
    governor_after: str | None
    clock_mhz_before: float | None
    clock_mhz_after: float | None
    temperature_c_before: float | None
    temperature_c_after: float | None
    throttle_flags_before: int | None
    throttle_flags_after: int | None


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
    delegate: str | None = Field(None, description="XNNPACK or none; None where the runtime does not tell")
    delegate_version: str | None = None
    affinity: tuple[int, ...] | None = Field(None, description="cores that the process might run on")
    load_ms: float | None = None
    first_run_ms: float | None = None
    warmup_rule: str | None = Field(None, description="what ends the warm-up, and when it is given up")
    warmup_runs: int | None = None
    warmup_steady: bool | None = None
    n_runs: int | None = None
    timed_every: int | None = None
    latency_ms: Latency | None = None
    median_interval_ms: tuple[float, float] | None = None
    peak_rss_bytes: int | None = None
    rss_before_load_bytes: int | None = None
    rss_method: str | None = Field(None, description="how the peak was read")
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
    launches: tuple[Launch, ...] = ()
    environment: dict[str, Any] | None = Field(None, description="the machine that took the times")


class Artifact(Record):
    """One exported model file. `key` is its name without the recipe's: "int8.tflite"."""

    key: str
    file: str = Field(pattern=FILE_PATTERN, description="its name in the build folder")
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
    entropy_bytes: int | None = Field(
        None, description="what an ideal order-0 entropy coder would need for the stored weights and biases"
    )
    n_zeros: int | None = Field(None, description="weights and biases that are stored and exactly zero")
    zero_share: float | None = Field(None, description="0..1, of all that are stored")
    zero_bytes: int | None = Field(None, description="what the zeros take in the file: they saved nothing")
    validation_accuracy: float | None = Field(description="None where the pictures have no labels")
    seconds: float


class LayerSensitivity(Record):
    """What quantizing one layer alone does to the float network, on images of the validation split."""

    layer: str
    divergence: float = Field(description="mean KL divergence from the float network's probabilities, in nats")
    top1_equal: float = Field(description="0..1: images that stay in their class")
    accuracy_drop: float | None = Field(description="a fraction; negative is a gain; None without labels")
    n_images: int


class SearchTrial(Record):
    """One trial of a search: the widths it tried, what the file costs, what the quantized network is worth."""

    extent: Literal["screen", "final"] = Field(description="a short training, or the whole one")
    origin: str
    widths: tuple[int, ...]
    cost: float
    accuracy: float = Field(description="on the validation images")


class Search(Record):
    """What a search was for, and all that it tried. The test images had no say in it."""

    minimize: Literal["size", "macs", "latency"]
    layers: tuple[str, ...]
    needed_accuracy: float
    chosen: tuple[int, ...]
    trials: tuple[SearchTrial, ...]

    @property
    def holds(self) -> bool:
        """Whether what was chosen is as accurate as asked for."""
        finals = (one for one in self.trials if one.extent == "final" and one.widths == self.chosen)
        return any(one.accuracy >= self.needed_accuracy for one in finals)


class QuantizationAttempt(Record):
    """One way to quantize that was tried: what a recipe's quantize step would say, and what came of it."""

    calibrator: str
    equalization: bool
    bias_correction: bool
    dense_weights: str
    float_layers: tuple[str, ...]
    size_bytes: int = Field(description="of the .tflite file")
    accuracy: float = Field(
        description="on the validation images; without labels, of the dense network's answers"
    )


class Tuning(Record):
    """What was tried so that quantizing costs no more accuracy than it may. The test images had no say."""

    needed_accuracy: float
    attempts: tuple[QuantizationAttempt, ...]
    chosen: int = Field(description="position in attempts")

    @property
    def holds(self) -> bool:
        """Whether what was chosen is as accurate as asked for."""
        return self.attempts[self.chosen].accuracy >= self.needed_accuracy


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
    said: str = Field("", description="why it is refused")


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
    search: Search | None = None
    tuning: Tuning | None = None
    sensitivity: tuple[LayerSensitivity, ...] = ()
    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...] = ()

    @field_validator("recipe")
    @classmethod
    def _is_named(cls, recipe: dict[str, Any]) -> dict[str, Any]:
        """Folders are called by that name, here and on boards: it must not lead elsewhere."""
        if not is_name(str(recipe.get("name", ""))):
            raise ValueError("name is missing, or no name of a recipe")
        return recipe

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
