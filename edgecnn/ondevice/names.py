"""Names that become those of files and folders: letters, digits, `.`, `_` and `-`, no path in them."""

from __future__ import annotations

import re

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
"""Of a recipe, and so of what is deployed."""
FILE_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$"
"""Of a file in a build folder: the recipe's name, and the artifact's key behind it."""


def is_name(text: str) -> bool:
    return re.fullmatch(NAME_PATTERN.strip("^$"), text) is not None
