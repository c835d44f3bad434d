"""What can go wrong, as the user is told it: what is wrong, where, and how to mend it."""

from __future__ import annotations

import errno
import os
from typing import Any


class EdgeCNNError(Exception):
    """A fault that the command line prints without a traceback.

    `what` is one sentence; `where` names the file, line, key or node; `fix` says what to do about it.
    """

    exit_code = 3

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.fix = fix

    def __str__(self) -> str:
        lines = [f"{self.where}: {self.what}" if self.where else self.what]
        if self.fix:
            lines.append(f"  fix: {self.fix}")
        return "\n".join(lines)

    def __reduce__(self) -> Any:
        """From process to process it goes as it is: kinds are made from other things than what they tell."""
        return _made_again, (type(self), self.args, vars(self))


def _made_again(kind: type[EdgeCNNError], arguments: tuple[Any, ...], state: dict[str, Any]) -> EdgeCNNError:
    fault = kind.__new__(kind)
    fault.args = arguments
    vars(fault).update(state)
    return fault


class RecipeError(EdgeCNNError):
    """The recipe is not one that can be built."""

    exit_code = 2


class UsageError(EdgeCNNError):
    """A file or option named on the command line cannot be used as asked."""

    exit_code = 2


class DataError(EdgeCNNError):
    """A data set is missing, altered or unreadable."""


class ModelError(EdgeCNNError):
    """The user's own network cannot be used as the recipe asks."""

    exit_code = 2


class ConversionError(EdgeCNNError):
    """An ONNX graph has no TFLite equivalent that we can write."""

    exit_code = 2


class QuantizationError(EdgeCNNError):
    """The quantization engine failed, or gave a network that is not what was asked for."""


class DivergedError(EdgeCNNError):
    """A training whose loss is no number any more."""


class TargetError(EdgeCNNError):
    """The machine that was to measure an artifact did not do so."""


class StorageError(EdgeCNNError, OSError):
    """A file or a folder cannot be written: the disk is full, a quota used up, the folder read-only.

    An OSError as well: who can do without the file (a cache) catches that.
    """

    def __init__(self, fault: OSError, path: str | os.PathLike[str]) -> None:
        what, fix = _REASONS.get(fault.errno or 0, (fault.strerror or str(fault), None))
        super().__init__(f"cannot be written: {what}", where=os.fspath(path), fix=fix)
        self.errno, self.strerror, self.filename = fault.errno, fault.strerror or what, os.fspath(path)


class OutOfMemoryError(EdgeCNNError):
    """Memory ran out. `fault` is how that showed; see `is_out_of_memory`."""

    def __init__(self, fault: BaseException, *, where: str | None = None) -> None:
        super().__init__(
            f"memory ran out ({type(fault).__name__}: {fault})",
            where=where,
            fix="close other programs, lift the limit (ulimit -v), or take fewer or smaller pictures",
        )


def is_out_of_memory(fault: BaseException | None) -> bool:
    """Whether `fault`, or what it came from, is that memory ran out: native code says so in words only."""
    while fault is not None:
        said = f"{type(fault).__name__}: {fault}".lower()
        if any(words in said for words in _OUT_OF_MEMORY):
            return True
        fault = fault.__cause__
    return False


# Of Python and numpy; of the system; of the loader; of torch, onnxruntime and C++; of threads.
_OUT_OF_MEMORY = (
    "memoryerror", "cannot allocate memory", "failed to map segment", "can't allocate memory",
    "failed to allocate memory", "bad_alloc", "can't start new thread",
)  # fmt: skip

_MAKE_ROOM = "free some space there (edgecnn clean shows what builds can spare), or name another folder"
_OTHER_FOLDER = "name a folder that can be written"
_REASONS = {
    errno.ENOSPC: ("the disk is full", _MAKE_ROOM),
    errno.EDQUOT: ("the disk quota is used up", _MAKE_ROOM),
    errno.EROFS: ("the file system is read-only", _OTHER_FOLDER),
    errno.ENOENT: ("there is no such folder", "make it first, or name another"),
    errno.EACCES: ("permission denied", _OTHER_FOLDER),
    errno.EPERM: ("operation not permitted", _OTHER_FOLDER),
}


class MissingExtraError(EdgeCNNError):
    """A package of an optional extra is needed and not installed."""

    def __init__(self, package: str, *, extra: str, needed_for: str) -> None:
        super().__init__(
            f"{needed_for} needs {package}, which is not installed",
            fix=f'pip install "edgecnn[{extra}]"',
        )
