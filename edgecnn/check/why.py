"""Why a model changed its size: the ledger that the baseline keeps of it against that of the file as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from edgecnn.check.figures import Figures, Ledger, LedgerLayer
from edgecnn.errors import UsageError
from edgecnn.inspection import Inspection, Layer, Totals, Weights, inspect
from edgecnn.inspection.difference import Difference, difference
from edgecnn.inspection.ledger import BIASES, WEIGHTS
from edgecnn.inspection.words import shape_text
from edgecnn.report.letters import printable


def ledger_of(path: Path) -> Ledger | None:
    """What the baseline keeps of the file; None where it cannot be read, as its size is judged all the same."""
    try:
        return _ledger(inspect(path))
    except UsageError:
        return None


def explain(
    now: Mapping[str, Figures | None], before: Mapping[str, Figures], root: Path
) -> tuple[dict[str, Difference], tuple[str, ...]]:
    """What differs in each model whose size changed, by name, and a note for each that cannot be read.

    Only such files are read, and only where the baseline has a ledger to hold them against.
    """
    told, notes = {}, []
    for name, figures in now.items():
        was = before.get(name)
        if figures is None or was is None or was.ledger is None:
            continue
        # A share of nothing cannot be told.
        if figures.size_bytes == was.size_bytes or not was.size_bytes:
            continue
        try:
            told[name] = _difference(name, was.ledger, was.size_bytes, inspect(root / name))
        except UsageError as fault:
            notes.append(f"{name}: why its size changed cannot be told: {printable(fault.what)}")
    return told, tuple(notes)


def _difference(name: str, ledger: Ledger, size_bytes: int, found: Inspection) -> Difference:
    now = _as_inspection(_ledger(found), found.size_bytes, "now")
    # The places of the file itself: `edgecnn inspect` numbers its layers so.
    layers = tuple(replace(one, index=real.index) for one, real in zip(now.layers, found.layers, strict=True))
    before = _as_inspection(ledger, size_bytes, "before")
    return difference(before, replace(now, layers=layers), name=name)


def _ledger(found: Inspection) -> Ledger:
    return Ledger(
        format=found.format,
        layers=tuple(_ledger_layer(layer) for layer in found.layers),
        other_bytes={kind: n for kind, n in found.bytes_by_kind.items() if kind not in (WEIGHTS, BIASES)},
        external_bytes=found.external_bytes,
    )


def _ledger_layer(layer: Layer) -> LedgerLayer:
    return LedgerLayer(
        operator=layer.operator,
        name=layer.name,
        subgraph=layer.subgraph,
        shape=shape_text(layer.weights.shape) if layer.weights else None,
        dtype=layer.weights.dtype if layer.weights else None,
        bytes=layer.weight_bytes,
    )


def _as_inspection(ledger: Ledger, size_bytes: int, sha256: str) -> Inspection:
    """As much of an inspection as a difference needs; what the ledger does not keep is equal on both sides."""
    layers = tuple(_as_layer(i, layer) for i, layer in enumerate(ledger.layers))
    weight_bytes = sum(layer.weight_bytes for layer in layers)
    return Inspection(
        path="",
        format=ledger.format,
        size_bytes=size_bytes,
        sha256=sha256,
        producer=None,
        inputs=(),
        outputs=(),
        layers=layers,
        totals=Totals(len(layers), 0, 0, 0, weight_bytes),
        bytes_by_kind=dict(ledger.other_bytes),
        external_bytes=ledger.external_bytes,
    )


def _as_layer(index: int, layer: LedgerLayer) -> Layer:
    has_weights = layer.shape is not None and layer.dtype is not None
    return Layer(
        index=index,
        subgraph=layer.subgraph,
        operator=layer.operator,
        domain=None,
        version=None,
        name=layer.name,
        inputs=(),
        outputs=(),
        n_params=0,
        n_macs=None,
        weight_bytes=layer.bytes,
        weights=Weights(_shape(layer.shape or ""), layer.dtype or "") if has_weights else None,
        activation=None,
    )


def _shape(text: str) -> tuple[int | None, ...]:
    """What `shape_text` wrote."""
    sizes = [] if text == "scalar" else text.split("x")
    return tuple(None if size == "?" else int(size) for size in sizes)
