"""When a file answers "none of these": its threshold, set on validation, and what it does to test images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecnn import metrics
from edgecnn.data import Dataset
from edgecnn.errors import TargetError
from edgecnn.ondevice.evaluate import evaluate
from edgecnn.ondevice.manifest import DeviceError, Manifest
from edgecnn.ondevice.predict import probabilities
from edgecnn.ondevice.runtimes import preferred_runtime
from edgecnn.records import Artifact, Measurement, Rejection
from edgecnn.steps.manifests import read_manifest

if TYPE_CHECKING:
    from edgecnn.steps.evaluation import Outputs

# Thresholds are rounded down to so many digits: a board whose exp() differs in the last bit answers the same.
DIGITS = 6


def threshold(path: Path, manifest: Manifest, validation: Dataset, keep: float) -> float:
    """The probability below which the file at `path` is to answer "none of these": the highest at which it
    still answers on the share `keep` of the validation images, right or wrong.

    Raises TargetError where the file does not run on this machine.
    """
    try:
        outputs = evaluate(path, manifest, validation.images_nhwc, preferred_runtime(path))
        best = probabilities(outputs, manifest).max(axis=1)
    except DeviceError as fault:
        raise TargetError(
            f"the exported file does not run: {fault.what}", where=path.name, fix=fault.fix
        ) from fault
    return highest_threshold(best, keep)


def highest_threshold(best: NDArray[Any], keep: float) -> float:
    """The highest threshold that at least the share `keep` of the probabilities `best` [n] reaches."""
    n_kept = math.ceil(keep * len(best) - 1e-9)
    lowest_kept = float(np.sort(best)[len(best) - n_kept])
    result: float = math.floor(lowest_kept * 10**DIGITS) / 10**DIGITS
    return result


def with_rejection(
    folder: Path,
    artifacts: Sequence[Artifact],
    measured: Mapping[str, list[Measurement]],
    outputs: Outputs,
    test: Dataset,
) -> dict[str, list[Measurement]]:
    """`measured` with what the thresholds in the manifests do to the test images, where there are any."""
    manifests = {artifact.key: read_manifest(folder / artifact.file) for artifact in artifacts}
    return {
        key: [
            one.model_copy(
                update={"rejection": figures(outputs[key, one.runtime, one.num_threads], manifests[key], test)}
            )
            for one in of_artifact
        ]
        for key, of_artifact in measured.items()
    }


def figures(outputs: NDArray[Any], manifest: Manifest, test: Dataset) -> Rejection | None:
    """On how many of the `test` images a file that gave `outputs` answers, and on how many of those rightly."""
    if manifest.reject_below is None:
        return None
    accepted = probabilities(outputs, manifest).max(axis=1) >= manifest.reject_below
    right = metrics.top1(outputs) == test.labels
    n_answered = int(accepted.sum())
    return Rejection(
        threshold=manifest.reject_below,
        n_answered=n_answered,
        coverage=n_answered / len(test),
        accuracy=float(right[accepted].mean()) if n_answered else None,
    )
