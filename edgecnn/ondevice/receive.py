"""Takes one file from stdin into the cache of this machine: `python3 -c SOURCE SHA256 SIZE NAME`.

It stands alone, stdlib only: it is sent as text, before anything of edgecnn is there. An old Python must
be able to read it, too, or it cannot say that it is too old: syntax of 3.7. It answers with lines of
`edgecnn-answer:` and JSON: {"have": path} where the file is there already; else {"send": true}, and when the
bytes have come and their sha256 is right, {"have": path}. A fault is {"error": what, "fix": how to mend it}.

A file lies at ~/.cache/edgecnn/SHA256/NAME. It is written under a temporary name, which goes when the bytes
stop coming, and renamed when it is whole.
"""

import contextlib
import hashlib
import json
import os
import select
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

CACHE = Path.home() / ".cache" / "edgecnn"
# What others may be using at this moment is not removed.
IN_USE_S = 3600
LARGEST_CACHE_BYTES = 512 * 1000 * 1000
# Left on the disk for everything else.
SPARE_BYTES = 4 * 1000 * 1000
BLOCK_BYTES = 1 << 16
# A link that is dead without a word keeps its end here open for hours.
SILENT_S = 120


class ReceiveError(Exception):
    """(what is wrong, how to mend it)"""


def main(arguments: "list[str]") -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))
    try:
        sha256, size, name = arguments
        answer({"have": str(receive(sha256, int(size), name))})
    except ReceiveError as fault:
        answer({"error": fault.args[0], "fix": fault.args[1]})
    except OSError as fault:
        what = f"cannot write {fault.filename or CACHE}: {fault.strerror}"
        answer({"error": what, "fix": "free some space on the board, or check who owns that folder"})


def receive(sha256: str, size: int, name: str) -> Path:
    """The path of the file with that hash, taken from stdin where it is not there yet."""
    if sys.version_info < (3, 9):  # noqa: UP036 - this file is what finds it out
        raise ReceiveError(
            f"its Python is {sys.version.split()[0]}; 3.9 or newer is needed",
            "upgrade the board's system, or name another Python: python: PATH in targets.yaml",
        )
    CACHE.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = CACHE / sha256 / name
    if path.is_file() and path.stat().st_size == size and sha256_of(path) == sha256:
        os.utime(path.parent)
        return path
    make_room(size)
    answer({"send": True})
    handle, temporary = tempfile.mkstemp(dir=CACHE, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            take(file, sha256, size)
        path.parent.mkdir(exist_ok=True)
        Path(temporary).replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            Path(temporary).unlink()
    return path


def sha256_of(path: Path) -> str:
    """In blocks: a board may have less memory than the file."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(BLOCK_BYTES), b""):
            found.update(block)
    return found.hexdigest()


def take(file: IO[bytes], sha256: str, size: int) -> None:
    """Copies stdin to `file`: `size` bytes. Raises ReceiveError where others come, fewer, or none for long."""
    found, missing = hashlib.sha256(), size
    while missing:
        if not select.select([0], [], [], SILENT_S)[0]:
            raise ReceiveError(
                f"nothing came for {SILENT_S} s after {size - missing} of {size} bytes", "try again"
            )
        block = os.read(0, min(BLOCK_BYTES, missing))
        if not block:
            raise ReceiveError(f"{size - missing} of {size} bytes came", "try again")
        file.write(block)
        found.update(block)
        missing -= len(block)
    file.flush()
    os.fsync(file.fileno())
    if found.hexdigest() != sha256:
        raise ReceiveError("what came is not what was sent: its sha256 is another", "try again")


def make_room(size: int) -> None:
    """Removes what was not used for long or left half-written. Raises ReceiveError on a full disk."""
    for entry in CACHE.iterdir():
        date_back(entry)
    entries = sorted(CACHE.iterdir(), key=last_used)
    total = sum(bytes_of(entry) for entry in entries)
    for entry in entries:
        if time.time() - last_used(entry) < IN_USE_S:
            break
        if entry.suffix == ".part":
            entry.unlink(missing_ok=True)  # another upload may tidy up at this moment
        elif total + size > LARGEST_CACHE_BYTES:
            total -= bytes_of(entry)
            shutil.rmtree(str(entry), ignore_errors=True)
    free_mb, needed_mb = shutil.disk_usage(str(CACHE)).free / 1e6, (size + SPARE_BYTES) / 1e6
    if free_mb < needed_mb:
        raise ReceiveError(
            f"the disk is full: {free_mb:.1f} MB are free, {needed_mb:.1f} MB are needed",
            f"free some space on the board; {CACHE} may be deleted",
        )


def date_back(entry: Path) -> None:
    """Of the future is what was used before the clock was set back. From now on it grows old as all does."""
    if last_used(entry) > time.time():
        with contextlib.suppress(OSError):
            os.utime(entry)


def last_used(entry: Path) -> float:
    try:
        return entry.stat().st_mtime
    except OSError:
        return time.time()  # it went at this moment: another host's upload


def bytes_of(folder: Path) -> int:
    try:
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    except FileNotFoundError:
        return 0  # it went at this moment


def answer(value: "dict[str, object]") -> None:
    try:
        print("edgecnn-answer:" + json.dumps(value), flush=True)
    except OSError:
        os._exit(1)  # nobody listens any more


if __name__ == "__main__":
    main(sys.argv[1:])
