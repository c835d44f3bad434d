"""Text of anyone's as letters that can be shown: without control characters, as short as there is room."""

from __future__ import annotations


def printable(text: str) -> str:
    """`text` with what is no letter, such as a control character or half of a surrogate pair, as `\\x1b`."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def shortened(text: str, most: int) -> str:
    """`text` in at most `most` letters, its middle left out: names of layers differ at their ends."""
    if len(text) <= most:
        return text
    tail = most // 2
    return f"{text[: most - tail - 1]}…{text[-tail:]}"
