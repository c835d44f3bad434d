"""Where weights to start from lie: published ones in a local folder or at their address, or the user's own
file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgecnn import files
from edgecnn.data import places
from edgecnn.data.download import fetch
from edgecnn.errors import DataError
from edgecnn.models import ALL_MODELS, PublishedWeights
from edgecnn.progress import Progress

SUFFIXES = (".safetensors", ".pth", ".pt")


@dataclass(frozen=True)
class Weights:
    """Weights that were found, and perhaps not downloaded yet.

    `sha256` stands for them: that of the user's file, or how that of the published one begins, whichever file
    holds them here.
    """

    sha256: str
    path: Callable[[Progress], Path]


def find(model: str, weights: str | None, folders: Sequence[Path]) -> Weights | None:
    """What `weights` ("imagenet" or a path) means for the network `model`; None for random ones.

    Raises DataError for a file that is not there.
    """
    published = ALL_MODELS[model].published
    if weights is None:
        return None
    if weights == "imagenet" and published:
        return _published(published, places.search_folders(folders))
    path = Path(weights)
    if not path.is_file() or path.suffix not in SUFFIXES:
        raise DataError(
            "there is no such file of weights",
            where=str(path),
            fix=f"give imagenet, or a file ({', '.join(SUFFIXES)}); paths begin where edgecnn runs",
        )
    return Weights(files.sha256_of(path), lambda _: path)


def _published(published: PublishedWeights, folders: Sequence[Path]) -> Weights:
    # The file as it is published serves as well as one that others made of it.
    for name, sha256 in {**published.local, published.file_name: published.sha256_prefix}.items():
        for folder in (place for root in folders for place in (root, root / "weights")):
            if (folder / name).is_file() and files.sha256_of(folder / name).startswith(sha256):
                found = folder / name
                return Weights(published.sha256_prefix, lambda _, found=found: found)  # type: ignore[misc]
    cached = places.cache() / "weights" / published.file_name

    def path(progress: Progress) -> Path:
        return fetch(published.url, cached, sha256=published.sha256_prefix, progress=progress)

    return Weights(published.sha256_prefix, path)
