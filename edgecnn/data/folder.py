"""A folder of the user's own pictures: one sub-directory a class, below train/ val/ test/ or directly."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.data import Dataset, Options, Source, Splits, notes
from edgecnn.data.content_hashes import UNREADABLE, content_hashes
from edgecnn.data.decoded import Decoded, decode
from edgecnn.data.drawn import SPLITS, draw_splits
from edgecnn.data.duplicates import duplicate_notes
from edgecnn.data.folder_layout import SUFFIXES, Layout, readable, scan
from edgecnn.errors import DataError
from edgecnn.ondevice.manifest import Preprocessing
from edgecnn.progress import Progress


def find(options: Options, folders: tuple[Path, ...]) -> Source:
    """The pictures below `options.path`. Files are hashed, and opened only when the splits are read."""
    if options.path is None:
        raise ValueError("a folder needs a path")
    layout = scan(options.path)
    contents = content_hashes(layout.root, [picture.name for picture in layout.pictures])

    def read(preprocessing: Preprocessing, progress: Progress) -> Splits:
        return _Folder(layout, contents, options).read(preprocessing, progress)

    return Source(layout.class_names, _sha256(layout, contents, options), read)


def _sha256(layout: Layout, contents: Sequence[str], options: Options) -> str:
    """Stands for names and contents, and for how the parts are drawn that are not there."""
    drawn = [
        [split, share]
        for split, share in (("validation", options.validation_share), ("test", options.test_share))
        if split not in layout.parts
    ]
    files = [[picture.name, content] for picture, content in zip(layout.pictures, contents, strict=True)]
    decisive = [files, layout.class_names, drawn, options.seed if drawn else None]
    return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()


class _Folder:
    """One reading of a folder whose files are known and hashed."""

    def __init__(self, layout: Layout, contents: Sequence[str], options: Options) -> None:
        self._layout, self._contents, self._options = layout, contents, options
        label_of = {name: label for label, name in enumerate(layout.class_names)}
        self._labels = np.array([label_of[picture.class_name] for picture in layout.pictures], np.int64)

    def read(self, preprocessing: Preprocessing, progress: Progress) -> Splits:
        """Raises DataError where too few pictures can be read, or the cache cannot be written."""
        layout = self._layout
        paths = [layout.root / picture.name for picture in layout.pictures]
        decoded = decode(paths, self._contents, preprocessing, progress)
        intact = np.array([row for row in range(len(paths)) if row not in decoded.broken], np.int64)
        self._check(intact)
        rows = self._rows(intact)
        parts = {
            split: Dataset(decoded.take(rows[split]), self._labels[rows[split]], layout.class_names, split)
            for split in SPLITS
        }
        names = {split: [self._name(row) for row in rows[split]] for split in SPLITS}
        said = (*self._notes(decoded), *duplicate_notes(parts, names))
        return Splits(parts["train"], parts["validation"], parts["test"], notes=said, fitted=True)

    def _rows(self, intact: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """The rows of each split, of those that are `intact`."""
        layout = self._layout
        part_of = np.array([layout.pictures[row].part for row in intact])
        pool = intact[part_of == "train"]
        drawn = draw_splits(
            self._labels[pool],
            [self._contents[row] for row in pool],
            layout.class_names,
            self._options,
            given=layout.parts,
            where=str(layout.root),
        )
        given = {split: intact[part_of == split] for split in SPLITS if split not in drawn}
        return given | {split: pool[rows] for split, rows in drawn.items()}

    def _check(self, intact: NDArray[Any]) -> None:
        layout = self._layout
        for label, class_name in enumerate(layout.class_names):
            if not np.any(self._labels[intact] == label):
                raise DataError(
                    f"none of the {layout.counts[class_name]} pictures of the class {class_name!r} can be read",
                    where=str(layout.root),
                    fix=f"use {', '.join(SUFFIXES)} files",
                )
        for part in sorted(layout.parts - {layout.pictures[row].part for row in intact}):
            raise DataError(f"none of the pictures in {part} can be read", where=str(layout.root))

    def _name(self, row: int) -> str:
        return readable(self._layout.pictures[row].name)

    def _notes(self, decoded: Decoded) -> list[str]:
        layout = self._layout
        said = []
        if decoded.broken:
            broken = [f"{self._name(row)} ({reason})" for row, reason in decoded.broken.items()]
            said.append(f"{notes.count(broken, 'picture')} cannot be read, left out: {notes.files(broken)}")
        if layout.left_out:
            kinds = ", ".join(SUFFIXES)
            said.append(
                f"{notes.count(layout.left_out, 'file')} left out, in no class or not {kinds}: "
                f"{notes.files([readable(name) for name in layout.left_out])}"
            )
        contradictions = self._contradictions(decoded)
        if contradictions:
            said.append(
                f"{notes.count(contradictions, 'picture')} in more than one class, so that one label is wrong: "
                f"{notes.files(contradictions)}"
            )
        return said

    def _contradictions(self, decoded: Decoded) -> list[str]:
        """The names of pictures whose very bytes lie in several classes; of those that can be read."""
        by_content: dict[str, list[int]] = {}
        for row, content in enumerate(self._contents):
            if content != UNREADABLE and row not in decoded.broken:
                by_content.setdefault(content, []).append(row)
        return [
            " = ".join(self._name(row) for row in rows)
            for rows in by_content.values()
            if len({self._labels[row] for row in rows}) > 1
        ]
