"""`model:` of a recipe: a network of ours with its widths and options, or the user's own."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, model_validator

from edgecnn.models import ALL_MODELS, MODELS
from edgecnn.recipe.spec import Spec

Stem = Literal["small", "imagenet"]
# Odd, so that as many pixels lie on each side; of 28 pixels, three convolutions of 9 leave one.
KernelSize = Literal[1, 3, 5, 7, 9]


PYTHON_PATTERN = r"^.+\.py:[A-Za-z_][A-Za-z0-9_]*$"


ONNX_PATTERN = r"^.+\.[oO][nN][nN][xX]$"


class ModelSpec(Spec):
    """Which network, the output channels of its layers (all but the last), in order, and its options; or the
    user's own, at `path`: a class, made with `args`, or an ONNX file.
    """

    newer = ("stem", "simple_bypass", "kernel_sizes", "conv_relu", "weights", "path", "args")

    name: str
    widths: tuple[Annotated[int, Field(ge=1, le=65_536)], ...] | None = None
    stem: Stem | None = Field(None, description="how the network begins; default: what fits the pictures")
    simple_bypass: bool | None = Field(None, description="add its input to every second Fire module")
    kernel_sizes: tuple[KernelSize, KernelSize, KernelSize] | None = Field(
        None, description="of the three convolutions; default: 5, 5, 3"
    )
    conv_relu: bool | None = Field(None, description="a ReLU behind the convolutions; Caffe's file has none")
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

    @property
    def options(self) -> dict[str, Any]:
        """What the recipe says of the network besides its name and widths."""
        known = {option for info in ALL_MODELS.values() for option in info.options}
        said = {option: getattr(self, option) for option in sorted(known)}
        return {option: value for option, value in said.items() if value is not None}

    @property
    def layer_widths(self) -> dict[str, int]:
        default = ALL_MODELS[self.name].widths
        return dict(zip(default, self.widths, strict=True)) if self.widths else dict(default)


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


_WIDTHS = {"type": "array", "items": {"type": "integer", "minimum": 1}}


_OPTIONS: dict[str, dict[str, Any]] = {
    "stem": {"enum": list(get_args(Stem)), "description": ModelSpec.model_fields["stem"].description},
    "simple_bypass": {"type": "boolean", "description": ModelSpec.model_fields["simple_bypass"].description},
    "conv_relu": {"type": "boolean", "description": ModelSpec.model_fields["conv_relu"].description},
    "kernel_sizes": {
        "type": "array",
        "items": {"enum": list(get_args(KernelSize))},
        "minItems": 3,
        "maxItems": 3,
        "description": ModelSpec.model_fields["kernel_sizes"].description,
    },
}


_WEIGHTS = {"type": "string", "description": ModelSpec.model_fields["weights"].description}


MODEL_PARAMETERS = {
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


BROUGHT_SCHEMAS = [
    {"type": "object", "properties": properties, "required": [name], "additionalProperties": False}
    for name, properties in _BROUGHT_PARAMETERS.items()
]


def model_parameters(name: str) -> list[str]:
    """The keys that a recipe may write for the network `name`."""
    return list({**MODEL_PARAMETERS, **_BROUGHT_PARAMETERS}.get(name, {}))
