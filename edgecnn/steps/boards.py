"""How far a board's outputs are from this machine's: kernels of x86 and Arm round differently."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn import metrics
from edgecnn.data import Dataset
from edgecnn.ondevice.manifest import TensorSpec
from edgecnn.progress import Progress
from edgecnn.records import Artifact, BoardParity
from edgecnn.steps.evaluation import Outputs
from edgecnn.steps.manifests import read_manifest
from edgecnn.targets.host import HostTarget


def host_outputs(folder: Path, artifacts: Sequence[Artifact], test: Dataset, progress: Progress) -> Outputs:
    """Every artifact over the test set on this machine, with one thread on every runtime that is here."""
    host = HostTarget()
    runs = [(one, runtime) for one in artifacts for runtime in host.runtimes_for(one.format)]
    progress.start("evaluate on this machine", total=len(runs))
    outputs: Outputs = {}
    for artifact, runtime in runs:
        path = folder / artifact.file
        outputs[artifact.key, runtime, 1] = host.evaluate(path, read_manifest(path), test.images_nhwc, runtime)
        progress.advance(1, f"{artifact.key} on {runtime}")
    progress.finish(f"{len(runs)} runs over {len(test):,} test images")
    return outputs


def board_parity(
    folder: Path, artifacts: Sequence[Artifact], outputs: Outputs, on_host: Outputs, target_name: str
) -> list[BoardParity]:
    """Each artifact on each of the board's runtimes, with one thread, against the same runtime here, or where
    that is not installed against the preferred one.
    """
    records = []
    for artifact in artifacts:
        spec = read_manifest(folder / artifact.file).outputs[0]
        here = {runtime: raw for (key, runtime, _), raw in on_host.items() if key == artifact.key}
        for (key, runtime, threads), raw in outputs.items():
            if key != artifact.key or threads != 1 or not here:
                continue
            reference = runtime if runtime in here else next(iter(here))
            records.append(
                BoardParity(
                    artifact=key,
                    target=target_name,
                    runtime=runtime,
                    reference=f"{reference} on this machine",
                    n_images=len(raw),
                    **_compared(here[reference], raw, spec),
                )
            )
    return records


def _compared(expected: NDArray[Any], found: NDArray[Any], spec: TensorSpec) -> dict[str, Any]:
    """In steps of the output's scale where it has one, else as a share of the largest logit."""
    if spec.scale is not None and spec.zero_point is not None:
        steps = metrics.parity(
            *(metrics.integer_logits(raw, spec.scale, spec.zero_point) for raw in (expected, found))
        )
        return {
            "top1_equal": steps.top1_equal,
            "max_lsb": steps.max_lsb,
            "lsb_histogram": steps.lsb_histogram,
        }
    return {
        "top1_equal": metrics.agreement(metrics.top1(expected), metrics.top1(found)),
        "largest_difference": float(np.abs(found - expected).max() / np.abs(expected).max()),
    }
