"""Picture files decoded once: into a .npy file in the cache, which is mapped and not read into memory."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from edgecnn import files
from edgecnn.data import places
from edgecnn.errors import DataError
from edgecnn.ondevice import preprocess
from edgecnn.ondevice.manifest import PictureError, Preprocessing
from edgecnn.progress import Progress

FOLDER = "pictures"
# Of decoded pictures that wait to be written, or are copied at once.
BLOCK_BYTES = 16 * 2**20
UNUSED_DAYS = 30
CUT_OFF_DAYS = 1


@dataclass(frozen=True)
class Decoded:
    """`images_nhwc` uint8 [n files, height, width, channels], mapped from disk; the row of a broken file is
    zeros. `broken` has the reasons by row.
    """

    images_nhwc: NDArray[Any]
    broken: dict[int, str]

    def take(self, rows: NDArray[Any]) -> NDArray[Any]:
        """The pictures in `rows`, mapped as all are: from a file that goes when they are let go.

        Raises DataError where the cache cannot be written.
        """
        with _cache_faults(), tempfile.TemporaryFile(dir=places.cache() / FOLDER) as file:
            at_once = max(1, BLOCK_BYTES // self.images_nhwc[0].nbytes)
            for start in range(0, len(rows), at_once):
                file.write(self.images_nhwc[rows[start : start + at_once]].data)
            file.flush()
            # Open to writing: torch copies arrays that are not.
            return np.memmap(file, np.uint8, mode="r+", shape=(len(rows), *self.images_nhwc.shape[1:]))


def decode(
    paths: Sequence[Path], hashes: Sequence[str], preprocessing: Preprocessing, progress: Progress
) -> Decoded:
    """The pictures at `paths`, whose contents have the `hashes`, as `preprocessing` fits them.

    Raises DataError where the cache cannot be written. A decoding that is cut off leaves nothing.
    """
    kept = places.cache() / FOLDER / f"{_key(hashes, preprocessing)}.npy"
    found = _read(kept)
    if found is None:
        with _cache_faults():
            kept.parent.mkdir(parents=True, exist_ok=True)
            _forget_unused(kept.parent)
            _write(kept, paths, preprocessing, progress)
        found = _read(kept)
    if found is None:
        raise DataError("the decoded pictures cannot be read back", where=str(kept), fix="remove the file")
    for path in (kept, kept.with_suffix(".json")):
        with contextlib.suppress(OSError):
            os.utime(path)  # in use
    return found


@contextlib.contextmanager
def _cache_faults() -> Iterator[None]:
    """Tells what goes wrong with files in the cache as a DataError."""
    try:
        yield
    except OSError as fault:
        raise DataError(
            f"the decoded pictures cannot be kept: {fault.strerror or fault}",
            where=str(places.cache() / FOLDER),
            fix="make room, or name another cache folder with XDG_CACHE_HOME",
        ) from fault


def _key(hashes: Sequence[str], preprocessing: Preprocessing) -> str:
    """The hash of all that decides the pixels."""
    geometry = asdict(preprocessing)
    if preprocessing.fit != "letterbox":  # whose ground is the mean
        del geometry["mean"]
    del geometry["std"]
    code = files.sha256_of(Path(preprocess.__file__))
    decisive = [list(hashes), geometry, importlib.metadata.version("pillow"), code]
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:32]


def _read(kept: Path) -> Decoded | None:
    """None where one of the two files is not there, or not whole."""
    try:
        images_nhwc = np.load(kept, mmap_mode="r", allow_pickle=False)
        broken = json.loads(kept.with_suffix(".json").read_text(encoding="utf-8"))
        return Decoded(images_nhwc, {int(row): reason for row, reason in broken.items()})
    except (OSError, ValueError, AttributeError):
        return None


def _write(kept: Path, paths: Sequence[Path], preprocessing: Preprocessing, progress: Progress) -> None:
    """Written as a file, not through a map: a full disk is then an error, and not the end of the process."""
    shape = (len(paths), preprocessing.height, preprocessing.width, preprocessing.channels)
    broken = {}
    progress.start("decode", total=len(paths))
    with files.replacing(kept) as temporary, temporary.open("wb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, on pictures that are refused or read all the same
        begin_array(file, shape)
        for row, decoded in enumerate(_in_parallel(paths, preprocessing)):
            if isinstance(decoded, str):
                broken[row] = decoded
                decoded = np.zeros(shape[1:], np.uint8)
            file.write(decoded.data)
            progress.advance(1, f"{len(broken)} broken" if broken else "")
        files.write_text(kept.with_suffix(".json"), json.dumps(broken))
    progress.finish(f"{len(paths) - len(broken):,} of {len(paths):,} pictures")


def begin_array(file: IO[bytes], shape: tuple[int, ...]) -> None:
    """Writes the head of a .npy file of uint8 [shape], whose values follow."""
    described = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, described)


def _in_parallel(paths: Sequence[Path], preprocessing: Preprocessing) -> Iterator[NDArray[Any] | str]:
    """Each picture in order, or the reason why it is none. Threads do: Pillow lets go of the interpreter."""

    def decoded(path: Path) -> NDArray[Any] | str:
        try:
            return np.ascontiguousarray(preprocess.decode_picture(path, preprocessing))
        except PictureError as fault:
            return fault.reason.encode("utf-8", "replace").decode()  # of a name that is no UTF-8

    picture_bytes = preprocessing.height * preprocessing.width * preprocessing.channels
    block = max(16, BLOCK_BYTES // picture_bytes)
    with ThreadPoolExecutor(_n_cores()) as pool:
        for start in range(0, len(paths), block):
            yield from pool.map(decoded, paths[start : start + block])


def _n_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _forget_unused(folder: Path) -> None:
    """Removes what no build has used for UNUSED_DAYS, and what a killed one has left."""
    for pattern, days in (("*.npy", UNUSED_DAYS), ("*.json", UNUSED_DAYS), (".*.tmp", CUT_OFF_DAYS)):
        for path in folder.glob(pattern):
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < time.time() - days * 24 * 3600:
                    path.unlink()
