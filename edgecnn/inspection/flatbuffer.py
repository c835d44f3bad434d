"""A FlatBuffer read in pure Python: every access checked, every range of bytes that is read marked once.

Nothing is trusted: an offset may point anywhere, tables may overlap, and one vector may be shared by many.
So each table and vector is read once for its position, and a file whose parts overlap so much that reading
them would cost more than its own size is refused.
"""

from __future__ import annotations

import struct
from collections import Counter
from typing import Any

from edgecnn.inspection.ledger import MOST_PARTS, corrupt

PADDING, UNREFERENCED, APPENDED, VTABLES = "padding", "unreferenced", "appended_files", "vtables"

# No FlatBuffer of a model aligns anything to more bytes.
_LARGEST_ALIGNMENT = 64
# An honest file names each part a few times; this bounds time and memory on a hostile one.
_EXPANSION = 4
_FREE_EXPANSION = 1 << 16

_ZIP_SIGNATURE = b"PK\x03\x04"


class FlatReader:
    """Bounds-checked access to the bytes, and the ranges that were read with their kind."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.ranges: dict[tuple[int, int], str] = {}
        self._tables: dict[int, Table] = {}
        self._vectors: dict[tuple[int, str], Any] = {}
        self._unread = 2 * len(data) + 64
        self._expansion = _EXPANSION * len(data) + _FREE_EXPANSION

    def scalar(self, position: int, kind: str) -> Any:
        """The number of struct format `kind` at `position`."""
        if position < 0 or position + struct.calcsize("<" + kind) > len(self.data):
            raise corrupt(f"it points to byte {position:,}, past its end")
        return struct.unpack_from("<" + kind, self.data, position)[0]

    def mark(self, start: int, end: int, kind: str) -> None:
        """Notes what the bytes are for. The first kind of a range stays."""
        if not 0 <= start <= end <= len(self.data):
            raise corrupt(f"bytes {start:,} to {end:,} lie outside of it")
        if end > start and (start, end) not in self.ranges:
            self._unread -= end - start
            if self._unread < 0:
                raise corrupt("its tables overlap one another")
            self.ranges[start, end] = kind

    def expand(self, n: int) -> None:
        """Asks for `n` more items of the result; refused where few bytes stand for too many."""
        self._expansion -= n
        if self._expansion < 0:
            raise corrupt("its tables name the same parts over and over")

    def table(self, position: int, kind: str) -> Table:
        if position not in self._tables:
            if len(self._tables) >= MOST_PARTS:
                raise corrupt("it has more tables than any model")
            self._tables[position] = Table(self, position, kind)
        return self._tables[position]

    def vector(self, position: int, item: str, kind: str) -> tuple[int, int]:
        """(first byte, number of items) of the vector at `position`, whose items have struct format `item`."""
        count = self.scalar(position, "I")
        start = position + 4
        self.mark(position, start + count * struct.calcsize("<" + item), kind)
        return start, count

    def numbers(self, position: int, item: str, kind: str) -> tuple[Any, ...]:
        key = (position, item)
        if key not in self._vectors:
            start, count = self.vector(position, item, kind)
            self._vectors[key] = struct.unpack_from(f"<{count}{item}", self.data, start)
        result: tuple[Any, ...] = self._vectors[key]
        return result

    def text(self, position: int, kind: str) -> str:
        key = (position, "text")
        if key not in self._vectors:
            count = self.scalar(position, "I")
            start = position + 4
            self.mark(position, start + count + 1, kind)  # a zero byte ends it
            self._vectors[key] = self.data[start : start + count].decode("utf-8", "replace")
        result: str = self._vectors[key]
        return result

    def tables(self, position: int, kind: str) -> tuple[Table, ...]:
        key = (position, "tables")
        if key not in self._vectors:
            offsets = self.numbers(position, "I", kind)
            self._vectors[key] = tuple(
                self.table(position + 4 + 4 * i + offset, kind) for i, offset in enumerate(offsets)
            )
        result: tuple[Table, ...] = self._vectors[key]
        return result

    def bytes_by_kind(self) -> Counter[str]:
        """How many bytes each kind has. Bytes of two ranges count for the one that starts first."""
        counts: Counter[str] = Counter()
        done = 0
        for (start, end), kind in sorted(self.ranges.items()):
            if start > done:
                self._count_gap(counts, done, start)
            counts[kind] += max(0, end - max(start, done))
            done = max(done, end)
        self._count_gap(counts, done, len(self.data))
        return counts

    def _count_gap(self, counts: Counter[str], start: int, end: int) -> None:
        gap = self.data[start:end]
        if _ZIP_SIGNATURE in gap[:_LARGEST_ALIGNMENT]:
            before = gap.index(_ZIP_SIGNATURE)
            counts[APPENDED] += len(gap) - before
            gap = gap[:before]
        counts[UNREFERENCED if gap.strip(b"\0") or len(gap) >= _LARGEST_ALIGNMENT else PADDING] += len(gap)


class Table:
    """One table: its fields by slot, as the schema numbers them."""

    __slots__ = ("_size", "_vtable", "_vtable_size", "kind", "position", "reader")

    def __init__(self, reader: FlatReader, position: int, kind: str) -> None:
        self.reader = reader
        self.position = position
        self.kind = kind
        self._vtable = position - reader.scalar(position, "i")
        self._vtable_size = reader.scalar(self._vtable, "H")
        self._size = reader.scalar(self._vtable + 2, "H")
        if self._vtable_size < 4 or self._vtable_size % 2 or self._size < 4:
            raise corrupt(f"there is no table at byte {position:,}")
        reader.mark(self._vtable, self._vtable + self._vtable_size, VTABLES)
        reader.mark(position, position + self._size, kind)

    def _field(self, slot: int, n_bytes: int) -> int:
        """The position of a field, 0 where the table leaves it at its default."""
        entry = 4 + 2 * slot
        if entry + 2 > self._vtable_size:
            return 0
        offset = self.reader.scalar(self._vtable + entry, "H")
        if not offset:
            return 0
        if offset < 4 or offset + n_bytes > self._size:
            raise corrupt(f"field {slot} lies outside of its table at byte {self.position:,}")
        return int(self.position + offset)

    def scalar(self, slot: int, kind: str, default: int = 0) -> int:
        position = self._field(slot, struct.calcsize("<" + kind))
        return self.reader.scalar(position, kind) if position else default

    def target(self, slot: int) -> int:
        """The position that an offset field points to, 0 where it is absent."""
        position = self._field(slot, 4)
        return position + self.reader.scalar(position, "I") if position else 0

    def numbers(self, slot: int, item: str, kind: str | None = None) -> tuple[Any, ...]:
        target = self.target(slot)
        return self.reader.numbers(target, item, kind or self.kind) if target else ()

    def vector(self, slot: int, item: str, kind: str | None = None) -> tuple[int, int]:
        """(first byte, number of items) of a vector that is not unpacked; (0, 0) where it is absent."""
        target = self.target(slot)
        return self.reader.vector(target, item, kind or self.kind) if target else (0, 0)

    def text(self, slot: int, kind: str | None = None) -> str:
        target = self.target(slot)
        return self.reader.text(target, kind or self.kind) if target else ""

    def child(self, slot: int, kind: str | None = None) -> Table | None:
        target = self.target(slot)
        return self.reader.table(target, kind or self.kind) if target else None

    def tables(self, slot: int, kind: str | None = None) -> tuple[Table, ...]:
        target = self.target(slot)
        return self.reader.tables(target, kind or self.kind) if target else ()
