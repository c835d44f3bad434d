"""What lies in a folder of pictures: one sub-directory a class, below train/ val/ test/ or directly."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from edgecnn.errors import DataError
from edgecnn.ondevice.preprocess import PICTURE_SUFFIXES

SUFFIXES = tuple(suffix for suffix in PICTURE_SUFFIXES if suffix != ".npy")
PARTS = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
# What archives and disk stations leave behind.
IGNORED = ("__MACOSX", "@eaDir")


@dataclass(frozen=True)
class Picture:
    """A file that should be a picture. `name` is its path below the folder, with slashes; `part` is "train"
    where the folder has no parts.
    """

    name: str
    class_name: str
    part: str


@dataclass(frozen=True)
class Layout:
    """The `pictures` of a folder in the order of their names, its classes in the order of theirs, and the names
    of files that are `left_out`: those of other kinds, and those in no class.
    """

    root: Path
    pictures: tuple[Picture, ...]
    class_names: tuple[str, ...]
    left_out: tuple[str, ...]

    @property
    def parts(self) -> frozenset[str]:
        return frozenset(picture.part for picture in self.pictures)

    @cached_property
    def counts(self) -> Counter[str]:
        """How many pictures each class has; 0 for one without."""
        return Counter(picture.class_name for picture in self.pictures)


def scan(path: Path) -> Layout:
    """The layout of the folder at `path`; hidden files are not seen, no picture is opened.

    Raises DataError where there is no such folder, or no classes with pictures in it.
    """
    root = path.expanduser().absolute()
    if not root.is_dir():
        raise DataError(
            "the data folder is a file" if root.exists() else "there is no such data folder",
            where=str(root),
            fix=f"the path of a recipe's data begins where edgecnn runs: {Path.cwd()}",
        )
    parts = _parts_in(root)
    tops = parts or {root: "train"}
    pictures, left_out = [], [] if parts is None else _loose_files(root, root)
    class_names: set[str] = set()
    for top, part in tops.items():
        left_out += _loose_files(root, top)
        for folder in _folders_in(top):
            class_name = unicodedata.normalize("NFC", readable(folder.name))
            class_names.add(class_name)
            for file in files_below(folder, frozenset(map(_identity, (root, top)))):
                name = file.relative_to(root).as_posix()
                if file.suffix.lower() in SUFFIXES:
                    pictures.append(Picture(name, class_name, part))
                else:
                    left_out.append(name)
    layout = Layout(
        root,
        tuple(sorted(pictures, key=lambda picture: picture.name)),
        tuple(sorted(class_names)),
        tuple(sorted(left_out)),
    )
    _check_classes(layout)
    return layout


def _parts_in(root: Path) -> dict[Path, str] | None:
    """The folders of `root` that are parts, with the part that each is; None where its folders are classes.

    A class may be called train: parts have sub-directories, and no pictures of their own.
    """
    folders = _folders_in(root)
    named = {folder: PARTS[folder.name.lower()] for folder in folders if folder.name.lower() in PARTS}
    parts = {
        folder: part
        for folder, part in named.items()
        if _folders_in(folder) and not any(file.suffix.lower() in SUFFIXES for file in _visible(folder))
    }
    if not parts or (len(parts) < 2 and len(folders) > 1):
        return None
    others = [folder.name for folder in folders if folder not in parts]
    if others:
        raise DataError(
            f"beside the parts ({', '.join(folder.name for folder in parts)}) there is {', '.join(others[:5])}",
            where=str(root),
            fix="leave only train, val and test in it, each with one sub-directory a class",
        )
    if "train" not in parts.values():
        raise DataError(
            f"there is no train beside {', '.join(folder.name for folder in parts)}",
            where=str(root),
            fix="put the pictures to train on into train, one sub-directory a class",
        )
    return parts


def _check_classes(layout: Layout) -> None:
    where, one_a_class = str(layout.root), "make one sub-directory a class, with its pictures in it"
    if not layout.class_names:
        raise DataError("the data folder has no sub-directories", where=where, fix=one_a_class)
    if len(layout.class_names) == 1:
        (only,) = layout.class_names
        inside = _folders_in(layout.root / only) if (layout.root / only).is_dir() else []
        raise DataError(
            f"the data folder has one class only, {only!r}: there is nothing to tell apart",
            where=where,
            fix=f"did you mean {layout.root / only}?" if len(inside) > 1 else one_a_class,
        )
    for class_name in layout.class_names:
        if not layout.counts[class_name]:
            raise DataError(
                f"the class {class_name!r} has no pictures ({', '.join(SUFFIXES)})",
                where=where,
                fix="add some, or remove its sub-directory",
            )


def readable(name: str) -> str:
    """A file name that can be shown and written: bytes that are no UTF-8 are replaced."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _visible(folder: Path) -> list[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as fault:
        raise DataError(f"the folder cannot be read: {fault.strerror}", where=str(folder)) from fault
    return [entry for entry in entries if not entry.name.startswith(".") and entry.name not in IGNORED]


def _folders_in(folder: Path) -> list[Path]:
    return [entry for entry in _visible(folder) if entry.is_dir()]


def _loose_files(root: Path, folder: Path) -> list[str]:
    return [entry.relative_to(root).as_posix() for entry in _visible(folder) if entry.is_file()]


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def files_below(folder: Path, above: frozenset[tuple[int, int]] = frozenset()) -> Iterator[Path]:
    """All that is no folder in `folder` and below. Links are followed, not to folders that are `above`."""
    identity = _identity(folder)
    if identity in above:
        return
    for entry in _visible(folder):
        if entry.is_dir():
            yield from files_below(entry, above | {identity})
        else:  # a link to nothing, a pipe, a device: told of as a broken picture
            yield entry
