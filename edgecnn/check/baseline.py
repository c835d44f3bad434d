"""The baseline: the figures that were accepted, in a small file that is committed and read as a diff."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pydantic
from pydantic import Field

from edgecnn import files
from edgecnn.check import allowances
from edgecnn.check.allowances import Allowance, Allowances
from edgecnn.check.figures import Figures, InstructionFigure, LatencyFigure, Stored
from edgecnn.errors import UsageError
from edgecnn.schema_versions import refuse_newer

DEFAULT_PATH = Path("edgecnn-baseline.json")
SCHEMA_VERSION: Literal[1] = 1


class AllowSection(Stored):
    """What may be lost, as texts: for every model, and by a model's name or a glob of names."""

    default: dict[str, str] = Field(default_factory=dict)
    models: dict[str, dict[str, str]] = Field(default_factory=dict)


class Baseline(Stored):
    """`models` is by name: the path of the file, seen from the folder of the baseline."""

    schema_version: Literal[1] = SCHEMA_VERSION
    allow: AllowSection = AllowSection()
    models: dict[str, Figures] = Field(default_factory=dict)


def read(path: Path) -> Baseline:
    """Raises UsageError for a file that is missing, not a baseline, or of a newer edgecnn."""
    try:
        raw = files.read_json(path)
    except OSError as fault:
        raise UsageError(
            f"no baseline can be read here: {fault.strerror}",
            where=str(path),
            fix=f"make one: edgecnn baseline update PATH... --baseline {path}",
        ) from fault
    except ValueError as fault:
        raise _corrupt(path, str(fault)) from fault
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    refuse_newer(raw, SCHEMA_VERSION, what="baseline", where=str(path))
    if version is None:
        raise _corrupt(path, "schema_version is missing")
    try:
        baseline = Baseline.model_validate(raw)
    except pydantic.ValidationError as fault:
        first = fault.errors()[0]
        raise _corrupt(path, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from fault
    allowances_of(baseline, path, {})
    return baseline


def _corrupt(path: Path, reason: str) -> UsageError:
    return UsageError(
        f"not a baseline of edgecnn: {reason}",
        where=str(path),
        fix="restore it from version control, or delete it and make it anew: edgecnn baseline update PATH...",
    )


def allowances_of(baseline: Baseline, path: Path, options: dict[str, Allowance]) -> Allowances:
    """What `baseline` allows to be lost, with `options` laid over it. Raises UsageError for a bad amount."""
    return Allowances(
        options=options,
        by_model={
            glob: allowances.parse_section(texts, f"{path}: allow.models.{glob}")
            for glob, texts in baseline.allow.models.items()
        },
        default=allowances.parse_section(baseline.allow.default, f"{path}: allow.default"),
    )


def render(baseline: Baseline) -> str:
    """The text of the file: one key a line, sorted, one layer a line, without what is not known."""
    return _indented(_known(baseline), "") + "\n"


def _indented(value: Any, indent: str) -> str:
    """JSON as a diff shows it best: each item of a list, such as a layer, is whole on its line."""
    inner = indent + "  "
    if isinstance(value, dict) and value:
        lines = [f"{inner}{_json(key)}: {_indented(value[key], inner)}" for key in sorted(value)]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, list | tuple) and value:
        return "[\n" + ",\n".join(inner + _json(item) for item in value) + f"\n{indent}]"
    return _json(value)


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)


def _known(baseline: Baseline) -> dict[str, Any]:
    models = {
        name: {
            **figures.model_dump(exclude_none=True, exclude={"instructions", "latency", "ledger"}),
            **({"instructions": _counts(figures.instructions)} if figures.instructions else {}),
            **({"latency": _times(figures.latency)} if _times(figures.latency) else {}),
            **({"ledger": figures.ledger.model_dump(exclude_defaults=True)} if figures.ledger else {}),
        }
        for name, figures in baseline.models.items()
    }
    allow = baseline.allow.model_dump(exclude_defaults=True)
    return {
        "schema_version": SCHEMA_VERSION,
        "models": models,
        **({"allow": allow} if allow else {}),
    }


def _counts(instructions: dict[str, InstructionFigure]) -> dict[str, Any]:
    return {run: one.model_dump() for run, one in instructions.items()}


def _times(latency: dict[str, LatencyFigure]) -> dict[str, Any]:
    """What is refused is worth nothing to compare with, and is left out."""
    return {
        runtime: one.model_dump(exclude_none=True, exclude={"emulated", "refused"})
        for runtime, one in latency.items()
        if not one.emulated and not one.refused
    }


def write(path: Path, baseline: Baseline) -> None:
    files.write_text(path, render(baseline))
