"""What a measuring machine answers, looked at before it is used: it may be broken, or not what it says.

Everything that comes from a board passes here. What cannot be used ends in a TargetError, however it is wrong.
"""

from __future__ import annotations

import json
import math
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from edgecnn.errors import TargetError

T = TypeVar("T")

MOST_LINE_BYTES = 32_000_000
"""As many as a report may have, which holds every sample."""
MOST_LETTERS = 2000
"""Of what a machine says that is shown."""
LONGEST_PATH = 4096
_MOST_DIGITS = 18
_LOOK = "something there is broken, or is not what it says: look at its Python and its disk before you trust it"


def unusable(verb: str, detail: str, where: str, fix: str | None = None) -> TargetError:
    """The fault of a machine that answered, but not so."""
    what = f"{verb} answered what cannot be used: {detail}"
    return TargetError(what[:MOST_LETTERS], where=where, fix=fix or _LOOK)


def parse(text: str | bytes) -> dict[str, Any]:
    """The JSON object in `text`. Raises ValueError for all else, and for NaN, infinities and huge numbers."""
    try:
        found = json.loads(text, parse_int=_integer, parse_float=_finite, parse_constant=_no_number)
    except RecursionError as fault:
        raise ValueError("nested too deeply") from fault
    if not isinstance(found, dict):
        raise ValueError("no JSON object")
    return found


def _integer(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _no_number(text)


def _no_number(text: str) -> float:
    raise ValueError(f"{text[:_MOST_DIGITS]} is no number")


def checked(kind: type[T], answer: object, verb: str, where: str) -> T:
    """`answer`, as parsed from JSON, as the dataclass `kind`: fields that it does not know are left out.

    Raises TargetError where a field is missing, or of another type.
    """
    try:
        # By way of JSON: only so is a list a tuple, an object a dataclass, and yet "3" no number.
        found: T = TypeAdapter(kind).validate_json(json.dumps(answer), strict=True)
        return found
    except ValidationError as fault:
        first = fault.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise unusable(verb, f"{place}: {first['msg']}" if place else first["msg"], where) from fault


def _path(text: str) -> str:
    """Such as may stand in a command."""
    if not text or "\0" in text:
        raise ValueError("no path")
    os.fsencode(text)
    return text


PathThere = Annotated[str, Field(max_length=LONGEST_PATH), AfterValidator(_path)]


@dataclass(frozen=True)
class Received:
    """What `ondevice.receive` answers: the path of the file there, or that it wants to have it."""

    have: PathThere | None = None
    send: bool = False


@dataclass(frozen=True)
class SentFile:
    """The file that follows an `Outcome`."""

    size: Annotated[int, Field(ge=0)]
    sha256: str


@dataclass(frozen=True)
class Outcome:
    """What `ondevice.supervise` answers: how a verb ended there."""

    returncode: int
    timed_out: bool
    is_flood: bool
    stdout: str
    stderr: str
    output: SentFile | None


@dataclass(frozen=True)
class Launch:
    """What a benchmark answers besides the fields of a `Round`; conditions before and after are by name."""

    runtime_version: str
    delegate: str | None
    delegate_version: str | None
    affinity: tuple[int, ...] | None
    warmup_rule: str
    before: dict[str, Any]
    after: dict[str, Any]


def array(path: Path, verb: str, where: str) -> NDArray[Any]:
    """The numbers in an .npy file that a machine wrote. Raises TargetError."""
    try:
        # Mapped, it takes no memory for more than the file has, whatever its header says.
        found = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(found, np.ndarray):
            raise ValueError("no .npy file")
        return _numbers(np.array(found))
    except Exception as fault:  # numpy, zipfile and zlib have no common class, and raise whatever comes up
        raise unusable(verb, f"its output cannot be read ({fault})", where) from fault


def arrays(path: Path, verb: str, where: str) -> dict[str, NDArray[Any]]:
    """The numbers in an .npz file that a machine wrote, by name. Raises TargetError."""
    try:
        with zipfile.ZipFile(path) as archive:
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                raise ValueError("it is packed, and may be of any size")
        with np.load(path, allow_pickle=False) as found:
            return {name: _numbers(found[name]) for name in found}
    except Exception as fault:
        raise unusable(verb, f"its output cannot be read ({fault})", where) from fault


def _numbers(found: NDArray[Any]) -> NDArray[Any]:
    if found.dtype.kind not in "biuf":
        raise ValueError(f"{found.dtype} is no type of numbers")
    return found
