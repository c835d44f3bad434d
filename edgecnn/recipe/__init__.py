"""The recipe as a frozen and fully checked `Recipe`, and its JSON Schema for editors.

`recipe_file` reads it from YAML. Every unknown key is refused; limits are written with their unit.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from edgecnn.data import DATASETS
from edgecnn.models import ALL_MODELS, MODELS, fitting_stem
from edgecnn.ondevice.manifest import Preprocessing
from edgecnn.ondevice.names import NAME_PATTERN
from edgecnn.recipe.data_spec import DataSpec, Scaling, data_parameters
from edgecnn.recipe.limits import Budget, RejectSpec
from edgecnn.recipe.model_spec import (
    BROUGHT_SCHEMAS,
    MODEL_PARAMETERS,
    ONNX_PATTERN,
    PYTHON_PATTERN,
    ModelSpec,
    check_widths,
    model_parameters,
    target_widths,
)
from edgecnn.recipe.spec import Spec, named
from edgecnn.recipe.steps import (
    STEPS,
    FinetuneSpec,
    FinetuneStep,
    PruneSpec,
    PruneStep,
    QatSpec,
    QatStep,
    QuantizeSpec,
    QuantizeStep,
    SearchSpec,
    SearchStep,
    Step,
    TrainSpec,
)

Format = Literal["onnx", "tflite"]


class Recipe(Spec):
    """Everything that decides what a build gives."""

    newer = ("reject",)

    version: int = Field(ge=1, le=1)
    name: str = Field(pattern=NAME_PATTERN, description="names the files")
    seed: int = Field(0, ge=0, le=2**31 - 1)
    data: Annotated[DataSpec, named({name: data_parameters(name) for name in DATASETS})]
    model: Annotated[ModelSpec, named(MODEL_PARAMETERS, *BROUGHT_SCHEMAS)]
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
        self._search_fits(kinds)
        self._teachers_fit()
        self._tuning_fits(kinds)
        by_scale = any(isinstance(s, PruneStep) and s.prune.criterion == "batchnorm" for s in self.compress)
        if by_scale and self.model.name in MODELS:
            raise ValueError(
                f"compress: prune by batchnorm needs BatchNorm, and {self.model.name} has none: "
                "take criterion taylor, hessian or magnitude"
            )
        if self.data.folds and (self.model.name == "onnx" or not self.train.epochs):
            raise ValueError("data: folds trains networks, and this recipe trains none: leave folds out")
        channels = self.data.channels or 3
        if self.model.weights == "imagenet" and channels not in (1, 3):
            raise ValueError(
                f"model: weights from imagenet are for 1 or 3 channels, and the data have {channels}: "
                "leave weights out"
            )
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

    def _search_fits(self, kinds: list[type]) -> None:
        if SearchStep not in kinds:
            return
        if {PruneStep, FinetuneStep} & set(kinds) or kinds.count(SearchStep) > 1:
            raise ValueError("compress: search prunes and fine-tunes: leave prune and finetune out")
        if self.model.name not in MODELS:
            raise ValueError(f"compress: search is for {', '.join(MODELS)}; prune takes any network")
        if self.model.simple_bypass:
            raise ValueError("compress: search changes widths one by one, and simple_bypass ties them together")

    def _teachers_fit(self) -> None:
        for teacher in self.teachers.values():
            if not self.train.epochs and not teacher.weights:
                raise ValueError(
                    "train: with 0 epochs no other teacher is trained: leave it out, or name dense"
                )
            if teacher.weights == "imagenet" and self.model.weights != "imagenet":
                raise ValueError(
                    "a teacher with weights from imagenet sees pictures normalized for them, as the model does "
                    "only if it has such weights itself: leave weights of the teacher out"
                )

    def _tuning_fits(self, kinds: list[type]) -> None:
        if self.quantize is None:
            return
        if QatStep in kinds and (self.quantize.float_layers or self.quantize.max_accuracy_drop is not None):
            raise ValueError(
                "compress: qat trains every layer in integers: "
                "leave float_layers and max_accuracy_drop out of quantize"
            )
        if SearchStep in kinds and self.quantize.max_accuracy_drop is not None:
            raise ValueError("compress: search has a max_accuracy_drop of its own: leave it out of quantize")

    @property
    def teachers(self) -> dict[tuple[int, str], ModelSpec]:
        """The networks besides the dense one from which steps learn, by the step's position and name."""
        named = {
            (position, name): getattr(getattr(step, name), "teacher", None)
            for position, step in enumerate(self.compress)
            for name in type(step).model_fields
        }
        return {place: teacher for place, teacher in named.items() if isinstance(teacher, ModelSpec)}

    @property
    def lacks_folds(self) -> bool:
        """Whether it could cross-validate on pictures of the user's, and does not."""
        info = DATASETS[self.data.name]
        trains = self.train.epochs > 0 and self.model.name != "onnx"
        return info.brought and info.labelled and trains and not self.data.folds

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

    def __hash__(self) -> int:
        return hash(self.sha256)

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
        "anyOf": [{"enum": [name for name in STEPS if name not in ("prune", "search")]}, *steps["oneOf"]]
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "edgecnn recipe",
        "description": "One recipe from training to measured, gated artifacts.",
    }


__all__ = [
    "NAME_PATTERN",
    "ONNX_PATTERN",
    "PYTHON_PATTERN",
    "STEPS",
    "Budget",
    "DataSpec",
    "FinetuneSpec",
    "FinetuneStep",
    "PruneSpec",
    "PruneStep",
    "QatSpec",
    "QuantizeSpec",
    "Recipe",
    "Scaling",
    "SearchSpec",
    "Spec",
    "check_widths",
    "data_parameters",
    "json_schema",
    "model_parameters",
    "target_widths",
]
