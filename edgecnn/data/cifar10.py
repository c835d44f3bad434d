"""CIFAR-10: 32 x 32 colour pictures of ten kinds; 45,000 train, 5,000 validation, 10,000 test.

Source: A. Krizhevsky, "Learning multiple layers of features from tiny images", 2009. The binary version: 10,000
records a file, a label byte and then 3,072 bytes, channel by channel.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.data import Options, Source, Splits, places, split_off_validation
from edgecnn.data.archives import extract
from edgecnn.data.download import fetch
from edgecnn.errors import DataError
from edgecnn.ondevice.manifest import Preprocessing
from edgecnn.progress import Progress

FOLDER = "cifar-10-batches-bin"
ARCHIVE = "cifar-10-binary.tar.gz"
URL = f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}"
ARCHIVE_SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
FILES = {
    "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
}
SHA256 = hashlib.sha256("".join(FILES.values()).encode()).hexdigest()
CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
N_VALIDATION = 5_000
RECORD_BYTES = 1 + 3 * 32 * 32


def find(options: Options, folders: tuple[Path, ...]) -> Source:
    """Its files in a folder `cifar-10-batches-bin` of `folders`, else the archive of them in one of `folders`;
    what is missing is downloaded when read.
    """

    def read(_: Preprocessing, progress: Progress) -> Splits:
        found = places.first_with((f"{FOLDER}/{name}" for name in FILES), folders)
        return load((found or _unpacked(folders, progress)) / FOLDER)

    return Source(CLASS_NAMES, SHA256, read)


def load(folder: Path) -> Splits:
    """CIFAR-10 from the files in `folder`; the last 5,000 training images are the validation split.

    Raises DataError for a missing, truncated or altered file.
    """
    parts = [_read(folder / name, sha256) for name, sha256 in FILES.items()]
    images, labels = (np.concatenate([part[k] for part in parts[:-1]]) for k in (0, 1))
    return split_off_validation((images, labels), parts[-1], CLASS_NAMES, N_VALIDATION)


def _read(path: Path, sha256: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """uint8 images [n, 32, 32, 3] and uint8 labels [n] of one file."""
    try:
        content = path.read_bytes()
    except OSError as fault:
        raise DataError(f"the data file cannot be read: {fault.strerror}", where=str(path)) from fault
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise DataError(
            f"the contents were altered: sha256 is {found}, expected {sha256}",
            where=str(path),
            fix="remove it: it is then downloaded again",
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD_BYTES)
    images_nchw = records[:, 1:].reshape(-1, 3, 32, 32)
    return np.ascontiguousarray(images_nchw.transpose(0, 2, 3, 1)), records[:, 0]


def _unpacked(folders: tuple[Path, ...], progress: Progress) -> Path:
    """The cache, with the files out of the archive, each held to its hash: one packed anew serves as well."""
    cache, given = places.cache(), places.first_with((ARCHIVE,), folders)
    if given:
        archive = given / ARCHIVE
        progress.say(f"unpacking {archive} into {cache}")
    else:
        archive = fetch(URL, cache / ARCHIVE, sha256=ARCHIVE_SHA256, progress=progress)
    extract(archive, cache, members={f"{FOLDER}/{name}": sha256 for name, sha256 in FILES.items()})
    return cache
