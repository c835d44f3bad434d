"""Single files out of .tar.gz and .zip archives, each held to its hash.

Nothing in an archive says where a file goes: only members that were asked for are written, under the names
that they were asked for by.
"""

from __future__ import annotations

import gzip
import hashlib
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from edgecnn.errors import DataError
from edgecnn.files import replacing
from edgecnn.units import format_size

MAX_BYTES = 2_000_000_000
_CHUNK_BYTES = 1 << 16
_DAMAGES = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    zlib.error,
    EOFError,
    # What the standard library lets through for headers that make no sense: numbers, encodings, methods.
    ValueError,
    OverflowError,
    NotImplementedError,
)


def extract(
    archive: Path, destination: Path, *, members: Mapping[str, str], max_bytes: int = MAX_BYTES
) -> list[Path]:
    """Takes the `members` (name in the archive -> sha256 of the contents) out of a .tar.gz or .zip file.

    They become destination/name, in the order of `members`. `max_bytes` bounds what is unpacked altogether,
    what is passed over in a .tar.gz included.

    Raises DataError for an archive that is missing, damaged or too large, for a member that is missing, no
    regular file or of another hash. What is there under a final name was verified.
    """
    for name in members:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise ValueError(f"leads out of the folder: {name}")
    with _faults(archive, destination):
        missing = dict(members)
        for name, contents in _wanted(archive, members, max_bytes):
            _write(contents, destination / name, sha256=missing.pop(name), where=f"{archive}: {name}")
        if missing:
            raise _refused(archive, f"the archive has no {', '.join(missing)}")
    return [destination / name for name in members]


def _refused(archive: Path, what: str) -> DataError:
    return DataError(what, where=str(archive), fix="remove the archive, and it is downloaded again")


@contextmanager
def _faults(archive: Path, destination: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGES as fault:
        raise _refused(archive, f"the archive is damaged: {fault or type(fault).__name__}") from fault
    except FileNotFoundError as fault:
        raise _refused(archive, "the archive is missing") from fault
    except OSError as fault:
        raise DataError(
            f"the archive cannot be unpacked: {fault.strerror or fault}",
            where=str(destination),
            fix="make room on the disk, or choose a data folder that can be written",
        ) from fault


def _wanted(archive: Path, members: Mapping[str, str], max_bytes: int) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and contents of each of the `members` that the archive has; to be read one after the other."""
    with archive.open("rb") as file:
        magic = file.read(4)
        file.seek(0)
        if magic.startswith(b"\x1f\x8b"):
            yield from _in_tar(archive, file, members, max_bytes)
        elif magic == b"PK\x03\x04":
            yield from _in_zip(archive, file, members, max_bytes)
        else:
            raise _refused(archive, "neither a .tar.gz nor a .zip file")


class _Bounded(gzip.GzipFile):
    """An unpacked stream that ends with an error once it has given more than `max_bytes`."""

    def __init__(self, file: IO[bytes], max_bytes: int, archive: Path) -> None:
        super().__init__(fileobj=file, mode="rb")
        self._left = self._max_bytes = max_bytes
        self._archive = archive

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self._left -= len(data)
        if self._left < 0:
            raise _too_large(self._archive, self._max_bytes)
        return data


def _too_large(archive: Path, max_bytes: int) -> DataError:
    return _refused(archive, f"unpacks to more than the {format_size(max_bytes)} that are allowed")


def _in_tar(
    archive: Path, file: IO[bytes], members: Mapping[str, str], max_bytes: int
) -> Iterator[tuple[str, IO[bytes]]]:
    missing = set(members)
    stream = _Bounded(file, max_bytes, archive)
    with tarfile.open(fileobj=stream, mode="r|", bufsize=_CHUNK_BYTES) as tar:
        while missing and (info := tar.next()):
            # tarfile remembers them all: millions of empty ones would fill the memory.
            tar.members.clear()  # type: ignore[attr-defined]
            name = str(PurePosixPath(info.name))
            if name not in missing:
                continue
            contents = tar.extractfile(info) if info.isreg() and not info.issparse() else None
            if contents is None:
                raise _refused(archive, f"{name} is no regular file")
            missing.remove(name)
            yield name, contents


def _in_zip(
    archive: Path, file: IO[bytes], members: Mapping[str, str], max_bytes: int
) -> Iterator[tuple[str, IO[bytes]]]:
    left = max_bytes
    with zipfile.ZipFile(file) as zipped:
        for info in (zipped.NameToInfo[name] for name in members if name in zipped.NameToInfo):
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG) or info.is_dir():
                raise _refused(archive, f"{info.filename} is no regular file")
            # Other methods unpack without a bound on what one piece may grow to.
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
                raise _refused(
                    archive, f"{info.filename} is encrypted, or packed by another method than deflate"
                )
            left -= info.file_size  # zipfile gives no more than that
            if left < 0:
                raise _too_large(archive, max_bytes)
            with zipped.open(info) as contents:
                yield info.filename, contents


def _write(contents: IO[bytes], path: Path, *, sha256: str, where: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with replacing(path) as temporary:
        with temporary.open("wb") as file:
            while chunk := contents.read(_CHUNK_BYTES):
                file.write(chunk)
                digest.update(chunk)
        if digest.hexdigest() != sha256:
            raise DataError(
                f"the contents were altered: sha256 is {digest.hexdigest()}, expected {sha256}",
                where=where,
                fix="remove the archive, and it is downloaded again",
            )
