"""Text of anyone's as letters that can be shown: without control characters, as short as there is room."""

from __future__ import annotations

from edgecnn.ondevice.letters import printable

__all__ = ["printable", "shortened"]


def shortened(text: str, most: int) -> str:
    """`text` in at most `most` letters, its middle left out: names of layers differ at their ends."""
    if len(text) <= most:
        return text
    tail = most // 2
    return f"{text[: most - tail - 1]}…{text[-tail:]}"
