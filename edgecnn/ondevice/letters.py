"""Text of anyone's as letters that can be shown."""

from __future__ import annotations


def printable(text: str) -> str:
    """`text` with what is no letter, such as a control character or half of a surrogate pair, as `\\x1b`."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
