"""Feeds damaged files to everything that reads files, and reports what does not end in a clear error.

    python tools/fuzz.py                                    # 200,000 executions over all readers
    python tools/fuzz.py --executions 5000 --targets convert inspect-tflite --seed 7

Real files are damaged at random (bits flipped, numbers made huge, pieces cut, doubled, moved, mixed with
another file) and read in a child process. A finding is an exception that is no EdgeCNNError, a crash of the
process, more than 5 s, or more than 2 GiB of memory. The input of each goes to `--corpus`, where the tests read
it again. The same seed gives the same inputs.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import multiprocessing
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
CORPUS = ROOT / "tests" / "fuzz" / "corpus"
LONGEST_S = 5.0
MOST_BYTES = 2 * 2**30
HUGE = np.array([0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF], np.uint32)


def read_recipe(path: Path) -> None:
    from edgecnn import recipe_file

    recipe_file.load(path)


def read_idx(path: Path) -> None:
    from edgecnn.data.idx import parse_idx

    parse_idx(path.read_bytes(), where=str(path))


def read_manifest(path: Path) -> None:
    from edgecnn.ondevice.manifest import DeviceError, Manifest

    with contextlib.suppress(DeviceError):
        Manifest.read_for(path.with_suffix(""))


def read_baseline(path: Path) -> None:
    from edgecnn.check import baseline

    baseline.read(path)


@contextlib.contextmanager
def called(name: str, path: Path) -> Iterator[Path]:
    """A folder in which the file at `path` has that name."""
    with tempfile.TemporaryDirectory(prefix="edgecnn-fuzz-") as folder:
        Path(folder, name).symlink_to(path.absolute())
        yield Path(folder)


def read_report(path: Path) -> None:
    from edgecnn import build_folder

    with called(build_folder.REPORT, path) as folder:
        build_folder.read_report(folder)


def read_analysis(path: Path) -> None:
    from edgecnn import build_folder
    from edgecnn.records import Report

    empty = Report(recipe={"name": "x"}, environment={}, artifacts=(), stages=(), parity=(), verdicts=())
    with called(build_folder.ANALYSIS, path) as folder:
        build_folder.read_analysis(folder, empty)


def read_lock(path: Path) -> None:
    from edgecnn import provenance

    with called(provenance.LOCK_FILE, path) as folder:
        provenance.check(folder, provenance.read(folder))


def read_metadata(path: Path) -> None:
    from edgecnn.export.tflite import metadata

    metadata.read(path)


def read_npz(path: Path) -> None:
    from edgecnn.data.npz import ARRAYS, NpzFile

    file = NpzFile(path)
    file.class_names()
    for pairs in ARRAYS.values():
        for images, _ in pairs:
            if images in file.names:
                file.images(images, channels=1)


def read_weights(path: Path) -> None:
    """In this process: what takes it down is a finding here, and an error of the worker elsewhere."""
    from edgecnn.training.weights import tensors_in

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tensors_in(path)


def convert(path: Path) -> None:
    from edgecnn.export.tflite import convert

    convert(path)


def inspect(path: Path) -> None:
    from edgecnn.inspection import inspect

    inspect(path)


def read_picture(path: Path) -> None:
    from edgecnn.ondevice.manifest import DeviceError, Preprocessing
    from edgecnn.ondevice.preprocess import decode_picture

    with contextlib.suppress(DeviceError):
        decode_picture(path, Preprocessing(28, 28, 1, (0.1,), (0.3,)))


@dataclass(frozen=True)
class Target:
    """A reader, and the real files that are damaged for it."""

    read: Callable[[Path], None]
    seeds: Callable[[Path], list[Path]]
    suffix: str


def models_for_tests() -> Any:
    """The module of the tests that writes them."""
    sys.path.insert(0, str(ROOT / "tests"))
    return importlib.import_module("tiny_models")


def models(folder: Path) -> list[Path]:
    """Small model files of every kind."""
    tiny_models = models_for_tests()

    tiny_models.write_onnx(folder / "fp32.onnx")
    tiny_models.write_qdq_onnx(folder / "int8.onnx")
    tiny_models.write_tflite(folder / "fp32.tflite", quantized=False)
    tiny_models.write_tflite(folder / "int8.tflite", quantized=True)
    return sorted(folder.iterdir())


def onnx_models(folder: Path) -> list[Path]:
    quantized = sorted((ROOT / "tests" / "fixtures" / "qdq").glob("*.onnx"))
    return [path for path in models(folder) if path.suffix == ".onnx"] + [
        path for path in quantized if path.stat().st_size < 100_000
    ]


def tflite_models(folder: Path) -> list[Path]:
    from edgecnn.export.tflite import convert

    made = [path for path in models(folder) if path.suffix == ".tflite"]
    for source in onnx_models(folder):
        path = folder / f"{source.stem}.made.tflite"
        path.write_bytes(convert(source).data)
        made.append(path)
    return made


def manifests(folder: Path) -> list[Path]:
    found = []
    for model in models(folder):
        path = folder / f"{model.name}.json"
        path.write_text(models_for_tests().manifest_for(model, model.stem).to_json())
        found.append(path)
    return found


def idx_files(folder: Path) -> list[Path]:
    path = folder / "images.idx"
    path.write_bytes(b"\0\0\x08\x03" + b"".join(n.to_bytes(4, "big") for n in (3, 4, 5)) + bytes(range(60)))
    return [path]


def kept(kind: str) -> Callable[[Path], list[Path]]:
    """The files of that kind which the tests keep, one of every version."""
    return lambda _: sorted((ROOT / "tests" / "fixtures" / "versions").glob(f"{kind}_*.json"))


def metadata_files(folder: Path) -> list[Path]:
    path = folder / "metadata.json"
    path.write_text('{"name": "a", "labels": ["x", "y"], "mean": [1.0], "std": [2.0]}')
    return [path, *kept("manifest")(folder)]


def npz_files(folder: Path) -> list[Path]:
    images = np.random.default_rng(0).integers(0, 256, (8, 5, 4)).astype(np.uint8)
    arrays = {"x_train": images, "y_train": np.arange(8) % 2, "class_names": np.array(["cat", "dog"])}
    np.savez(folder / "plain.npz", **arrays)
    np.savez_compressed(folder / "packed.npz", **arrays)
    return sorted(folder.glob("*.npz"))


def pth_files(folder: Path) -> list[Path]:
    import torch

    state = {"conv1.weight": torch.ones(2, 1, 3, 3), "fc.bias": torch.zeros(4)}
    torch.save(state, folder / "zip.pth")
    torch.save({"state_dict": state}, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    return sorted(folder.glob("*.pth"))


def safetensors_files(folder: Path) -> list[Path]:
    import torch
    from safetensors.torch import save_file

    save_file({"conv1.weight": torch.ones(2, 1, 3, 3), "fc.bias": torch.zeros(4)}, folder / "w.safetensors")
    return [folder / "w.safetensors"]


def pictures(folder: Path) -> list[Path]:
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 3)).astype(np.uint8)
    for suffix in ("png", "jpg", "webp", "bmp"):
        Image.fromarray(pixels).save(folder / f"picture.{suffix}")
    return sorted(folder.glob("picture.*"))


def recipes(_: Path) -> list[Path]:
    return sorted((ROOT / "recipes").glob("*.yaml"))


TARGETS = {
    "recipe": Target(read_recipe, recipes, ".yaml"),
    "idx": Target(read_idx, idx_files, ".idx"),
    "manifest": Target(read_manifest, manifests, ".json"),
    "baseline": Target(read_baseline, lambda _: [ROOT / "edgecnn-baseline.json"], ".json"),
    "report": Target(read_report, kept("report"), ".json"),
    "analysis": Target(read_analysis, kept("analysis"), ".json"),
    "lock": Target(read_lock, kept("lock"), ".json"),
    "metadata": Target(read_metadata, metadata_files, ".json"),
    "npz": Target(read_npz, npz_files, ".npz"),
    "pth": Target(read_weights, pth_files, ".pth"),
    "safetensors": Target(read_weights, safetensors_files, ".safetensors"),
    "picture": Target(read_picture, pictures, ".img"),
    "convert": Target(convert, onnx_models, ".onnx"),
    "inspect-onnx": Target(inspect, onnx_models, ".onnx"),
    "inspect-tflite": Target(inspect, tflite_models, ".tflite"),
}


def damaged(content: bytes, other: bytes, generator: np.random.Generator) -> bytes:
    """`content` with one to four damages, some of them pieces of `other`."""
    data = bytearray(content)
    for _ in range(int(generator.integers(1, 5))):
        kind = int(generator.integers(6))
        at = int(generator.integers(len(data) + 1))
        length = int(min(len(data) - at, generator.geometric(0.05)))
        if kind == 0 and at < len(data):
            data[at] ^= 1 << int(generator.integers(8))
        elif kind == 1:
            size = int(generator.choice([1, 2, 4]))
            data[at : at + size] = int(generator.choice(HUGE)).to_bytes(4, "little")[:size]
        elif kind == 2:
            del data[at : at + length]
        elif kind == 3:
            data[at:at] = data[at : at + length] * int(generator.integers(1, 4))
        elif kind == 4:
            del data[at:]
        else:
            start = int(generator.integers(len(other) + 1))
            data[at : at + length] = other[start : start + length]
    return bytes(data)


def inputs(seeds: list[bytes], seed: int, numbers: range) -> Iterator[tuple[int, bytes]]:
    """The inputs of these numbers: each depends on its number and `seed` alone."""
    for number in numbers:
        generator = np.random.default_rng((seed, number))
        first, second = generator.integers(len(seeds), size=2)
        yield number, damaged(seeds[first], seeds[second], generator)


def child(connection: Connection, name: str, seeds: list[bytes], seed: int, numbers: range) -> None:
    """Reads inputs until one is a finding; tells the number of each before it is read."""
    from edgecnn.errors import EdgeCNNError

    target = TARGETS[name]
    with tempfile.TemporaryDirectory(prefix="edgecnn-fuzz-") as folder:
        path = Path(folder, f"input{target.suffix}")
        warm_up(target, path, seeds)
        limit = in_use_bytes() + MOST_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        for number, content in inputs(seeds, seed, numbers):
            connection.send(number)
            path.write_bytes(content)
            try:
                target.read(path)
            except EdgeCNNError:
                pass
            except BaseException:  # noqa: BLE001
                connection.send(traceback.format_exc())
                return
    connection.send(None)


def warm_up(target: Target, path: Path, seeds: list[bytes]) -> None:
    """What is imported at the first call is no memory of an input."""
    for content in seeds:
        path.write_bytes(content)
        target.read(path)


def in_use_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


@dataclass(frozen=True)
class Finding:
    target: str
    number: int
    content: bytes
    said: str

    def keep(self, corpus: Path) -> Path:
        suffix = TARGETS[self.target].suffix
        path = corpus / self.target / f"{hashlib.sha256(self.content).hexdigest()[:12]}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.content)
        return path


def fuzz(name: str, executions: int, seed: int) -> Iterator[Finding]:
    """Every finding among so many inputs; after each the child is started anew behind it."""
    with tempfile.TemporaryDirectory(prefix="edgecnn-fuzz-") as folder:
        seeds = [path.read_bytes() for path in TARGETS[name].seeds(Path(folder))]
    context = multiprocessing.get_context("spawn")
    start = 0
    while start < executions:
        ours, theirs = context.Pipe()
        process = context.Process(target=child, args=(theirs, name, seeds, seed, range(start, executions)))
        process.start()
        theirs.close()
        number, said = watch(ours, process)
        process.kill()
        process.join()
        if said is None:
            return
        start = number + 1
        [(_, content)] = inputs(seeds, seed, range(number, number + 1))
        yield Finding(name, number, content, said)


def watch(connection: Connection, process: multiprocessing.process.BaseProcess) -> tuple[int, str | None]:
    """The last number that was begun, and what became of it; None: all were read."""
    # Imports and the first calls take their time.
    number, patience = -1, 120.0
    while True:
        try:
            if not connection.poll(patience):
                return number, f"took more than {LONGEST_S:.0f} s"
            message = connection.recv()
        except EOFError:
            process.join(5)
            return number, f"the process ended by itself: exit code {process.exitcode}"
        if not isinstance(message, int):
            return number, message
        number, patience = message, LONGEST_S


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--executions", type=int, default=200_000, help="over all targets")
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--corpus", type=Path, default=CORPUS)
    options = parser.parse_args()
    each = -(-options.executions // len(options.targets))
    n_found = 0
    for name in options.targets:
        started, found = time.monotonic(), 0
        for finding in fuzz(name, each, options.seed):
            found += 1
            print(f"{name} {finding.number}: {finding.keep(options.corpus)}\n{finding.said}", flush=True)
        n_found += found
        print(f"{name:<15} {each:>7,} inputs  {found} findings  {time.monotonic() - started:.0f} s", flush=True)
    return 1 if n_found else 0


if __name__ == "__main__":
    sys.exit(main())
