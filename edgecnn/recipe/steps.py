"""`train:` and `compress:` of a recipe: how the network is trained, pruned, quantized."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_serializer, model_validator

from edgecnn.models import ALL_MODELS
from edgecnn.recipe.model_spec import MODEL_PARAMETERS, ModelSpec, target_widths
from edgecnn.recipe.spec import Spec, limit, named
from edgecnn.units import parse_points

Augmentation = Literal["shift", "rotate", "scale", "flip", "crop", "elastic", "color"]


Criterion = Literal["magnitude", "taylor", "hessian", "batchnorm", "random"]


PruningSchedule = Literal["uniform", "cubic"]


Optimizer = Literal["adamw", "sgd"]


Schedule = Literal["one_cycle", "cosine"]


Cost = Literal["size", "macs", "latency"]


QuantizationEngine = Literal["neural-compressor", "onnxruntime"]


class TrainSpec(Spec):
    """How the dense network is trained, from random weights or from those that `model` names."""

    newer = ("mixup", "cutmix", "freeze_epochs", "layer_decay", "ema", "precision")

    epochs: int = Field(
        12, ge=0, le=10_000, description="passes over the training images; 0: the weights stay as they are"
    )
    batch_size: int = Field(128, ge=1, le=65_536, description="images a step")
    optimizer: Optimizer = "adamw"
    learning_rate: float = Field(3e-3, gt=0, le=100, description="the highest of the schedule")
    schedule: Schedule = "one_cycle"
    weight_decay: float = Field(1e-2, ge=0, le=10)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    augment: tuple[Augmentation, ...] = Field((), description="random changes of the training images")
    mixup: float = Field(0.0, ge=0, le=10, description="alpha of mixing two pictures and their labels; 0: none")
    cutmix: float = Field(0.0, ge=0, le=10, description="alpha of pasting a part of one into another; 0: none")
    freeze_epochs: int = Field(0, ge=0, le=1000, description="at first train the last layer alone")
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="each layer nearer the picture learns slower by this factor"
    )
    ema: float = Field(0.0, ge=0, lt=1, description="keep a moving average of the weights, such as 0.999")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="of products in training; bfloat16 is faster on some CPUs with AVX512_BF16, not on all",
    )
    threads: int = Field(2, ge=1, le=256, description="CPU threads; another number gives other bits")

    @model_validator(mode="after")
    def _something_is_left_to_train(self) -> TrainSpec:
        if self.freeze_epochs and self.freeze_epochs >= self.epochs:
            raise ValueError("freeze_epochs must be fewer than epochs")
        return self


class PruneSpec(Spec):
    """Structured pruning: whole channels are taken out, and the network is physically smaller afterwards."""

    newer = ("round_to", "schedule")

    ratio: float | None = Field(None, gt=0, lt=1, description="share of channels removed from every layer")
    widths: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(
        None, description="or: the channels that each layer keeps, in order"
    )
    round_to: int | None = Field(
        None, ge=1, le=256, description="with ratio: channels kept are a multiple; 8 for SqueezeNet, else 1"
    )
    criterion: Criterion = Field("taylor", description="what makes a channel important")
    steps: int = Field(1, ge=1, le=100, description="rounds of pruning")
    schedule: PruningSchedule = Field(
        "uniform", description="of several steps: equal shares, or cubic: most of the channels in the first"
    )
    finetune_epochs: int = Field(1, ge=0, le=1000, description="training after each round")

    @model_validator(mode="after")
    def _ratio_or_widths(self) -> PruneSpec:
        if (self.ratio is None) == (self.widths is None):
            raise ValueError("give either ratio (0.6: six channels of ten go) or widths ([4, 8, 32, 16])")
        if self.round_to and self.ratio is None:
            raise ValueError("round_to goes with ratio; widths are kept as they are")
        if self.schedule == "cubic" and self.steps == 1:
            raise ValueError("schedule: cubic goes with two or more steps")
        return self

    def kept(self, model: str, start: dict[str, int]) -> dict[str, int]:
        """The channels that each layer of the network `model` keeps of those in `start`."""
        if self.widths:
            return dict(zip(start, self.widths, strict=True))
        return target_widths(start, self.ratio or 0, self.round_to or ALL_MODELS[model].round_to)


Teacher = Annotated[
    Annotated[None, Tag("nobody")]
    | Annotated[Literal["dense"], Tag("dense")]
    | Annotated[ModelSpec, Tag("teacher")],
    Discriminator(lambda value: "nobody" if value is None else "dense" if value == "dense" else "teacher"),
    named(MODEL_PARAMETERS, {"enum": ["dense", None]}),
]


class LearningSpec(Spec):
    """Training of a network that was trained before, which may learn from a teacher, too."""

    epochs: int = Field(4, ge=1, le=10_000)
    learning_rate: float = Field(2e-3, gt=0, le=100)
    temperature: float = Field(3.0, gt=0, le=100, description="softness of the teacher's outputs")
    teacher_weight: float = Field(0.7, ge=0, le=1, description="share of the loss that the teacher gives")
    teacher: Teacher = Field(
        None,
        description="learn from the outputs of the dense network, too, or from those of another network, which "
        "is trained first: its name, with settings as under model:",
    )

    @field_serializer("teacher")
    def _as_written(self, teacher: Any) -> Any:
        """A bare name stays one: it is part of the hash of a recipe."""
        if not isinstance(teacher, ModelSpec):
            return teacher
        settings = teacher.model_dump(mode="json", exclude={"name"}, exclude_none=True)
        return {"name": teacher.name, **settings} if settings else teacher.name


class FinetuneSpec(LearningSpec):
    """Training of the network as it is now, with the settings of `train` where they are not given here."""


class QuantizeSpec(Spec):
    """int8 static post-training quantization to QDQ ONNX."""

    newer = ("calibrator", "equalization", "bias_correction", "float_layers", "max_accuracy_drop")

    calibration_images: int = Field(300, ge=1, le=50_000, description="training images that set the ranges")
    calibrator: Literal["minmax", "percentile", "mse", "entropy"] = Field(
        "minmax", description="the range of an activation: its extremes, or narrower, with finer steps"
    )
    equalization: bool = Field(
        False, description="scale the channels between layers first, so that they share a range better"
    )
    bias_correction: bool = Field(
        False, description="move biases so that each channel keeps the mean that it has in float32"
    )
    float_layers: tuple[str, ...] = Field((), description="these stay in float32, such as conv1")
    max_accuracy_drop: Annotated[float, *limit(parse_points, "0.2 pt")] | None = Field(
        None,
        description="against the dense network, on the validation images: where it is missed, all of the above "
        "is tried, what costs no bytes first, then one layer after the other in float32",
    )
    engine: QuantizationEngine = "neural-compressor"
    dense_weights: Literal["per_tensor", "per_channel"] = Field(
        "per_tensor", description="scales of Gemm / MatMul weights; per_channel costs bytes"
    )


class QatSpec(FinetuneSpec):
    """Quantization-aware training of what `quantize` gave: weights and scales, with every rounding."""

    newer = ("int8_layers",)

    epochs: int = Field(3, ge=1, le=10_000)
    learning_rate: float = Field(1e-3, gt=0, le=100)
    weights: Literal["int8", "int4"] = Field(
        "int8", description="int4: 4-bit weights in the .tflite file, 8-bit activations"
    )
    int8_layers: tuple[str, ...] = Field(
        (), description="with weights: int4, these layers keep 8 bits, such as conv1"
    )
    granularity: Literal["per_channel", "per_tensor"] = Field(
        "per_channel",
        description="scales of weights; per_tensor saves the 12 to 16 bytes a channel that they take in the"
        " file, and training makes up for the wider steps",
    )

    @model_validator(mode="after")
    def _int8_layers_are_among_4_bits(self) -> QatSpec:
        if self.int8_layers and self.weights != "int4":
            raise ValueError("int8_layers goes with weights: int4; otherwise all layers have 8 bits")
        return self


class SearchSpec(LearningSpec):
    """Finds the widths of all layers: the cheapest network whose quantized accuracy drops by no more than it
    may, on the validation images. In place of prune and finetune; what follows is done to every trial, too.
    """

    minimize: Cost = Field("size", description="bytes of the .tflite file, multiply-accumulates, or latency")
    max_accuracy_drop: Annotated[float, *limit(parse_points, "0.3 pt")] = Field(
        description="against the dense network, on the validation images"
    )
    trials: int = Field(40, ge=1, le=10_000, description="short trainings")
    screen_epochs: int = Field(2, ge=1, le=10_000, description="epochs of a short training")
    finalists: int = Field(4, ge=1, le=1000, description="how many are trained for all of `epochs`, at most")
    epochs: int = Field(8, ge=1, le=10_000)
    teacher: Teacher = Field("dense", description=LearningSpec.model_fields["teacher"].description)
    round_to: int | None = Field(
        None, ge=1, le=256, description="widths are multiples; default: 8 for SqueezeNet, else 1"
    )

    @model_validator(mode="after")
    def _screening_is_shorter(self) -> SearchSpec:
        if self.screen_epochs > self.epochs:
            raise ValueError("screen_epochs must not be more than epochs")
        return self


class PruneStep(Spec):
    prune: PruneSpec


class FinetuneStep(Spec):
    finetune: FinetuneSpec = FinetuneSpec()


class QuantizeStep(Spec):
    quantize: QuantizeSpec = QuantizeSpec()


class QatStep(Spec):
    qat: QatSpec = QatSpec()


class SearchStep(Spec):
    search: SearchSpec


STEPS: dict[str, type[Spec]] = {
    "prune": PruneStep,
    "finetune": FinetuneStep,
    "quantize": QuantizeStep,
    "qat": QatStep,
    "search": SearchStep,
}


Step = Annotated[
    Annotated[PruneStep, Tag("prune")]
    | Annotated[FinetuneStep, Tag("finetune")]
    | Annotated[QuantizeStep, Tag("quantize")]
    | Annotated[QatStep, Tag("qat")]
    | Annotated[SearchStep, Tag("search")],
    Discriminator(lambda step: next(iter(step if isinstance(step, dict) else type(step).model_fields))),
]
