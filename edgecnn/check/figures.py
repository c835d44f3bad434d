"""The figures of a model that are compared, as the baseline stores them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ConfigDict, Field

from edgecnn import gate
from edgecnn.check.counts import CountRecord
from edgecnn.check.models import Model
from edgecnn.records import Measurement, ParityRecord, Record


class Stored(Record):
    """A part of the baseline file: every key known, every number finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class LatencyFigure(Stored):
    """The median of one inference with one thread; `machine` is None where the CPU does not tell its name.

    `refused` tells why it is not judged. Such a figure is no part of a baseline, nor is an emulated one.
    """

    median_ms: float = Field(ge=0)
    machine: str | None = None
    emulated: bool = False
    refused: str = ""


class InstructionFigure(Stored):
    """The Arm instructions of one inference, and the version of the runtime that they were counted with."""

    instructions: int = Field(ge=0)
    runtime_version: str


class LedgerLayer(Stored):
    """One layer: the shape of its weights as 120x400, and the bytes of weights and biases."""

    operator: str
    name: str | None = None
    subgraph: int = Field(0, ge=0)
    shape: str | None = Field(None, pattern=r"^(scalar|(-?\d{1,20}|\?)(x(-?\d{1,20}|\?))*)$")
    dtype: str | None = None
    bytes: int = Field(0, ge=0)


class Ledger(Stored):
    """What is in a model file, as much as tells why its size changed. Layers are in the order of the file.

    `other_bytes` is by kind what no layer's weights are; `external_bytes` lie beside the file.
    """

    format: str
    layers: tuple[LedgerLayer, ...] = Field((), strict=False)
    other_bytes: dict[str, int] = Field(default_factory=dict)
    external_bytes: int = Field(0, ge=0)


class Figures(Stored):
    """Of one model: the worst record of each kind, as the file must hold on every runtime.

    `accuracy_drop_half_width` is half of the report's 95 % interval of the drop, `latency` is by target and
    runtime, `instructions` by core and runtime.
    `ledger` is not compared: it tells why the size changed, where the baseline has one.
    """

    size_bytes: int = Field(ge=0)
    accuracy: float | None = Field(None, ge=0, le=1)
    accuracy_drop: float | None = Field(None, ge=-1, le=1)
    accuracy_drop_half_width: float | None = Field(None, ge=0)
    n_images: int | None = Field(None, ge=1)
    reference_sha256: str | None = None
    top1_equal: float | None = Field(None, ge=0, le=1)
    max_lsb: int | None = Field(None, ge=0)
    instructions: dict[str, InstructionFigure] = Field(default_factory=dict)
    latency: dict[str, LatencyFigure] = Field(default_factory=dict)
    ledger: Ledger | None = None


def of_model(model: Model, counts: Iterable[CountRecord] = ()) -> Figures | None:
    """What is known of `model`, whose file the `counts` are of; None where that is gone."""
    if model.artifact is None:
        return None
    measurements = model.artifact.measurements
    return Figures(
        size_bytes=model.artifact.size_bytes,
        **_of_accuracy(measurements, model.reference_sha256),
        **_of_parity(model.parity),
        instructions={
            f"{one.cpu} {one.runtime}": InstructionFigure(
                instructions=one.instructions, runtime_version=one.runtime_version
            )
            for one in counts
        },
        latency=_latency(measurements, model.environment),
    )


def _of_accuracy(measurements: tuple[Measurement, ...], reference_sha256: str | None) -> dict[str, Any]:
    if not measurements:
        return {}
    worst = min(measurements, key=lambda m: (m.accuracy, -m.accuracy_drop))
    low, high = worst.accuracy_drop_interval
    return {
        "accuracy": worst.accuracy,
        "accuracy_drop": worst.accuracy_drop,
        "accuracy_drop_half_width": (high - low) / 2,
        "n_images": worst.n_images,
        "reference_sha256": reference_sha256,
    }


def _of_parity(records: tuple[ParityRecord, ...]) -> dict[str, Any]:
    if not records:
        return {}
    return {
        "top1_equal": min(record.top1_equal for record in records),
        "max_lsb": max(record.max_lsb for record in records),
    }


def _latency(measurements: tuple[Measurement, ...], environment: Mapping[str, Any]) -> dict[str, LatencyFigure]:
    return {
        f"{m.target} {m.runtime}": LatencyFigure(
            median_ms=m.latency_ms.median,
            machine=_machine(m, m.environment or environment),
            emulated=m.emulated,
            refused=gate.why_refused(m),
        )
        for m in measurements
        if m.num_threads == 1 and m.latency_ms is not None
    }


def _machine(measurement: Measurement, environment: Mapping[str, Any]) -> str | None:
    """What must be equal for times to be compared: CPU, architecture, board, runtime and threads."""
    cpu, arch = environment.get("cpu_model"), environment.get("arch")
    if not cpu or not arch:
        return None
    board = environment.get("board_model")
    parts = [cpu, arch, *([board] if board else []), f"{measurement.runtime} {measurement.runtime_version}"]
    return ", ".join([*map(str, parts), "1 thread"])
