"""Text files of anyone's: regular ones, up to a size. A device never ends, and a pipe waits for its writer."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

MOST_BYTES = 32_000_000
"""Of reports, which hold every sample; what else there is has less."""


def read_text(path: Path, most_bytes: int = MOST_BYTES) -> str:
    """The UTF-8 text of the file at `path`, links followed, line ends as `\\n`, without a mark at its begin.

    Raises OSError where it is missing, no regular file or of more than `most_bytes`, ValueError where it is no
    UTF-8.
    """
    with open(path, "rb", opener=_open) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise OSError(errno.EFBIG, f"it has more than {most_bytes:,} bytes", str(path))
    return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")


def _open(name: str, flags: int) -> int:
    """Of a pipe the opening alone waits, but for O_NONBLOCK. Windows has no such pipes."""
    return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))


def read_json(path: Path, most_bytes: int = MOST_BYTES) -> Any:
    """What the JSON file at `path` holds. Raises OSError as `read_text`, ValueError for what is no JSON."""
    return parse_json(read_text(path, most_bytes))


def parse_json(text: str) -> Any:
    """Raises ValueError for whatever is no JSON, or nested too deeply for Python."""
    try:
        return json.loads(text)
    except RecursionError as fault:
        raise ValueError("nested too deeply") from fault
