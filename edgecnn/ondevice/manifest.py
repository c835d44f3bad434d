"""What a model file needs said beside it: how its input is made and what its output means."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

# 2: `preprocessing` says how a picture is fitted. Manifests of version 1 mean what the defaults say.
SCHEMA_VERSION = 2


class DeviceError(Exception):
    """A fault on the measuring machine, told to the host as one JSON line: what is wrong, how to mend it."""

    def __init__(self, what: str, fix: Optional[str] = None) -> None:
        super().__init__(what)
        self.what = what
        self.fix = fix


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a model file. `scale` and `zero_point` are None where it is not quantized."""

    name: str
    shape: Tuple[int, ...]
    dtype: str
    scale: Optional[float] = None
    zero_point: Optional[int] = None


@dataclass(frozen=True)
class Preprocessing:
    """From a decoded picture to the float input of the network: fit, `x / 255`, then `(x - mean) / std`.

    `mean` and `std` have one value a channel, in the 0..1 scale. `fit` is how a picture of another shape comes
    to `height` x `width`: "stretch" (all of it, squeezed), "crop" (the largest centred part of the right shape,
    its sides times `crop_share`) or "letterbox" (all of it, on a ground of the mean). `resize_filter` is one of
    Pillow's, `color_order` that of three channels.
    """

    height: int
    width: int
    channels: int
    mean: Tuple[float, ...]
    std: Tuple[float, ...]
    fit: str = "stretch"
    crop_share: float = 1.0
    resize_filter: str = "bilinear"
    color_order: str = "RGB"


@dataclass(frozen=True)
class Manifest:
    """The JSON beside each model file (`x.tflite` -> `x.tflite.json`).

    `layout` is that of the image input: NHWC for TFLite, NCHW for ONNX. The outputs are logits:
    softmax is done by whoever shows probabilities; or `output` is "probabilities". Where the most probable
    class has less than `reject_below` (0..1), the answer is "none of these"; None: there always is an answer.
    """

    format: str
    precision: str
    variant: str
    layout: str
    preprocessing: Preprocessing
    inputs: Tuple[TensorSpec, ...]
    outputs: Tuple[TensorSpec, ...]
    class_names: Tuple[str, ...]
    n_params: int
    n_macs: int
    size_bytes: int
    file_sha256: str
    recipe_name: str
    recipe_sha256: str
    output: str = "logits"
    reject_below: Optional[float] = None
    tool_versions: Dict[str, str] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> str:
        fields = asdict(self)
        if self.reject_below is None:
            # An older edgecnn on a board reads manifests that do not use it.
            del fields["reject_below"]
        return json.dumps(fields, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Raises DeviceError for what is not a manifest, or is one of a newer schema."""
        try:
            raw: Dict[str, Any] = json.loads(text)
            version = raw["schema_version"]
            if version > SCHEMA_VERSION:
                raise DeviceError(
                    f"the manifest has schema version {version}; this edgecnn reads up to {SCHEMA_VERSION}",
                    "upgrade edgecnn: pip install -U edgecnn",
                )
            pre = raw["preprocessing"]
            raw["preprocessing"] = Preprocessing(
                **{**pre, "mean": tuple(pre["mean"]), "std": tuple(pre["std"])}
            )
            for key in ("inputs", "outputs"):
                raw[key] = tuple(TensorSpec(**{**spec, "shape": tuple(spec["shape"])}) for spec in raw[key])
            raw["class_names"] = tuple(raw["class_names"])
            return cls(**raw)
        except (ValueError, KeyError, TypeError, AttributeError) as fault:
            raise DeviceError(
                f"not an edgecnn manifest ({type(fault).__name__}: {fault})",
                "rebuild the artifact with: edgecnn build RECIPE",
            ) from fault

    @staticmethod
    def path_for(model: Path) -> Path:
        return model.with_name(model.name + ".json")

    @classmethod
    def read_for(cls, model: Path) -> Manifest:
        """The manifest beside the model file at `model`. Raises DeviceError where there is none."""
        path = cls.path_for(model)
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as fault:
            raise DeviceError(
                f"no manifest beside {model.name}: {fault.strerror}: {path}",
                "copy the .json file that lies beside the model, too",
            ) from fault
        return cls.from_json(text)
