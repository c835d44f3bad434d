"""Instruction counts for the check: what `edgecnn count --json` printed, by the file that was counted."""

from __future__ import annotations

from pathlib import Path

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from edgecnn import files
from edgecnn.errors import UsageError


class CountRecord(BaseModel):
    """One file on one core, as `edgecnn count` prints it; what else it prints is passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    file: str
    cpu: str
    runtime: str
    runtime_version: str
    instructions: int = Field(ge=0)


_RECORDS = pydantic.TypeAdapter(list[CountRecord])


def read(path: Path) -> dict[str, list[CountRecord]]:
    """The records in the file at `path`, by the sha256 of the model. Raises UsageError for anything else."""
    try:
        records = _RECORDS.validate_python(files.read_json(path))
    except OSError as fault:
        raise UsageError(
            f"the counts cannot be read: {fault.strerror}", where=str(path), fix=f"make them: {_command(path)}"
        ) from fault
    except pydantic.ValidationError as fault:
        first = fault.errors()[0]
        raise _no_counts(path, f"{'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}") from fault
    except ValueError as fault:
        raise _no_counts(path, str(fault)) from fault
    found: dict[str, list[CountRecord]] = {}
    for record in records:
        found.setdefault(record.sha256, []).append(record)
    return found


def _no_counts(path: Path, reason: str) -> UsageError:
    return UsageError(
        f"not what edgecnn count prints: {reason}", where=str(path), fix=f"make it anew: {_command(path)}"
    )


def _command(path: Path) -> str:
    return f"edgecnn count MODEL... --json > {path}"
