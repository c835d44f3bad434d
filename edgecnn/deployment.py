"""Putting a model on a board, whole and proven: a folder for each version, tried before it becomes current."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgecnn import build_folder, data, files, metrics
from edgecnn.errors import TargetError, UsageError
from edgecnn.ondevice.manifest import Manifest
from edgecnn.progress import Progress, Silent
from edgecnn.records import Report
from edgecnn.steps.manifests import read_manifest
from edgecnn.steps.networks import source_of
from edgecnn.targets import answers, zipapp
from edgecnn.targets.answers import PathThere
from edgecnn.targets.host import HostTarget
from edgecnn.targets.remote import VENV_PYTHON, RemoteTarget, shell_path
from edgecnn.targets.target import Target

PREFERRED = ("int8.tflite", "int4.tflite", "fp32.tflite", "int8.onnx", "int4.onnx", "fp32.onnx")
# Kernels of two machines differ in the last bit, so near ties may fall the other way; a model that is damaged,
# or fed another preprocessing, agrees on about one image in as many as there are classes.
N_SMOKE_IMAGES = 32
LEAST_AGREEMENT = 0.9


@dataclass(frozen=True)
class Bundle:
    """All that a board needs for one model. `version` is the hash of it."""

    name: str
    model: str
    files: dict[str, bytes]

    @property
    def version(self) -> str:
        parts = [f"{hashlib.sha256(data).hexdigest()} {name}" for name, data in sorted(self.files.items())]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class _Installed:
    """What `ondevice.deployment` answers of a version that it put together."""

    folder: PathThere


@dataclass(frozen=True)
class _Links:
    """What `ondevice.deployment` answers of the versions in use."""

    current: str
    previous: str | None


def bundle(folder: Path, artifact_key: str | None = None, python: str | None = None) -> Bundle:
    """The bundle of one artifact of the build in `folder`; by default the first of PREFERRED that it has.

    Raises UsageError where there is no such artifact, or its file was changed.
    """
    report = build_folder.read_report(folder)
    key = artifact_key or _preferred(report)
    artifact = next((one for one in report.artifacts if one.key == key), None)
    if artifact is None:
        keys = ", ".join(one.key for one in report.artifacts)
        raise UsageError(f"the build has no artifact {key!r}", where=str(folder), fix=f"use one of: {keys}")
    now = build_folder.as_it_is(folder, artifact)
    if now.sha256 != artifact.sha256:
        raise UsageError(
            "the file is not the one that was built", where=str(folder / artifact.file), fix="build again"
        )
    path = folder / artifact.file
    manifest = read_manifest(path)
    name = str(report.recipe["name"])
    contents = {
        path.name: path.read_bytes(),
        path.name + ".json": Manifest.path_for(path).read_bytes(),
        "labels.txt": "".join(f"{label}\n" for label in manifest.class_names).encode(),
        "README.md": _readme(name, path.name, manifest).encode(),
        "predict": _script(path.name, python).encode(),
        zipapp.NAME: zipapp.build(),
    }
    return Bundle(name, path.name, contents)


def _preferred(report: Report) -> str:
    keys = [artifact.key for artifact in report.artifacts]
    return next((key for key in PREFERRED if key in keys), keys[0] if keys else "none")


def _script(model: str, python: str | None) -> str:
    return f"""#!/bin/sh
# Classifies pictures: predict IMAGE_OR_FOLDER..., or what the camera sees: predict --camera [--frames N]
here=$(dirname "$(readlink -f "$0")")
python={shell_path(python or VENV_PYTHON)}
[ -x "$python" ] || python=python3
case "$1" in
  --camera) shift; exec "$python" "$here/{zipapp.NAME}" camera "$here/{model}" --text --top 3 "$@" ;;
  *) exec "$python" "$here/{zipapp.NAME}" predict "$here/{model}" --text --top 3 "$@" ;;
esac
"""


def _readme(name: str, model: str, manifest: Manifest) -> str:
    pre = manifest.preprocessing
    return f"""# {name}

`{model}` ({manifest.precision}, {manifest.size_bytes:,} bytes, sha256 {manifest.file_sha256}), made by edgecnn.

    ./predict picture.png            # or a folder, or several pictures
    ./predict --camera --frames 10   # needs picamera2

It prints the three most probable classes, with the milliseconds for taking the picture, decoding and resizing
it, and running the model. `python3 {zipapp.NAME} benchmark {model}` measures the model by itself.

The input is {pre.width} x {pre.height} with {pre.channels} channel(s); `{model}.json` says how a picture
becomes it, `labels.txt` what the outputs mean. The Python that runs it needs numpy, Pillow and a runtime
(ai-edge-litert, tflite-runtime or onnxruntime).
"""


def write_archive(content: Bundle, path: Path) -> dict[str, Any]:
    """The bundle as a .tar.gz, the same bytes every time."""
    if not path.name.endswith((".tar.gz", ".tgz")):
        raise UsageError("an archive is a .tar.gz", where=str(path), fix="name it such: --to model.tar.gz")
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0, filename="") as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for name, data_ in sorted(content.files.items()):
            entry = tarfile.TarInfo(f"{content.name}-{content.version}/{name}")
            entry.size = len(data_)
            entry.mode = 0o755 if data_[:2] == b"#!" else 0o644
            archive.addfile(entry, io.BytesIO(data_))
    files.write_bytes(path, packed.getvalue())
    return {"file": str(path), "version": content.version, "size_bytes": len(packed.getvalue())}


def deploy(
    folder: Path,
    target: Target,
    *,
    artifact_key: str | None = None,
    data_folders: tuple[Path, ...] = (),
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Installs a version on the board, compares it with this machine, then makes it the current one.

    Raises TargetError where it does not run there, or not as here: then `current` stays what it was.
    """
    board_target = _board(target)
    content = bundle(folder, artifact_key, board_target.board.address.python)
    progress = progress or Silent()
    progress.start("deploy", total=3)
    board = board_target.board
    paths = [board.put(data_, name) for name, data_ in content.files.items()]
    progress.advance(1, "uploaded")
    about = f"{content.name} {content.version}"
    timeout_s = target.timeout_s
    answer = board.run(
        ["deployment", "install", content.name, content.version, *paths], about=about, timeout_s=timeout_s
    )
    installed = answers.checked(_Installed, answer, "deployment", target.name)
    smoke = _smoke(folder, content, board_target, f"{installed.folder}/{content.model}", data_folders)
    progress.advance(1, "tried there")
    answer = board.run(
        ["deployment", "switch", content.name, content.version], about=about, timeout_s=timeout_s
    )
    links = asdict(answers.checked(_Links, answer, "deployment", target.name))
    progress.finish(f"{content.name} {content.version} is current")
    return {"name": content.name, "model": content.model, "folder": installed.folder, **links, **smoke}


def _smoke(
    folder: Path, content: Bundle, target: RemoteTarget, model_there: str, data_folders: tuple[Path, ...]
) -> dict[str, Any]:
    """The installed file over a few test images, there and here. Raises TargetError where they differ."""
    report = build_folder.read_report(folder)
    recipe = build_folder.read_recipe(folder, report)
    test = data.read(source_of(recipe, data_folders), recipe.preprocessing, Silent()).test
    images = test.images_nhwc[np.arange(N_SMOKE_IMAGES) * len(test) // N_SMOKE_IMAGES]
    manifest = read_manifest(folder / content.model)
    host = HostTarget()
    runtime = _first(target.runtimes_for(manifest.format), target)
    here_runtimes = host.runtimes_for(manifest.format)
    here = host.evaluate(
        folder / content.model,
        manifest,
        images,
        runtime if runtime in here_runtimes else _first(here_runtimes, host),
    )
    there = target.evaluate(folder / content.model, manifest, images, runtime, model_there=model_there)
    agreement = metrics.agreement(metrics.top1(here), metrics.top1(there))
    if agreement < LEAST_AGREEMENT:
        raise TargetError(
            f"{content.model} on {runtime} there and here agree on {agreement:.0%} of {len(images)} test"
            " images; it was not made the current one",
            where=target.name,
            fix="try another runtime there: edgecnn doctor",
        )
    return {"runtime": runtime, "n_smoke_images": len(images), "top1_equal": agreement}


def _first(runtimes: tuple[str, ...], target: Target) -> str:
    if not runtimes:
        raise TargetError("no runtime for this file is installed", where=target.name, fix=target.how_to_install)
    return runtimes[0]


def rollback(folder: Path, target: Target) -> dict[str, Any]:
    """Makes the version before the current one of the build in `folder` the current one again."""
    name = str(build_folder.read_report(folder).recipe["name"])
    board = _board(target).board
    answer = board.run(["deployment", "rollback", name], about=name, timeout_s=target.timeout_s)
    return asdict(answers.checked(_Links, answer, "deployment", target.name))


def _board(target: Target) -> RemoteTarget:
    if not isinstance(target, RemoteTarget):
        raise UsageError(
            "this machine is not a board to deploy to",
            fix="name one: --target user@host; or write an archive: --to model.tar.gz",
        )
    return target
