"""Fashion-MNIST: ten kinds of clothes, laid out as MNIST is; from a local folder, else downloaded.

Source: H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine learning
algorithms", 2017. MIT licence.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from edgecnn.data import Options, Source, Splits, places
from edgecnn.data.download import fetch
from edgecnn.data.mnist_digits import load_idx
from edgecnn.ondevice.manifest import Preprocessing
from edgecnn.progress import Progress

FOLDER = "fashion-mnist"
URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
# sha256 of the unpacked files, and of the archives at URL.
FILES = {
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
ARCHIVES = {
    "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
}
SHA256 = hashlib.sha256("".join(FILES.values()).encode()).hexdigest()
CLASS_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


def find(options: Options, folders: tuple[Path, ...]) -> Source:
    """Its four files, in a folder `fashion-mnist` of `folders`; what is missing is downloaded when read."""

    def read(_: Preprocessing, progress: Progress) -> Splits:
        found = places.first_with((f"{FOLDER}/{name}" for name in FILES), folders)
        folder = found / FOLDER if found else _downloaded(progress)
        return load_idx(folder, FILES, CLASS_NAMES, fix="remove it: it is then downloaded again")

    return Source(CLASS_NAMES, SHA256, read)


def _downloaded(progress: Progress) -> Path:
    folder = places.cache() / FOLDER
    for name, sha256 in ARCHIVES.items():
        fetch(URL + name, folder / name, sha256=sha256, progress=progress)
    return folder
