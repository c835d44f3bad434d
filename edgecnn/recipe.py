"""The recipe as a frozen and fully checked `Recipe`, and its JSON Schema for editors.

`recipe_file` reads it from YAML. Every unknown key is refused; limits are written with their unit.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    WithJsonSchema,
    model_serializer,
    model_validator,
)

from edgecnn.data import DATASETS, IMAGENET_MEAN, IMAGENET_STD, Options
from edgecnn.models import ALL_MODELS, MODELS, fitting_stem
from edgecnn.ondevice.manifest import Preprocessing
from edgecnn.units import parse_ms, parse_points, parse_share, parse_size

Augmentation = Literal["shift", "rotate", "scale", "flip", "crop", "color"]
Criterion = Literal["magnitude", "taylor", "random"]
Optimizer = Literal["adamw", "sgd"]
Schedule = Literal["one_cycle", "cosine"]
QuantizationEngine = Literal["neural-compressor", "onnxruntime"]
Stem = Literal["small", "imagenet"]
Fit = Literal["stretch", "crop", "letterbox"]
ResizeFilter = Literal["bilinear", "bicubic", "lanczos", "box", "hamming", "nearest"]
Normalization = Literal["own", "imagenet"]
Format = Literal["onnx", "tflite"]
PYTHON_PATTERN = r"^.+\.py:[A-Za-z_][A-Za-z0-9_]*$"
ONNX_PATTERN = r"^.+\.[oO][nN][nN][xX]$"
# Keys of data that the user brings.
ONLY_BROUGHT = ("path", "channels", "validation_share", "test_share", "folds")
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"


class Spec(BaseModel):
    """One part of a recipe: frozen, with every key known."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def _height_and_width(value: Any) -> Any:
    """96 is short for [96, 96]."""
    if isinstance(value, int) and not isinstance(value, bool):
        return (value, value)
    return tuple(value) if isinstance(value, list) else value


class Scaling(Spec):
    """A normalization of the user's own: `(pixel / 255 - mean) / std`, one value a channel, or one for all."""

    mean: tuple[float, ...] = Field(min_length=1, max_length=3)
    std: tuple[Annotated[float, Field(gt=0)], ...] = Field(min_length=1, max_length=3)

    def for_channels(self, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation of each channel. Raises ValueError where there are neither one nor as many."""
        for values in (self.mean, self.std):
            if len(values) not in (1, channels):
                raise ValueError(
                    f"normalization has {len(values)} values, and the pictures {channels} channels"
                )
        mean, std = (values * channels if len(values) == 1 else values for values in (self.mean, self.std))
        return mean, std


class DataSpec(Spec):
    """Which data set, and how its pictures come to the size and the values that the network sees."""

    name: str
    path: str | None = Field(None, min_length=1, description="of data that you bring; from where edgecnn runs")
    size: (
        Annotated[
            tuple[Annotated[int, Field(ge=1, le=4096)], Annotated[int, Field(ge=1, le=4096)]],
            BeforeValidator(_height_and_width),
            WithJsonSchema(
                {"type": ["integer", "array"], "items": {"type": "integer"}, "examples": [96, [96, 128]]}
            ),
        ]
        | None
    ) = Field(None, description="height and width that the network sees; default: those of the pictures")
    fit: Fit = Field("stretch", description="how a picture of another shape comes to that size")
    crop_share: float = Field(1.0, gt=0, le=1, description="with fit: crop, how much of each side is kept")
    resize_filter: ResizeFilter = "bilinear"
    normalization: (
        Annotated[
            Annotated[Normalization, Tag("normalization")] | Annotated[Scaling, Tag("own")],
            Discriminator(lambda said: "own" if isinstance(said, (dict, Scaling)) else "normalization"),
            WithJsonSchema({"anyOf": [{"enum": list(get_args(Normalization))}, Scaling.model_json_schema()]}),
        ]
        | None
    ) = Field(
        None,
        description="mean and deviation: of the data; of ImageNet, as its weights want it; or your own, 0..1",
    )
    channels: Literal[1, 3] | None = Field(None, description="of data that you bring: 1 is grey, 3 is colour")
    classes: str | None = Field(
        None, min_length=1, description="of pictures without labels: a text file, the name of a class a line"
    )
    validation_share: float = Field(0.1, gt=0, lt=1, description="of data without a part of that name")
    test_share: float = Field(0.2, gt=0, lt=1, description="of data without a part of that name")
    folds: int | None = Field(
        None, ge=2, le=20, description="cross-validation: also train so often, judged on what was left out"
    )

    @model_validator(mode="after")
    def _fits_the_data(self) -> DataSpec:
        brought = DATASETS[self.name].brought
        if brought and self.path is None:
            raise ValueError(f"{self.name} needs a path, for example {{{self.name}: my/data}}")
        said = [key for key in ONLY_BROUGHT if key in self.model_fields_set]
        if not brought and said:
            raise ValueError(f"{self.name} is a known data set: {', '.join(said)}: for data that you bring")
        if self.classes is not None and DATASETS[self.name].labelled:
            raise ValueError(f"classes is for pictures without labels; {self.name} has its own")
        if self.crop_share < 1 and self.fit != "crop":
            raise ValueError("crop_share goes with fit: crop")
        if isinstance(self.normalization, Scaling):
            self.normalization.for_channels(self.channels or DATASETS[self.name].preprocessing.channels)
        if self.validation_share + self.test_share >= 1:
            raise ValueError("validation_share and test_share leave nothing to train on")
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_not_said(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _only_said(self, handler(self))

    def options(self, seed: int) -> Options:
        return Options(
            path=Path(self.path) if self.path else None,
            seed=seed,
            validation_share=self.validation_share,
            test_share=self.test_share,
            classes=Path(self.classes) if self.classes else None,
        )

    @property
    def is_fitted(self) -> bool:
        """Whether pictures are decoded or brought to another size, and not taken as they are."""
        info = DATASETS[self.name]
        own = (info.preprocessing.height, info.preprocessing.width)
        return info.brought or self.fit == "crop" or (self.size or own) != own

    def preprocessing(self, *, imagenet_weights: bool) -> Preprocessing:
        """From a picture to what the network sees. Weights from ImageNet want its normalization, if none is
        said.
        """
        own = DATASETS[self.name].preprocessing
        channels = self.channels or own.channels
        mean, std = own.mean, own.std
        if (
            channels != own.channels
            or (self.normalization or ("own", "imagenet")[imagenet_weights]) == "imagenet"
        ):
            mean, std = IMAGENET_MEAN, IMAGENET_STD
        if isinstance(self.normalization, Scaling):
            mean, std = self.normalization.for_channels(channels)
        elif channels == 1 and len(mean) > 1:
            mean, std = ((round(sum(values) / len(values), 4),) for values in (mean, std))
        height, width = self.size or (own.height, own.width)
        return replace(
            own,
            height=height,
            width=width,
            channels=channels,
            mean=mean,
            std=std,
            fit=self.fit,
            crop_share=self.crop_share,
            resize_filter=self.resize_filter,
        )


class ModelSpec(Spec):
    """Which network, the output channels of its layers (all but the last), in order, and its options; or the
    user's own, at `path`: a class, made with `args`, or an ONNX file.
    """

    name: str
    widths: tuple[Annotated[int, Field(ge=1, le=65_536)], ...] | None = None
    stem: Stem | None = Field(None, description="how the network begins; default: what fits the pictures")
    simple_bypass: bool | None = Field(None, description="add its input to every second Fire module")
    weights: str | None = Field(
        None,
        min_length=1,
        description="to start from: imagenet, or a .safetensors or .pth file; default: random",
    )
    path: str | None = None
    args: dict[str, Any] | None = Field(None, description="what the class is made with, by name")

    @model_validator(mode="after")
    def _fits_the_network(self) -> ModelSpec:
        known = ALL_MODELS[self.name].options
        for option in self.options:
            if option not in known:
                raise ValueError(f"{self.name} has no {option}")
        if self.widths and self.name not in MODELS:
            raise ValueError("widths are for the networks of edgecnn; yours has those that its file says")
        if self.weights and self.name == "onnx":
            raise ValueError("an ONNX file brings its own weights: leave weights out")
        check_widths(self.name, self.widths, bypass=bool(self.simple_bypass))
        if self.weights == "imagenet" and not ALL_MODELS[self.name].published:
            others = ", ".join(name for name, info in MODELS.items() if info.published)
            raise ValueError(f"there are no weights from imagenet for {self.name}; for {others} there are")
        if self.weights == "imagenet" and self.widths:
            raise ValueError("weights from imagenet have the widths of the published network: leave widths out")
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_not_said(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without_none(handler(self), "stem", "simple_bypass", "weights", "path", "args")

    @property
    def options(self) -> dict[str, Any]:
        """What the recipe says of the network besides its name and widths."""
        said: dict[str, Any] = {"stem": self.stem, "simple_bypass": self.simple_bypass, "args": self.args}
        return {option: value for option, value in said.items() if value is not None}

    @property
    def layer_widths(self) -> dict[str, int]:
        default = ALL_MODELS[self.name].widths
        return dict(zip(default, self.widths, strict=True)) if self.widths else dict(default)


def _only_said(spec: Spec, values: dict[str, Any]) -> dict[str, Any]:
    """`values` without those that are the default: a recipe that does not name a newer key keeps its hash."""
    fields = type(spec).model_fields
    return {
        key: value for key, value in values.items() if value != fields[key].default or fields[key].is_required()
    }


def _without_none(values: dict[str, Any], *keys: str) -> dict[str, Any]:
    """`values` without those of `keys` that are None: a recipe without the newer keys keeps its hash."""
    return {key: value for key, value in values.items() if key not in keys or value is not None}


def check_widths(model: str, widths: tuple[int, ...] | None, *, bypass: bool = False) -> None:
    """Raises ValueError unless there is one width for each layer of `model` but the last, and with `bypass`
    what is added has the channels of what it is added to.
    """
    layers = ALL_MODELS[model].widths
    if widths is not None and len(widths) != len(layers):
        raise ValueError(
            f"{model} takes {len(layers)} numbers, one for each of {', '.join(layers)}; there are {len(widths)}"
        )
    if widths is None or not bypass:
        return
    by_layer = dict(zip(layers, widths, strict=True))
    for before, around in MODELS[model].bypassed:
        if by_layer[before] != by_layer[around]:
            raise ValueError(
                f"simple_bypass adds {before} to {around}: both need as many channels; "
                f"they have {by_layer[before]} and {by_layer[around]}"
            )


def target_widths(start: dict[str, int], ratio: float, round_to: int = 1) -> dict[str, int]:
    """The widths left when `ratio` of every layer's channels go, as multiples of `round_to`; at least one
    multiple stays, and no layer grows.
    """
    return {
        layer: min(width, max(1, round(width * (1 - ratio) / round_to)) * round_to)
        for layer, width in start.items()
    }


class TrainSpec(Spec):
    """How the dense network is trained, from random weights or from those that `model` names."""

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
    threads: int = Field(2, ge=1, le=256, description="CPU threads; another number gives other bits")

    @model_validator(mode="after")
    def _something_is_left_to_train(self) -> TrainSpec:
        if self.freeze_epochs and self.freeze_epochs >= self.epochs:
            raise ValueError("freeze_epochs must be fewer than epochs")
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_not_said(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        newer = ("mixup", "cutmix", "freeze_epochs", "layer_decay", "ema")
        said = _only_said(self, handler(self))
        return {key: value for key, value in handler(self).items() if key not in newer or key in said}


class PruneSpec(Spec):
    """Structured pruning: whole channels are taken out, and the network is physically smaller afterwards."""

    ratio: float | None = Field(None, gt=0, lt=1, description="share of channels removed from every layer")
    widths: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(
        None, description="or: the channels that each layer keeps, in order"
    )
    round_to: int | None = Field(
        None, ge=1, le=256, description="with ratio: channels kept are a multiple; 8 for SqueezeNet, else 1"
    )
    criterion: Criterion = Field("taylor", description="what makes a channel important")
    steps: int = Field(1, ge=1, le=100, description="rounds of pruning")
    finetune_epochs: int = Field(1, ge=0, le=1000, description="training after each round")

    @model_validator(mode="after")
    def _ratio_or_widths(self) -> PruneSpec:
        if (self.ratio is None) == (self.widths is None):
            raise ValueError("give either ratio (0.6: six channels of ten go) or widths ([4, 8, 32, 16])")
        if self.round_to and self.ratio is None:
            raise ValueError("round_to goes with ratio; widths are kept as they are")
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_not_said(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without_none(handler(self), "round_to")

    def kept(self, model: str, start: dict[str, int]) -> dict[str, int]:
        """The channels that each layer of the network `model` keeps of those in `start`."""
        if self.widths:
            return dict(zip(start, self.widths, strict=True))
        return target_widths(start, self.ratio or 0, self.round_to or ALL_MODELS[model].round_to)


class FinetuneSpec(Spec):
    """Training of the network as it is now, with the settings of `train` where they are not given here."""

    epochs: int = Field(4, ge=1, le=10_000)
    learning_rate: float = Field(2e-3, gt=0, le=100)
    teacher: Literal["dense"] | None = Field(
        None, description="learn from the outputs of the dense network, too"
    )
    temperature: float = Field(3.0, gt=0, le=100, description="softness of the teacher's outputs")
    teacher_weight: float = Field(0.7, ge=0, le=1, description="share of the loss that the teacher gives")


class QuantizeSpec(Spec):
    """int8 static post-training quantization to QDQ ONNX."""

    calibration_images: int = Field(300, ge=1, le=50_000, description="training images that set the ranges")
    engine: QuantizationEngine = "neural-compressor"
    dense_weights: Literal["per_tensor", "per_channel"] = Field(
        "per_tensor", description="scales of Gemm / MatMul weights; per_channel costs bytes"
    )


class QatSpec(FinetuneSpec):
    """Quantization-aware training of what `quantize` gave: weights and scales, with every rounding."""

    epochs: int = Field(3, ge=1, le=10_000)
    learning_rate: float = Field(1e-3, gt=0, le=100)
    weights: Literal["int8", "int4"] = Field(
        "int8", description="int4: 4-bit weights in the .tflite file, 8-bit activations"
    )


class PruneStep(Spec):
    prune: PruneSpec


class FinetuneStep(Spec):
    finetune: FinetuneSpec = FinetuneSpec()


class QuantizeStep(Spec):
    quantize: QuantizeSpec = QuantizeSpec()


class QatStep(Spec):
    qat: QatSpec = QatSpec()


STEPS: dict[str, type[Spec]] = {
    "prune": PruneStep,
    "finetune": FinetuneStep,
    "quantize": QuantizeStep,
    "qat": QatStep,
}
Step = Annotated[
    Annotated[PruneStep, Tag("prune")]
    | Annotated[FinetuneStep, Tag("finetune")]
    | Annotated[QuantizeStep, Tag("quantize")]
    | Annotated[QatStep, Tag("qat")],
    Discriminator(lambda step: next(iter(step if isinstance(step, dict) else type(step).model_fields))),
]


def _named(parameters: dict[str, dict[str, Any]], *others: dict[str, Any]) -> WithJsonSchema:
    """The schema of what a recipe may write: a bare name, or a name with its parameters (a schema each); or
    one of `others`.
    """
    with_parameters = {
        "type": "object",
        "properties": {
            name: {"type": ["object", "null"], "properties": properties, "additionalProperties": False}
            for name, properties in parameters.items()
        },
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": False,
    }
    return WithJsonSchema({"anyOf": [{"enum": list(parameters)}, with_parameters, *others]})


_WIDTHS = {"type": "array", "items": {"type": "integer", "minimum": 1}}


def data_parameters(name: str) -> dict[str, Any]:
    """The schema of each key that `data: {name: ...}` may have."""
    properties = DataSpec.model_json_schema()["properties"]
    if DATASETS[name].labelled:
        del properties["classes"]
    keys = properties.keys() - {"name"} - (set() if DATASETS[name].brought else set(ONLY_BROUGHT))
    return {key: value for key, value in properties.items() if key in keys}


_OPTIONS: dict[str, dict[str, Any]] = {
    "stem": {"enum": list(get_args(Stem)), "description": ModelSpec.model_fields["stem"].description},
    "simple_bypass": {"type": "boolean", "description": ModelSpec.model_fields["simple_bypass"].description},
}
_WEIGHTS = {"type": "string", "description": ModelSpec.model_fields["weights"].description}
_MODEL_PARAMETERS = {
    name: {"widths": _WIDTHS, "weights": _WEIGHTS, **{option: _OPTIONS[option] for option in info.options}}
    for name, info in MODELS.items()
}


_BROUGHT_PARAMETERS: dict[str, dict[str, Any]] = {
    "python": {
        "python": {
            "type": "string",
            "pattern": PYTHON_PATTERN,
            "description": "a file and a class in it; runs only with --allow-code",
        },
        "args": {"type": "object", "description": ModelSpec.model_fields["args"].description},
        "weights": _WEIGHTS,
    },
    "onnx": {"onnx": {"type": "string", "pattern": ONNX_PATTERN, "description": "a float ONNX file"}},
}
_BROUGHT_SCHEMAS = [
    {"type": "object", "properties": properties, "required": [name], "additionalProperties": False}
    for name, properties in _BROUGHT_PARAMETERS.items()
]


def model_parameters(name: str) -> list[str]:
    """The keys that a recipe may write for the network `name`."""
    return list({**_MODEL_PARAMETERS, **_BROUGHT_PARAMETERS}.get(name, {}))


def _limit(parse: Any, example: str) -> Any:
    return (
        BeforeValidator(parse),
        WithJsonSchema({"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*\S+\s*$", "examples": [example]}),
    )


_size, _points, _share, _ms = (
    _limit(parse_size, "20 kB"),
    _limit(parse_points, "0.3 pt"),
    _limit(parse_share, "99 %"),
    _limit(parse_ms, "5 ms"),
)


class Budget(Spec):
    """What one artifact may cost. Any miss ends the build with exit code 1, after everything is written."""

    max_size_bytes: Annotated[int, *_size] | None = Field(None, alias="max_size")
    max_accuracy_drop: Annotated[float, *_points] | None = None
    min_accuracy: Annotated[float, *_share] | None = None
    max_median_ms: Annotated[float, *_ms] | None = Field(None, alias="max_median")
    max_peak_rss_bytes: Annotated[int, *_size] | None = Field(None, alias="max_peak_rss")


class RejectSpec(Spec):
    """When a model answers "none of these" instead of a class."""

    keep: Annotated[float, *_share] = Field(
        description="share of the validation images that are answered; what is less sure is none of these"
    )

    @model_validator(mode="after")
    def _answers_something(self) -> RejectSpec:
        if self.keep == 0:
            raise ValueError("reject: keep must be more than 0 %, or nothing is ever answered")
        return self


class Recipe(Spec):
    """Everything that decides what a build gives."""

    version: int = Field(ge=1, le=1)
    name: str = Field(pattern=NAME_PATTERN, description="names the files")
    seed: int = Field(0, ge=0, le=2**31 - 1)
    data: Annotated[DataSpec, _named({name: data_parameters(name) for name in DATASETS})]
    model: Annotated[ModelSpec, _named(_MODEL_PARAMETERS, *_BROUGHT_SCHEMAS)]
    train: TrainSpec = TrainSpec()
    compress: tuple[Step, ...] = Field((), description="carried out in this order")
    reject: RejectSpec | None = None
    export: tuple[Format, ...] = Field(("onnx", "tflite"), min_length=1)
    targets: tuple[str, ...] = Field(("host",), min_length=1, description="the machines to measure on")
    budget: dict[str, Budget] = Field(default_factory=dict, description="limits by artifact: int8.tflite")

    @model_validator(mode="after")
    def _steps_fit_together(self) -> Recipe:
        kinds = [type(step) for step in self.compress]
        if QatStep in kinds and kinds[-2:] != [QuantizeStep, QatStep]:
            raise ValueError("compress: qat must be the last step, right behind quantize")
        if QuantizeStep in kinds[: -2 if QatStep in kinds else -1]:
            raise ValueError("compress: quantize must be the last step but for qat, and stand there once")
        if self.data.folds and (self.model.name == "onnx" or not self.train.epochs):
            raise ValueError("data: folds trains networks, and this recipe trains none: leave folds out")
        if self.train.epochs == 0 and self.model.weights is None and self.model.name != "onnx":
            raise ValueError("train: with 0 epochs the model needs weights, such as imagenet")
        trains = self.train.epochs > 0 and self.model.name != "onnx"
        if not DATASETS[self.data.name].labelled and (trains or set(kinds) - {QuantizeStep}):
            raise ValueError(
                f"{self.data.name} have no labels to train on: "
                "give train: {epochs: 0}, and nothing but quantize in compress"
            )
        for key, values in (("export", self.export), ("targets", self.targets)):
            if len(set(values)) < len(values):
                raise ValueError(f"{key}: a name stands there twice")
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_not_said(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without_none(handler(self), "reject")

    @property
    def preprocessing(self) -> Preprocessing:
        """From a picture to what the network sees."""
        return self.data.preprocessing(imagenet_weights=self.model.weights == "imagenet")

    @property
    def model_options(self) -> dict[str, Any]:
        """The options of the network; a stem that is not said is the one that fits the pictures."""
        options = self.model.options
        if "stem" in ALL_MODELS[self.model.name].options:
            options.setdefault("stem", fitting_stem(self.preprocessing.height, self.preprocessing.width))
        return options

    @property
    def quantize(self) -> QuantizeSpec | None:
        return next((step.quantize for step in self.compress if isinstance(step, QuantizeStep)), None)

    @property
    def qat(self) -> QatSpec | None:
        return next((step.qat for step in self.compress if isinstance(step, QatStep)), None)

    @property
    def quantized_precision(self) -> Literal["int8", "int4"] | None:
        """The precision of the quantized files, None where there are none."""
        return (self.qat.weights if self.qat else "int8") if self.quantize else None

    @property
    def artifact_keys(self) -> tuple[str, ...]:
        """The files of a build without the recipe's name, in the order of the table: "int8.tflite"."""
        precisions = ("fp32", *((self.quantized_precision,) if self.quantized_precision else ()))
        return (
            "dense.fp32.onnx",
            *(f"{precision}.{suffix}" for precision in precisions for suffix in self.export),
        )

    @property
    def sha256(self) -> str:
        """The hash of what decides the files: where they are measured and what they may cost does not."""
        decisive = self.model_dump(mode="json", exclude={"targets", "budget"})
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a recipe file, bare names included."""
    schema = Recipe.model_json_schema(by_alias=True)
    steps = schema["properties"]["compress"]["items"]
    schema["properties"]["compress"]["items"] = {
        "anyOf": [{"enum": [name for name in STEPS if name != "prune"]}, *steps["oneOf"]]
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "edgecnn recipe",
        "description": "One recipe from training to measured, gated artifacts.",
    }
