"""What differs between two model files: which layers, which bytes, and why.

The bytes add up: those of the layers and those of the other kinds are the difference of the files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgecnn.inspection.alignment import align
from edgecnn.inspection.difference_reason import sentence
from edgecnn.inspection.ledger import BIASES, SCHEMA_VERSION, WEIGHTS, Inspection, Layer, TensorInfo, Totals

SAME, CHANGED, INSERTED, REMOVED = "same", "changed", "inserted", "removed"
# Bytes of weights that belong to no layer: two that share a part of a buffer, for instance.
UNASSIGNED = "unassigned_weights"


@dataclass(frozen=True)
class Change:
    """One property that differs. `old` and `new` are None where a file does not have it."""

    what: str
    old: Any
    new: Any


@dataclass(frozen=True)
class LayerDelta:
    """A layer of both files, or of one of them: `status` is same, changed, inserted or removed.

    The bytes are those of weights and biases. For a layer of one file alone, `changes` are its properties.
    """

    status: str
    operator: str
    name: str | None
    subgraph: int
    old_index: int | None
    new_index: int | None
    old_bytes: int
    new_bytes: int
    changes: tuple[Change, ...]

    @property
    def delta_bytes(self) -> int:
        return self.new_bytes - self.old_bytes


@dataclass(frozen=True)
class KindDelta:
    """The bytes of one kind that are no layer's weights: tables, names, scales, padding."""

    kind: str
    old_bytes: int
    new_bytes: int

    @property
    def delta_bytes(self) -> int:
        return self.new_bytes - self.old_bytes


@dataclass(frozen=True)
class Side:
    """One of the two files. `size_bytes` counts the external data beside it as well."""

    path: str
    format: str
    size_bytes: int
    sha256: str
    external_bytes: int
    totals: Totals


@dataclass(frozen=True)
class Difference:
    """Two files. `layers` are all layers of both in order, empty where the formats differ.

    `changes` are properties of the models as a whole: inputs, outputs, producer.
    """

    name: str
    old: Side
    new: Side
    changes: tuple[Change, ...]
    layers: tuple[LayerDelta, ...]
    overhead: tuple[KindDelta, ...]

    @property
    def delta_bytes(self) -> int:
        return self.new.size_bytes - self.old.size_bytes

    @property
    def is_same_format(self) -> bool:
        return self.old.format == self.new.format

    @property
    def is_identical(self) -> bool:
        """Whether the files are equal byte by byte. Of external data only the size is known."""
        return self.old.sha256 == self.new.sha256 and not self.old.external_bytes

    @property
    def reason(self) -> str:
        """What differs and why, in one sentence of plain words."""
        return sentence(self)

    def to_json(self) -> dict[str, Any]:
        """The difference as JSON values: sizes in bytes."""
        layers = [{**asdict(layer), "delta_bytes": layer.delta_bytes} for layer in self.layers]
        overhead = [{**asdict(kind), "delta_bytes": kind.delta_bytes} for kind in self.overhead]
        return {
            "schema_version": SCHEMA_VERSION,
            **asdict(self),
            "layers": layers,
            "overhead": overhead,
            "delta_bytes": self.delta_bytes,
            "is_identical": self.is_identical,
            "reason": self.reason,
        }


def difference(old: Inspection, new: Inspection, *, name: str | None = None) -> Difference:
    """What became of `old` in `new`; `name` is what the sentence calls them, by default the files' names."""
    is_same_format = old.format == new.format
    pairs = align(old.layers, new.layers) if is_same_format else []
    return Difference(
        name=name or _name(old, new),
        old=_side(old),
        new=_side(new),
        changes=_changed(_facts_of_model(old), _facts_of_model(new)) if is_same_format else (),
        layers=tuple(_layer_delta(before, after) for before, after in pairs),
        overhead=_overhead(old, new),
    )


def _name(old: Inspection, new: Inspection) -> str:
    before, after = Path(old.path).name, Path(new.path).name
    return after if before == after else f"{after} (against {before})"


def _side(inspection: Inspection) -> Side:
    return Side(
        path=inspection.path,
        format=inspection.format,
        size_bytes=inspection.size_bytes + inspection.external_bytes,
        sha256=inspection.sha256,
        external_bytes=inspection.external_bytes,
        totals=inspection.totals,
    )


def _overhead(old: Inspection, new: Inspection) -> tuple[KindDelta, ...]:
    """Every kind of either file. Of formats that differ the weights are a kind, as there are no layers."""
    before, after = (_bytes_beside_layers(side, old.format == new.format) for side in (old, new))
    return tuple(KindDelta(kind, before.get(kind, 0), after.get(kind, 0)) for kind in {**before, **after})


def _bytes_beside_layers(side: Inspection, has_layers: bool) -> dict[str, int]:
    whole = side.size_bytes + side.external_bytes
    others = {kind: n for kind, n in side.bytes_by_kind.items() if kind not in (WEIGHTS, BIASES)}
    rest = whole - sum(others.values()) - side.totals.weight_bytes
    weights = {} if has_layers else {WEIGHTS: side.totals.weight_bytes}
    return {**weights, **others, **({UNASSIGNED: rest} if rest else {})}


def _layer_delta(old: Layer | None, new: Layer | None) -> LayerDelta:
    known = new or old
    assert known is not None
    changes = _changed(_facts(old) if old else {}, _facts(new) if new else {})
    before, after = old.weight_bytes if old else 0, new.weight_bytes if new else 0
    return LayerDelta(
        status=_status(old, new, bool(changes) or before != after),
        operator=known.operator,
        name=known.name,
        subgraph=known.subgraph,
        old_index=old.index if old else None,
        new_index=new.index if new else None,
        old_bytes=before,
        new_bytes=after,
        changes=changes,
    )


def _status(old: Layer | None, new: Layer | None, differs: bool) -> str:
    if old is None or new is None:
        return INSERTED if old is None else REMOVED
    return CHANGED if differs else SAME


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[Change, ...]:
    pairs = ((what, old.get(what), new.get(what)) for what in {**old, **new})
    return tuple(Change(what, before, after) for what, before, after in pairs if before != after)


def _facts(layer: Layer) -> dict[str, Any]:
    weights = layer.weights
    facts: dict[str, Any] = {
        "version": layer.version,
        "activation": layer.activation,
        "weights": weights.shape if weights else None,
        "weights_dtype": weights.dtype if weights else None,
        "granularity": weights.granularity if weights else None,
        "bias_dtype": weights.bias_dtype if weights else None,
        "params": layer.n_params,
        "macs": layer.n_macs,
    }
    for side, tensors in (("input", layer.inputs), ("output", layer.outputs)):
        for number, tensor in enumerate(tensors, start=1):
            facts |= _facts_of_tensor(side if number == 1 else f"{side}_{number}", tensor)
    return {**facts, "name": layer.name}


def _facts_of_model(inspection: Inspection) -> dict[str, Any]:
    facts: dict[str, Any] = {"producer": inspection.producer}
    for side, tensors in (("input", inspection.inputs), ("output", inspection.outputs)):
        for number, tensor in enumerate(tensors, start=1):
            title = side if number == 1 else f"{side}_{number}"
            facts |= {**_facts_of_tensor(title, tensor), f"{title}_name": tensor.name}
    return facts


def _facts_of_tensor(title: str, tensor: TensorInfo) -> dict[str, Any]:
    return {
        f"{title}_shape": tensor.shape,
        f"{title}_dtype": tensor.dtype,
        f"{title}_scale": tensor.scale,
        f"{title}_zero_point": tensor.zero_point,
    }
