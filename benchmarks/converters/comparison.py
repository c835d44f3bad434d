"""One converter on one network, and what our figures are beside the best of the others'."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from converters.checks import Check, check_file, expected_outputs
from converters.environments import CONVERTERS, OURS, run_module
from converters.inspection import Contents, inspect
from converters.networks import NETWORKS
from converters.runner import Job

PRECISIONS = ("float32", "int8")
MIN_SPEEDUP = 20.0
CALIBRATED = f"{OURS}, with calibration"
TIMEOUT_S = 1800


@dataclass(frozen=True)
class Result:
    """One file of one contestant, or the `reason` why there is none."""

    network: str
    contestant: str
    precision: str
    seconds: tuple[float, ...] = ()
    contents: Contents | None = None
    checks: dict[str, Check] = field(default_factory=dict)
    reason: str = ""

    @property
    def is_ours(self) -> bool:
        return self.contestant.startswith(OURS)

    @property
    def median_s(self) -> float:
        return statistics.median(self.seconds)

    @property
    def n_bytes(self) -> int:
        return self.contents.n_bytes if self.contents else 0

    @property
    def works(self) -> bool:
        """A file that LiteRT refuses, or that computes something else, beats nobody."""
        return self.contents is not None and self.checks["litert"].state == "yes"


@dataclass(frozen=True)
class Ratio:
    """`value` of ours over the best other's (`what` tells which way); None as `limit`: told, not asked for."""

    network: str
    what: str
    value: float
    other: str
    limit: float | None
    is_met: bool


def run_converter(
    name: str, python: Path, job: Job, expected: np.ndarray, images_nhwc: np.ndarray
) -> tuple[list[Result], dict[str, str]]:
    """(its files, checked; the versions of its packages)."""
    job.save()
    module, log = CONVERTERS[name].module, job.output / "log.txt"
    reason = run_module(python, module, str(job.output), log=log, timeout_s=TIMEOUT_S)
    if reason:
        return [failure(job.network, name, reason)], {}
    report = json.loads((job.output / "result.json").read_text())
    results = [_result(entry, job, expected, images_nhwc) for entry in report["results"]]
    return results, report["versions"]


def failure(network: str, name: str, reason: str) -> Result:
    return Result(network, name, "all", reason=reason)


def _result(entry: dict[str, object], job: Job, expected: np.ndarray, images_nhwc: np.ndarray) -> Result:
    about = (job.network, str(entry["contestant"]), str(entry["precision"]))
    if "reason" in entry:
        return Result(*about, reason=str(entry["reason"]))
    file = job.output / str(entry["file"])
    contents = inspect(file.read_bytes())
    checks = check_file(file, contents, images_nhwc, expected)
    return Result(*about, tuple(entry["seconds"]), contents, checks)  # type: ignore[arg-type]


def expected_of(inputs: Path) -> tuple[np.ndarray, np.ndarray]:
    """(pictures [n, h, w, c], onnxruntime's outputs for them)."""
    images_nhwc = np.load(inputs / "evaluation_nhwc.npy")
    return images_nhwc, expected_outputs(inputs / "float.onnx", images_nhwc)


def ratios(results: Iterable[Result]) -> list[Ratio]:
    """Every ratio of every network that both sides have."""
    working = [result for result in results if result.works]
    found = []
    for network in NETWORKS:
        for precision in PRECISIONS:
            here = [r for r in working if (r.network, r.precision) == (network, precision)]
            ours, others = [r for r in here if r.is_ours], [r for r in here if not r.is_ours]
            if others:
                found += [*_sizes(network, precision, ours, others), *_speeds(network, precision, ours, others)]
    return found


def _sizes(network: str, precision: str, ours: list[Result], others: list[Result]) -> list[Ratio]:
    smallest = min(others, key=lambda result: result.n_bytes)
    share = NETWORKS[network].max_int8_share if precision == "int8" else 1.0
    # A signature is what the others write too: with it ours must still be the smallest.
    limits = {OURS: share, f"{OURS}, signature": 1.0}
    found = []
    for result in ours:
        if result.contestant == CALIBRATED:
            continue  # the same bytes once more
        value, limit = result.n_bytes / smallest.n_bytes, limits.get(result.contestant)
        # "The smallest" is less than 1; a share may be reached.
        is_met = limit is None or (value < 1 and value <= limit)
        what = f"{precision} bytes, {result.contestant}"
        found.append(Ratio(network, what, value, smallest.contestant, limit, is_met))
    return found


def _speeds(network: str, precision: str, ours: list[Result], others: list[Result]) -> list[Ratio]:
    fastest = min(others, key=lambda result: result.median_s)
    limits = {OURS: MIN_SPEEDUP, CALIBRATED: None}
    found = []
    for result in ours:
        if result.contestant in limits:
            value, limit = fastest.median_s / result.median_s, limits[result.contestant]
            what = f"{precision} times as fast, {result.contestant}"
            found.append(
                Ratio(network, what, value, fastest.contestant, limit, limit is None or value >= limit)
            )
    return found
