"""What a model file needs said beside it: how its input is made and what its output means."""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

from edgecnn.ondevice.text_file import parse_json, read_text

# 2: `preprocessing` says how a picture is fitted. Manifests of version 1 mean what the defaults say.
SCHEMA_VERSION = 2
MOST_BYTES = 4_000_000
MOST_VALUES = 64_000_000
"""Of the picture that a network takes: as many as of the picture files that are read."""


class DeviceError(Exception):
    """A fault on the measuring machine, told to the host as one JSON line: what is wrong, how to mend it."""

    def __init__(self, what: str, fix: Optional[str] = None) -> None:
        super().__init__(what)
        self.what = what
        self.fix = fix


class PictureError(DeviceError):
    """A picture that cannot be read: others may be. `reason` says why, without its path."""

    def __init__(self, what: str, fix: str, reason: str) -> None:
        super().__init__(what, fix)
        self.reason = reason


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
            raw: Dict[str, Any] = parse_json(text)
            version = raw["schema_version"]
            if version > SCHEMA_VERSION:
                raise DeviceError(
                    f"the manifest has schema version {version}; this edgecnn reads up to {SCHEMA_VERSION}",
                    f"upgrade edgecnn: {upgrade_command(raw)}",
                )
            pre = raw["preprocessing"]
            raw["preprocessing"] = Preprocessing(
                **{**pre, "mean": tuple(pre["mean"]), "std": tuple(pre["std"])}
            )
            for key in ("inputs", "outputs"):
                raw[key] = tuple(TensorSpec(**{**spec, "shape": tuple(spec["shape"])}) for spec in raw[key])
            raw["class_names"] = tuple(raw["class_names"])
            manifest = cls(**raw)
            _check(manifest)
            return manifest
        except (ValueError, KeyError, TypeError, AttributeError) as fault:
            raise _no_manifest(fault) from fault

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """The manifest in the file at `path`. Raises OSError where it cannot be read, DeviceError."""
        try:
            text = read_text(path, MOST_BYTES)
        except UnicodeDecodeError as fault:
            raise _no_manifest(fault) from fault
        return cls.from_json(text)

    @staticmethod
    def path_for(model: Path) -> Path:
        return model.with_name(model.name + ".json")

    @classmethod
    def read_for(cls, model: Path) -> Manifest:
        """The manifest beside the model file at `model`. Raises DeviceError where there is none."""
        path = cls.path_for(model)
        try:
            return cls.read(path)
        except OSError as fault:
            raise DeviceError(
                f"no manifest beside {model.name}: {fault.strerror}: {path}",
                "copy the .json file that lies beside the model, too",
            ) from fault


def require_file(model: Path) -> None:
    """Raises DeviceError where there is no file."""
    if not model.is_file():
        raise DeviceError(f"no such model file: {model}", "check the path")


def own_manifest(model: Path) -> Manifest:
    """The manifest beside the model file. Raises DeviceError where it is missing or of another file."""
    require_file(model)
    manifest = Manifest.read_for(model)
    found = hashlib.sha256(model.read_bytes()).hexdigest()
    if found != manifest.file_sha256:
        raise DeviceError(
            f"{model.name} is not the file that its manifest describes"
            f" (sha256 {found[:12]}..., manifest {manifest.file_sha256[:12]}...)",
            "copy model and manifest together, or rebuild the artifact",
        )
    return manifest


def _no_manifest(fault: Exception) -> DeviceError:
    return DeviceError(
        f"not an edgecnn manifest ({type(fault).__name__}: {fault})",
        "rebuild the artifact with: edgecnn build RECIPE",
    )


def upgrade_command(raw: Any) -> str:
    """What installs an edgecnn that reads the JSON `raw`: the version that wrote it, where it tells that."""
    for key in ("tool_versions", "tools", "environment"):
        tools = raw.get(key) if isinstance(raw, dict) else None
        version = tools.get("edgecnn") if isinstance(tools, dict) else None
        if isinstance(version, str) and re.fullmatch(r"\d{1,9}(\.\w{1,9}){1,4}", version, re.ASCII):
            return f'pip install -U "edgecnn>={version}"'
    return "pip install -U edgecnn"


_TEXTS = (
    "format", "precision", "variant", "layout", "file_sha256", "recipe_name", "recipe_sha256", "output",
)  # fmt: skip


def _check(manifest: Manifest) -> None:
    """Raises ValueError for the first value that is not what its name says."""
    for key in _TEXTS:
        _require(isinstance(getattr(manifest, key), str), key)
    for key in ("schema_version", "n_params", "n_macs", "size_bytes"):
        _require(_is_integer(getattr(manifest, key), 0), key)
    _require(all(isinstance(name, str) for name in manifest.class_names), "class_names")
    _require(manifest.reject_below is None or _is_number(manifest.reject_below), "reject_below")
    tools = manifest.tool_versions
    _require(isinstance(tools, dict) and all(isinstance(one, str) for one in tools.values()), "tool_versions")
    for spec in (*manifest.inputs, *manifest.outputs):
        _require(isinstance(spec.name, str) and isinstance(spec.dtype, str), "a name or dtype of a tensor")
        _require(all(_is_integer(size, -1) for size in spec.shape), f"the shape of {spec.name}")
        _require(spec.scale is None or _is_number(spec.scale), f"the scale of {spec.name}")
        _require(spec.zero_point is None or isinstance(spec.zero_point, int), f"the zero point of {spec.name}")
    _check_preprocessing(manifest.preprocessing)


def _check_preprocessing(pre: Preprocessing) -> None:
    for key in ("height", "width", "channels"):
        _require(_is_integer(getattr(pre, key), 1), key)
    _require(pre.height * pre.width * pre.channels <= MOST_VALUES, "a picture of more values than are read")
    _require(all(map(_is_number, pre.mean)) and len(pre.mean) == pre.channels, "mean")
    _require(all(_is_number(one) and one > 0 for one in pre.std) and len(pre.std) == pre.channels, "std")
    _require(_is_number(pre.crop_share) and 0 < pre.crop_share <= 1, "crop_share")
    for key in ("fit", "resize_filter", "color_order"):
        _require(isinstance(getattr(pre, key), str), key)


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(f"{what}: not what it should be")


def _is_integer(value: Any, least: int) -> bool:
    return isinstance(value, int) and value >= least


def _is_number(value: Any) -> bool:
    """Finite: JSON as Python reads it knows NaN and Infinity."""
    return isinstance(value, (int, float)) and math.isfinite(value)
