"""A FlatBuffer builder that never writes the same table or vector twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
from numpy.typing import NDArray

BUFFER_ALIGNMENT = 16

# Kind -> (method of flatbuffers.Builder, bytes).
_SCALARS = {
    "bool": ("PrependBoolSlot", 1),
    "int8": ("PrependInt8Slot", 1),
    "uint8": ("PrependUint8Slot", 1),
    "int32": ("PrependInt32Slot", 4),
    "uint32": ("PrependUint32Slot", 4),
    "float32": ("PrependFloat32Slot", 4),
    "offset": ("PrependUOffsetTRelativeSlot", 4),
}

# One field of a table: (slot, kind, value, default).
FieldValue = tuple[int, str, Any, Any]


class FlatWriter:
    """Builds from the leaves to the root; every method gives the offset of what it wrote."""

    def __init__(self, capacity: int) -> None:
        self.builder = flatbuffers.Builder(capacity)
        self._known: dict[Any, int] = {}

    def table(self, n_slots: int, *fields: FieldValue) -> int:
        """The offset of a table. Large fields first, so that the small ones share one padded word."""
        present = tuple(
            sorted((f for f in fields if f[2] != f[3]), key=lambda f: (-_SCALARS[f[1]][1], f[0])),
        )
        key = ("table", n_slots, present)
        if key not in self._known:
            self.builder.StartObject(n_slots)
            for slot, kind, value, default in present:
                getattr(self.builder, _SCALARS[kind][0])(slot, value, default)
            self._known[key] = self.builder.EndObject()
        return self._known[key]

    def offsets(self, offsets: Sequence[int]) -> int:
        """A vector of tables."""
        self.builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self.builder.PrependUOffsetTRelative(offset)
        return int(self.builder.EndVector())

    def string(self, text: str) -> int:
        if ("string", text) not in self._known:
            self._known["string", text] = self.builder.CreateString(text)
        return self._known["string", text]

    def numbers(self, values: NDArray[Any]) -> int:
        """A vector of scalars."""
        key = (values.dtype.str, values.tobytes())
        if key not in self._known:
            self._known[key] = self.builder.CreateNumpyVector(np.ascontiguousarray(values).reshape(-1))
        return self._known[key]

    def padding_before(self, n_bytes: int) -> int:
        """How many bytes of padding a constant of that many bytes would need if it were written now."""
        return int(-(self.builder.Offset() + n_bytes) % BUFFER_ALIGNMENT)

    def constant(self, data: NDArray[Any]) -> int:
        """A vector of bytes whose first byte lies on BUFFER_ALIGNMENT."""
        self.builder.Prep(BUFFER_ALIGNMENT, data.size)
        return int(self.builder.CreateNumpyVector(data))

    def finish(self, root: int, file_identifier: bytes) -> bytes:
        """The whole buffer."""
        self.builder.Finish(root, file_identifier=file_identifier)
        return bytes(self.builder.Output())
