"""A folder of pictures without labels: to quantize a finished network, and to compare it with itself.

What the float network says of a picture stands for its label; see `steps.evaluation`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgecnn import files
from edgecnn.data import Dataset, Options, Source, Splits, notes
from edgecnn.data.content_hashes import UNREADABLE, content_hashes
from edgecnn.data.decoded import Decoded, decode
from edgecnn.data.folder_layout import SUFFIXES, files_below, readable
from edgecnn.errors import DataError
from edgecnn.ondevice.manifest import Preprocessing
from edgecnn.progress import Progress

# The classes of the published weights, where no file names them.
N_CLASSES = 1000
LEAST_PICTURES = 10
NO_LABELS = (
    "the pictures have no labels: accuracy is how often a file answers as the dense float32 network does"
)


def find(options: Options, folders: tuple[Path, ...]) -> Source:
    """All pictures below `options.path`. Raises DataError where there are too few, or no such folder."""
    if options.path is None:
        raise ValueError("a folder needs a path")
    root = options.path.expanduser().absolute()
    names = _picture_names(root)
    contents = content_hashes(root, names)
    class_names = _class_names(options.classes)
    decisive = [contents, class_names, options.seed, options.validation_share, options.test_share]

    def read(preprocessing: Preprocessing, progress: Progress) -> Splits:
        decoded = decode([root / name for name in names], contents, preprocessing, progress)
        broken = [f"{readable(names[row])} ({reason})" for row, reason in decoded.broken.items()]
        rows = _drawn(contents, set(decoded.broken), options.seed)
        if len(rows) < LEAST_PICTURES:
            raise _too_few(root, len(rows))
        said = (
            [f"{notes.count(broken, 'picture')} cannot be read, left out: {notes.files(broken)}"]
            if broken
            else []
        )
        return _splits(decoded, rows, class_names, options, tuple(said))

    return Source(class_names, hashlib.sha256(json.dumps(decisive).encode()).hexdigest(), read)


def _picture_names(root: Path) -> list[str]:
    if not root.is_dir():
        raise DataError(
            "there is no such folder of pictures",
            where=str(root),
            fix=f"the path of a recipe's data begins where edgecnn runs: {Path.cwd()}",
        )
    paths = (path for path in files_below(root) if path.suffix.lower() in SUFFIXES)
    names = sorted(path.relative_to(root).as_posix() for path in paths)
    if len(names) < LEAST_PICTURES:
        raise _too_few(root, len(names))
    return names


def _too_few(root: Path, n_pictures: int) -> DataError:
    return DataError(
        f"{n_pictures} pictures are too few to calibrate and compare with: {LEAST_PICTURES} are the least",
        where=str(root),
        fix=f"add some ({', '.join(SUFFIXES)}); some hundreds are a good number",
    )


def _class_names(path: Path | None) -> tuple[str, ...]:
    """The lines of the file at `path`, one name each."""
    if path is None:
        return tuple(f"class {index}" for index in range(N_CLASSES))
    try:
        names = tuple(line.strip() for line in files.read_text(path).splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as fault:
        raise DataError(f"the names of the classes cannot be read: {fault}", where=str(path)) from fault
    if len(names) < 2:
        raise DataError("expected the names of two classes or more, one a line", where=str(path))
    return names


def _drawn(contents: Sequence[str], broken: set[int], seed: int) -> list[int]:
    """The rows that can be read in a random order that `seed` and contents decide; equal pictures once."""
    first_of: dict[str, int] = {}
    for row, content in enumerate(contents):
        if row not in broken and content != UNREADABLE:
            first_of.setdefault(content, row)
    return [
        first_of[c] for c in sorted(first_of, key=lambda c: hashlib.sha256(f"{seed} {c}".encode()).digest())
    ]


def _splits(
    decoded: Decoded,
    rows: Sequence[int],
    class_names: tuple[str, ...],
    options: Options,
    said: tuple[str, ...],
) -> Splits:
    n_test, n_validation = (
        max(1, round(share * len(rows))) for share in (options.test_share, options.validation_share)
    )

    def part(chosen: Sequence[int], split: str) -> Dataset:
        return Dataset(decoded.take(np.array(chosen)), np.full(len(chosen), -1, np.int64), class_names, split)

    if n_test + n_validation >= len(rows):
        raise DataError(
            f"test_share {options.test_share:g} and validation_share {options.validation_share:g} "
            f"leave none of {len(rows)} pictures to calibrate with",
            fix="lower them: some hundreds of pictures are a good number",
        )
    return Splits(
        train=part(rows[n_test + n_validation :], "train"),
        validation=part(rows[n_test : n_test + n_validation], "validation"),
        test=part(rows[:n_test], "test"),
        notes=(NO_LABELS, *said),
        fitted=True,
    )
