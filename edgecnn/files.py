"""Files that are whole or not there: written under a temporary name, then renamed."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from edgecnn.errors import EdgeCNNError, StorageError
from edgecnn.ondevice import text_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

TEMPORARY_SUFFIX = ".tmp"
# How files of anyone's are read; boards read them so, too.
read_text, read_json = text_file.read_text, text_file.read_json


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What the system says against writing `path` within the block is raised as a StorageError."""
    try:
        yield
    except OSError as fault:
        # Of the file itself, of its temporary name, or of an open file, where the system names none.
        named = Path(os.fsdecode(fault.filename)).name if isinstance(fault.filename, str | bytes) else ""
        if isinstance(fault, EdgeCNNError) or (named not in ("", path.name) and not _is_temporary(named, path)):
            raise
        raise StorageError(fault, path) from fault


def _is_temporary(name: str, path: Path) -> bool:
    return name.startswith(f".{path.name}.") and name.endswith(TEMPORARY_SUFFIX)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path in the folder of `path`; renamed to `path` when the block ends well, else removed.

    Then it is on the disk, whatever becomes of the machine. Raises StorageError where it cannot be written.
    """
    with writing(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=TEMPORARY_SUFFIX)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            # mkstemp makes files private; an artifact is as readable as any other file of the user.
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.replace(path)
            _persist_names(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def _persist_names(folder: Path) -> None:
    """So that a renamed file has its name after a power cut, too. Not every file system can, nor Windows."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def move_all(source: Path, destination: Path, names: Iterable[str]) -> None:
    """Those of the files `names` that are in `source`, into another folder of the same disk, in this order."""
    for name in names:
        if (source / name).exists():
            with writing(destination / name):
                (source / name).replace(destination / name)
    _persist_names(destination)


def remove_temporary(folder: Path) -> None:
    """Removes what writers that were killed have left in `folder`, where nobody is writing."""
    for left in folder.glob(f".*{TEMPORARY_SUFFIX}"):
        left.unlink()


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode("utf-8"))


def save_array(file: BinaryIO, array: NDArray[Any]) -> None:
    """The same bytes as numpy.save, which does not tell why a disk takes no more."""
    import numpy as np

    array = np.ascontiguousarray(array)
    np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
    file.write(array.data)


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
