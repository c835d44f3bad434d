"""What a process has written to one of its pipes: the end of it, and whether it would never end."""

from __future__ import annotations

MOST_BYTES = 30_000_000
"""Of one pipe: an answer that holds every sample has less."""
MOST_FILE_BYTES = 256 * 2**20
"""Of a file that a verb leaves for the host: 60,000 outputs of 1,000 classes are less."""
MOST_STDERR = 20_000
"""Of last words, which are kept."""


class Written:
    """Its last `kept_bytes` are kept; more than `most_bytes` in all is a flood."""

    def __init__(self, kept_bytes: int, most_bytes: int = MOST_BYTES) -> None:
        self.kept = bytearray()
        self._kept_bytes, self._most_bytes, self._n_bytes = kept_bytes, most_bytes, 0

    @property
    def is_flood(self) -> bool:
        return self._n_bytes > self._most_bytes

    @property
    def text(self) -> str:
        return self.kept.decode("utf-8", "replace")

    def add(self, block: bytes) -> None:
        self._n_bytes += len(block)
        self.kept += block
        del self.kept[: -self._kept_bytes]
