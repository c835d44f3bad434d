"""`data:` of a recipe: which pictures, and how they come to the size and the values that the network sees."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
    model_validator,
)

from edgecnn.data import DATASETS, IMAGENET_MEAN, IMAGENET_STD, Options
from edgecnn.ondevice.manifest import Preprocessing
from edgecnn.recipe.spec import Spec

Fit = Literal["stretch", "crop", "letterbox"]


ResizeFilter = Literal["bilinear", "bicubic", "lanczos", "box", "hamming", "nearest"]


Normalization = Literal["own", "imagenet"]


# Of one picture: more than sensors for many colours have.
MOST_CHANNELS = 1024


# Keys of data that the user brings.
ONLY_BROUGHT = ("path", "channels", "validation_share", "test_share", "folds")


def _height_and_width(value: Any) -> Any:
    """96 is short for [96, 96]."""
    if isinstance(value, int) and not isinstance(value, bool):
        return (value, value)
    return tuple(value) if isinstance(value, list) else value


class Scaling(Spec):
    """A normalization of the user's own: `(pixel / 255 - mean) / std`, one value a channel, or one for all."""

    mean: tuple[float, ...] = Field(min_length=1, max_length=MOST_CHANNELS)
    std: tuple[Annotated[float, Field(gt=0)], ...] = Field(min_length=1, max_length=MOST_CHANNELS)

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

    newer = (
        "path",
        "size",
        "fit",
        "crop_share",
        "resize_filter",
        "normalization",
        "channels",
        "classes",
        "validation_share",
        "test_share",
        "folds",
    )

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
    channels: int | None = Field(
        None,
        ge=1,
        le=MOST_CHANNELS,
        description="of data that you bring: 1 is grey, 3 is colour; of npz any number",
    )
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
        if self.channels not in (None, 1, 3) and not DATASETS[self.name].any_channels:
            raise ValueError(
                f"picture files are grey (channels: 1) or in colour (3), not of {self.channels} channels: "
                "save arrays, and take npz"
            )
        if self.classes is not None and DATASETS[self.name].labelled:
            raise ValueError(f"classes is for pictures without labels; {self.name} has its own")
        if self.crop_share < 1 and self.fit != "crop":
            raise ValueError("crop_share goes with fit: crop")
        if isinstance(self.normalization, Scaling):
            self.normalization.for_channels(self.channels or DATASETS[self.name].preprocessing.channels)
        if self.validation_share + self.test_share >= 1:
            raise ValueError("validation_share and test_share leave nothing to train on")
        return self

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
        elif channels != len(mean):
            # Those of colours say nothing of grey or of other channels but how bright pictures are.
            mean, std = ((round(sum(values) / len(values), 4),) * channels for values in (mean, std))
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


def data_parameters(name: str) -> dict[str, Any]:
    """The schema of each key that `data: {name: ...}` may have."""
    properties = DataSpec.model_json_schema()["properties"]
    if not DATASETS[name].any_channels:
        grey_or_colour = {"anyOf": [{"enum": [1, 3], "type": "integer"}, {"type": "null"}]}
        properties["channels"] = {**properties["channels"], **grey_or_colour}
    if DATASETS[name].labelled:
        del properties["classes"]
    keys = properties.keys() - {"name"} - (set() if DATASETS[name].brought else set(ONLY_BROUGHT))
    return {key: value for key, value in properties.items() if key in keys}
