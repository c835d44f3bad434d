"""From picture files to class names with probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Sequence, Tuple

import numpy as np

from edgecnn.ondevice.evaluate import evaluate_loaded
from edgecnn.ondevice.manifest import DeviceError, Manifest
from edgecnn.ondevice.preprocess import PICTURE_SUFFIXES, decode_picture, dequantize
from edgecnn.ondevice.runtimes import available_runtimes, format_of, load_model
from edgecnn.ondevice.runtimes.runtime import Runtime


@dataclass(frozen=True)
class Guess:
    """One class for one picture; `probability` is 0..1."""

    class_index: int
    class_name: str
    probability: float


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of one picture, the best first."""

    picture: str
    guesses: Tuple[Guess, ...]


def predict(
    model: Path,
    manifest: Manifest,
    pictures: Sequence[Path],
    runtime_name: Optional[str] = None,
    num_threads: int = 1,
    top_k: int = 5,
) -> List[Prediction]:
    """The `top_k` classes of each picture file (PNG, JPEG, .npy). Without a name: the preferred runtime.

    Raises DeviceError where a picture cannot be read or the model cannot be run.
    """
    if top_k < 1:
        raise DeviceError(f"{top_k} classes asked for", "ask for 1 or more")
    runtime = load_model(runtime_name or preferred_runtime(model), model, num_threads)
    predictions = []
    for picture in pictures:
        pixels = decode_picture(picture, manifest.preprocessing)
        outputs = evaluate_loaded(runtime, manifest, pixels[np.newaxis])
        probabilities = _probabilities(outputs, runtime, manifest)[0]
        predictions.append(Prediction(str(picture), _best(probabilities, manifest, top_k)))
    return predictions


def preferred_runtime(model: Path) -> str:
    """The first installed runtime for the file. Raises DeviceError where there is none."""
    model_format = format_of(model)
    names = available_runtimes(model_format)
    if not names:
        package = "onnxruntime" if model_format == "onnx" else "ai-edge-litert"
        raise DeviceError(f"no runtime for .{model_format} files is installed", f"pip install {package}")
    return names[0]


def picture_files(paths: Sequence[Path]) -> List[Path]:
    """The files named, and the pictures in the folders named, sorted by name.

    Raises DeviceError for a path that does not exist and for a folder without pictures.
    """
    files: List[Path] = []
    for path in paths:
        if path.is_dir():
            found = sorted(p for p in path.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES and p.is_file())
            if not found:
                raise DeviceError(
                    f"no pictures in {path}", "it needs " + ", ".join(PICTURE_SUFFIXES) + " files"
                )
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise DeviceError(f"no such picture: {path}", "check the path")
    return files


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities along the last axis, float64; the largest logit is subtracted against overflow."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    powers = np.exp(shifted)
    return powers / powers.sum(axis=-1, keepdims=True)


def _probabilities(outputs: np.ndarray, runtime: Runtime, manifest: Manifest) -> np.ndarray:
    spec = runtime.single_output()
    if spec.scale is None and manifest.outputs:
        spec = manifest.outputs[0]
    if np.issubdtype(outputs.dtype, np.integer):
        if spec.scale is None or spec.zero_point is None:
            raise DeviceError(
                f"the output is {outputs.dtype}, but neither the model nor its manifest has its scale",
                "rebuild the artifact",
            )
        outputs = dequantize(outputs, spec.scale, spec.zero_point)
    return softmax(outputs) if manifest.output == "logits" else outputs.astype(np.float64)


def _best(probabilities: np.ndarray, manifest: Manifest, top_k: int) -> Tuple[Guess, ...]:
    # A stable sort: of equal classes the lowest index comes first, as everywhere.
    order = np.argsort(-probabilities, kind="stable")[:top_k]
    names = manifest.class_names
    return tuple(
        Guess(int(i), names[i] if i < len(names) else f"class {i}", float(probabilities[i])) for i in order
    )
