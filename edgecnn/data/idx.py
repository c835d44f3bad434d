"""The IDX file format of MNIST: a big-endian header (type, rank, dimensions), then the raw values.

Source: http://yann.lecun.com/exdb/mnist/ ("THE IDX FILE FORMAT").
"""

from __future__ import annotations

import gzip
import hashlib
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.errors import DataError

UNSIGNED_BYTE = 0x08


def read_idx(path: Path, *, sha256: str, fix: str) -> NDArray[Any]:
    """The uint8 array in the gzipped IDX file at `path`; its *unpacked* bytes must have the hash `sha256`.

    Unpacked, because distributors recompress the archives. Raises DataError, with both hashes and with `fix`,
    for any other.
    """
    try:
        raw = gzip.decompress(path.read_bytes())
    except FileNotFoundError as fault:
        raise DataError("the data file is missing", where=str(path), fix=fix) from fault
    except (OSError, EOFError, zlib.error) as fault:
        packed = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "unreadable"
        raise DataError(
            f"the data file cannot be unpacked ({fault}): sha256 of the packed file {packed}, "
            f"of its contents expected {sha256}",
            where=str(path),
            fix=fix,
        ) from fault
    found = hashlib.sha256(raw).hexdigest()
    if found != sha256:
        raise DataError(
            f"the contents were altered: sha256 is {found}, expected {sha256}", where=str(path), fix=fix
        )
    return parse_idx(raw, where=str(path))


def parse_idx(raw: bytes, *, where: str) -> NDArray[Any]:
    """The uint8 array of an unpacked IDX file. Raises DataError where header and length disagree."""
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] != UNSIGNED_BYTE:
        raise DataError("not an IDX file of unsigned bytes", where=where)
    rank = raw[3]
    header_bytes = 4 + 4 * rank
    if len(raw) < header_bytes:
        raise DataError("the IDX header is cut off", where=where)
    shape = struct.unpack(f">{rank}I", raw[4:header_bytes])
    n_values = int(np.prod(shape, dtype=np.int64))
    if len(raw) - header_bytes != n_values:
        raise DataError(
            f"the IDX header promises {n_values} values {shape}, the file holds {len(raw) - header_bytes}",
            where=where,
        )
    return np.frombuffer(raw, np.uint8, offset=header_bytes).reshape(shape)
