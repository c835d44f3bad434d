"""From picture files to class names with probabilities."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, List, Optional, Sequence, Tuple, Union

import numpy as np
from numpy.typing import NDArray

from edgecnn.ondevice.evaluate import evaluate_loaded
from edgecnn.ondevice.letters import printable
from edgecnn.ondevice.manifest import DeviceError, Manifest, PictureError, TensorSpec
from edgecnn.ondevice.preprocess import PICTURE_SUFFIXES, decode_picture, dequantize
from edgecnn.ondevice.runtimes import load_model, preferred_runtime
from edgecnn.ondevice.runtimes.runtime import Runtime

MOST_NAMED = 100
"""Of broken pictures: as many as one can work through."""


@dataclass(frozen=True)
class Guess:
    """One class for one picture; `probability` is 0..1."""

    class_index: int
    class_name: str
    probability: float


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of one picture, the best first.

    `resize_ms`: decoding the picture and fitting it to the model's size; `invoke_ms`: the network with its
    normalization; `capture_ms` is None for a picture that no camera took. `rejected`: the answer is "none of
    these", for the best class has less than the manifest's `reject_below`.
    """

    picture: str
    guesses: Tuple[Guess, ...]
    resize_ms: float
    invoke_ms: float
    capture_ms: Optional[float] = None
    rejected: bool = False
    reject_below: Optional[float] = None


@dataclass(frozen=True)
class Unreadable:
    """A picture that cannot be read: why, and what to do about it."""

    picture: str
    error: str
    fix: Optional[str] = None


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
    runtime = load_model(runtime_name or preferred_runtime(model), model, num_threads)
    return [classify(runtime, manifest, picture, top_k) for picture in pictures]


def classify(runtime: Runtime, manifest: Manifest, picture: Path, top_k: int) -> Prediction:
    """`predict` for one picture and a model that is loaded already."""
    if top_k < 1:
        raise DeviceError(f"{top_k} classes asked for", "ask for 1 or more")
    clock = time.perf_counter
    start = clock()
    pixels = decode_picture(picture, manifest.preprocessing)
    resized = clock()
    outputs = evaluate_loaded(runtime, manifest, pixels[np.newaxis])
    invoked = clock()
    found = probabilities(outputs, manifest, runtime.single_output())[0]
    return Prediction(
        str(picture),
        _best(found, manifest, top_k),
        (resized - start) * 1e3,
        (invoked - resized) * 1e3,
        rejected=manifest.reject_below is not None and bool(found.max() < manifest.reject_below),
        reject_below=manifest.reject_below,
    )


def classify_or_tell(
    runtime: Runtime, manifest: Manifest, picture: Path, top_k: int
) -> Union[Prediction, Unreadable]:
    """`classify`, but a picture that cannot be read does not stop the others."""
    try:
        return classify(runtime, manifest, picture, top_k)
    except PictureError as fault:
        return Unreadable(str(picture), fault.reason, fault.fix)


def told_unreadable(broken: Sequence[Unreadable], n_pictures: int) -> str:
    """ "2 of 5 pictures cannot be read: a.png (why), b.png (why)"."""
    counted = f"{len(broken):,} of {n_pictures:,} pictures" if n_pictures > 1 else "the picture"
    named = ", ".join(f"{Path(one.picture).name} ({one.error})" for one in broken[:MOST_NAMED])
    more = f" and {len(broken) - MOST_NAMED:,} more" if len(broken) > MOST_NAMED else ""
    return f"{counted} cannot be read: {named}{more}"


def picture_files(paths: Sequence[Path]) -> List[Path]:
    """The files named, and the pictures in the folders named, sorted by name; hidden files are not seen.

    What has the name of a picture and is none is among them: it is told as broken where it is read. Raises
    DeviceError for a path that does not exist and for a folder without pictures.
    """
    files: List[Path] = []
    for path in paths:
        if path.is_dir():
            found = sorted(p for p in path.iterdir() if _is_named_as_a_picture(p))
            if not found:
                raise DeviceError(
                    f"no pictures in {path}", "it needs " + ", ".join(PICTURE_SUFFIXES) + " files"
                )
            files += found
        elif path.exists():
            files.append(path)
        else:
            raise DeviceError(f"no such picture: {path}", "check the path")
    return files


def _is_named_as_a_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".") and not path.is_dir()


def as_text(prediction: Union[Prediction, Unreadable]) -> str:
    """ "digit.png: 7 99.6 %, 1 0.2 % (resize 0.8 ms, invoke 0.2 ms)"."""
    if isinstance(prediction, Unreadable):
        return printable(f"{Path(prediction.picture).name}: cannot be read ({prediction.error})")
    guesses = ", ".join(f"{guess.class_name} {guess.probability:.1%}" for guess in prediction.guesses)
    times = {"capture": prediction.capture_ms, "resize": prediction.resize_ms, "invoke": prediction.invoke_ms}
    told = ", ".join(f"{name} {ms:.1f} ms" for name, ms in times.items() if ms is not None)
    answer = f"none of these ({guesses})" if prediction.rejected else guesses
    return printable(f"{Path(prediction.picture).name}: {answer} ({told})")


def softmax(logits: NDArray[Any]) -> NDArray[Any]:
    """Probabilities along the last axis, float64; the largest logit is subtracted against overflow."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    powers = np.exp(shifted)
    result: NDArray[Any] = powers / powers.sum(axis=-1, keepdims=True)
    return result


def probabilities(outputs: NDArray[Any], manifest: Manifest, spec: Optional[TensorSpec] = None) -> NDArray[Any]:
    """Probabilities, float64 [n, classes], of a model's raw `outputs`; `spec` is that of its output, by default
    the manifest's. Raises DeviceError for integers of unknown scale.
    """
    if (spec is None or spec.scale is None) and manifest.outputs:
        spec = manifest.outputs[0]
    if np.issubdtype(outputs.dtype, np.integer):
        if spec is None or spec.scale is None or spec.zero_point is None:
            raise DeviceError(
                f"the output is {outputs.dtype}, but neither the model nor its manifest has its scale",
                "rebuild the artifact",
            )
        outputs = dequantize(outputs, spec.scale, spec.zero_point)
    return softmax(outputs) if manifest.output == "logits" else outputs.astype(np.float64)


def _best(probabilities: NDArray[Any], manifest: Manifest, top_k: int) -> Tuple[Guess, ...]:
    # A stable sort: of equal classes the lowest index comes first, as everywhere.
    order = np.argsort(-probabilities, kind="stable")[:top_k]
    names = manifest.class_names
    return tuple(
        Guess(int(i), names[i] if i < len(names) else f"class {i}", float(probabilities[i])) for i in order
    )
