"""A file of limits for models that no recipe knows: `budget:` with limits by model name, key or glob."""

from __future__ import annotations

from pathlib import Path

from edgecnn import files, recipe_file
from edgecnn.errors import UsageError
from edgecnn.recipe import Budget
from edgecnn.yaml_source import MOST_BYTES


def read(path: Path) -> dict[str, Budget]:
    """The limits in the file at `path`. Raises UsageError, or RecipeError with the line and key of a fault."""
    try:
        text = files.read_text(path, MOST_BYTES)
    except (OSError, UnicodeDecodeError) as fault:
        reason = fault.strerror if isinstance(fault, OSError) else fault
        raise UsageError(f"the budget cannot be read: {reason}", where=str(path)) from fault
    return recipe_file.parse_budget(text, str(path))
