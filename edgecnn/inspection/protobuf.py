"""A Protocol Buffers message read in pure Python: every field with its value and the bytes it takes.

Only the wire format is known here; which fields there are is data (`onnx_schema`). Fields that the schema does
not name are counted and left alone. Source: the encoding guide of Protocol Buffers (version 3).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgecnn.inspection.ledger import MOST_PARTS, corrupt

# Kinds of fields that are no message.
NUMBER, NUMBERS, TEXT, SPAN, FLOAT, FLOATS = "number", "numbers", "text", "span", "float", "floats"
UNKNOWN = "?"
_UNKNOWN_FIELD = (UNKNOWN, UNKNOWN)

# Field number -> (name, one of the kinds above or the name of a message).
Schema = Mapping[str, Mapping[int, tuple[str, str]]]

# Graphs in attributes of nodes of graphs: no real model nests deeper.
_DEEPEST = 32
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(eq=False, slots=True)
class Message:
    """`values` by field name, in the order of the file; a span is (first byte, byte after the last).

    `sizes` are bytes by field name, tags and lengths included; of a field that is a message, those alone.
    """

    kind: str
    values: dict[str, list[Any]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)

    def all(self, name: str) -> list[Any]:
        return self.values.get(name, [])

    def last(self, name: str, default: Any = None) -> Any:
        """The value of a field that may stand once: the last one counts."""
        found = self.values.get(name)
        return found[-1] if found else default


def read_varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """(value, position after it); negative numbers come as two's complement of 64 bits."""
    value = shift = 0
    while position < end and shift < 70:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, position
        shift += 7
    raise corrupt(f"there is no number at byte {position:,}")


def signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


class MessageReader:
    """Reads messages of a schema. Raises UsageError where the bytes are none, or too many for any model."""

    def __init__(self, data: bytes, schema: Schema) -> None:
        self.data = data
        self.schema = schema
        self._n_left = MOST_PARTS

    def read(self, kind: str, start: int, end: int, depth: int = 0) -> Message:
        """The message of that kind in data[start:end]."""
        self._n_left -= 1
        if depth > _DEEPEST or self._n_left < 0:
            raise corrupt("it has more parts, or deeper ones, than any model")
        message = Message(kind)
        fields = self.schema[kind]
        position = start
        while position < end:
            tag, value_start = read_varint(self.data, position, end)
            found, after = self._value(tag & 7, value_start, end)
            if after > end or not tag >> 3:
                raise corrupt(f"the field at byte {position:,} is none, or reaches past its end")
            self._add(message, fields.get(tag >> 3, _UNKNOWN_FIELD), tag & 7, found, after - position, depth)
            position = after
        return message

    def _value(self, wire: int, start: int, end: int) -> tuple[Any, int]:
        """(a number or a span, position after it) of the wire type."""
        if wire == _VARINT:
            value, after = read_varint(self.data, start, end)
            return signed(value), after
        if wire == _BYTES:
            length, start = read_varint(self.data, start, end)
            return (start, start + length), start + length
        if wire in (_FIXED64, _FIXED32):
            after = start + (8 if wire == _FIXED64 else 4)
            return (start, after), after
        raise corrupt(f"there is no field at byte {start:,}")

    def _add(
        self, message: Message, what: tuple[str, str], wire: int, found: Any, n_bytes: int, depth: int
    ) -> None:
        """Notes one field. Where its wire type is wrong, the bytes count and the value does not."""
        name, kind = what
        values = message.values.setdefault(name, [])
        if wire == _VARINT:
            if kind in (NUMBER, NUMBERS):
                values.append(found)
        elif kind == SPAN:
            values.append(found)
        elif kind == FLOATS or (kind == FLOAT and wire == _FIXED32):
            values.extend(struct.unpack_from(f"<{(found[1] - found[0]) // 4}f", self.data, found[0]))
        elif wire == _BYTES:
            if kind in self.schema:
                values.append(self.read(kind, found[0], found[1], depth + 1))
                n_bytes -= found[1] - found[0]
            elif kind == NUMBERS:
                values.extend(_packed_numbers(self.data, *found))
            elif kind == TEXT:
                values.append(self.data[found[0] : found[1]].decode("utf-8", "replace"))
        message.sizes[name] = message.sizes.get(name, 0) + n_bytes


def _packed_numbers(data: bytes, start: int, end: int) -> list[int]:
    numbers = []
    while start < end:
        value, start = read_varint(data, start, end)
        numbers.append(signed(value))
    return numbers
