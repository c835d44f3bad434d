"""Files that edgecnn writes carry a schema version: older ones are read, newer ones are refused."""

from __future__ import annotations

from typing import Any

from edgecnn.errors import UsageError
from edgecnn.ondevice.manifest import upgrade_command


def refuse_newer(raw: Any, newest: int, *, what: str, where: str) -> None:
    """Raises UsageError where the JSON `raw` says that a newer edgecnn than this one wrote it."""
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if isinstance(version, int) and version > newest:
        raise UsageError(
            f"the {what} has schema version {version}; this edgecnn reads up to {newest}",
            where=where,
            fix=upgrade_command(raw),
        )
