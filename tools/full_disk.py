"""Lets the disk be full in the middle of commands, and looks at what they say and leave.

    python tools/full_disk.py                 # 20 amounts of free space, for each command
    python tools/full_disk.py --points 5

The disk is a small tmpfs in a mount namespace of its own (`unshare`, from util-linux): a user may mount one
where the system lets users have namespaces. Where it does not, this ends with exit code 77.

The free space goes from nothing to a little less than what the command needs. Each time the command must end
with exit code 3, name what it could not write and say that the disk is full. What lay there before must be as
it was, nothing may be left half-written, and with room the same command must give the same files as one that
had room all the time. The same on a disk that is read-only.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import chaos
from click.testing import CliRunner, Result

from edgecnn import files, stages
from edgecnn.cli import cli

NO_MOUNTS = 77
NAMESPACES = (("--user", "--map-root-user", "--mount"), ("--mount",))
DISK_MB = 64
MOUNT = ("mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs")
FULL, READ_ONLY = "the disk is full", "the file system is read-only"


class Disk:
    """The tmpfs at `root`, most of which one file takes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._ballast = root / "ballast"

    def leave(self, free_bytes: int | None) -> None:
        """So much free space, in whole pages; None: all there is."""
        self._ballast.unlink(missing_ok=True)
        if free_bytes is None:
            return
        found = os.statvfs(self.root)
        with self._ballast.open("wb") as file:
            n_pages = found.f_bavail - free_bytes // found.f_bsize
            os.posix_fallocate(file.fileno(), 0, n_pages * found.f_bsize)

    def used_bytes(self) -> int:
        found = os.statvfs(self.root)
        return (found.f_blocks - found.f_bavail) * found.f_bsize

    @contextmanager
    def read_only(self) -> Iterator[None]:
        try:
            subprocess.run(["mount", "-o", "remount,ro", str(self.root)], check=True)
            yield
        finally:
            subprocess.run(["mount", "-o", "remount,rw", str(self.root)], check=True)


@dataclass(frozen=True)
class Trial:
    """A command that writes below the folder `where`, and the bytes that it needs there. `before` gives the
    hashes of what must stay as it was where it fails, `after` those of what it makes, which are `expected`.
    """

    name: str
    command: tuple[str | Path, ...]
    where: Path
    need_bytes: int
    before: Callable[[], dict[str, str]]
    after: Callable[[], dict[str, str]]
    expected: dict[str, str]


def run(*command: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(part) for part in command])


def hashes(folder: Path) -> dict[str, str]:
    """sha256 by name of the files that lie in `folder` itself."""
    return {path.name: files.sha256_of(path) for path in sorted(folder.iterdir()) if path.is_file()}


def lasting(folder: Path) -> dict[str, str]:
    """Of a build: every file that a user sees, without times."""
    return {name: sha256 for name, sha256 in chaos.fingerprint(folder).items() if "/" not in name}


def faults_of(trial: Trial, result: Result, before: dict[str, str], said: str) -> Iterator[str]:
    """What is wrong with how a command ended that could not write, and with what it left."""
    told = result.stderr.strip()[-400:]
    if result.exit_code != 3:
        yield f"exit code {result.exit_code}: {told}"
    elif said not in told or str(trial.where) not in told or "Traceback" in result.output:
        yield f"it says: {told}"
    if trial.before() != before:
        yield "what was there before is not as it was"
    for path in sorted(trial.where.rglob("*.tmp")):
        yield f"left over: {path}"
    for path in trial.where.glob(f"{stages.FOLDER}/*/*/{stages.DONE}"):
        promised = json.loads(path.read_text(encoding="utf-8"))["files"]
        if promised.items() - hashes(path.parent).items():
            yield f"a stage that is said to be done is not: {path.parent}"


def faults(trial: Trial, disk: Disk, points: int) -> list[str]:
    """Those of a command at so many amounts of free space, on a disk that is read-only, and with room."""
    before, found = trial.before(), []
    used_bytes = disk.used_bytes()
    for k in range(points):
        # What was finished before, and stays, has taken its part of the space.
        room = k * trial.need_bytes // points
        disk.leave(max(0, room - (disk.used_bytes() - used_bytes)))
        result = run(*trial.command)
        found += [f"room for {room:,} bytes: {one}" for one in faults_of(trial, result, before, FULL)]
        disk.leave(None)
    with disk.read_only():
        result = run(*trial.command)
        found += [f"read-only: {one}" for one in faults_of(trial, result, before, READ_ONLY)]
    result = run(*trial.command)
    if result.exit_code != 0:
        return [*found, f"with room: exit code {result.exit_code}: {result.stderr.strip()[-400:]}"]
    return [*found, *(["with room it writes other files"] if trial.after() != trial.expected else [])]


def trials(inputs: Path, disk: Disk) -> Iterator[Trial]:
    """Each is begun when the one before has ended."""
    recipe, whole = inputs / "short.yaml", disk.root / "whole"
    unused_bytes = disk.used_bytes()
    checked("build", recipe, "-o", whole)
    build_bytes = disk.used_bytes() - unused_bytes
    whole = Path(shutil.move(whole, inputs))

    out = disk.root / "out"
    checked("build", recipe, "-o", out, "--set", "seed=1", "--set", "train.epochs=1")
    command: tuple[str | Path, ...] = ("build", recipe, "-o", out)
    yield Trial("build", command, out, build_bytes, lambda: hashes(out), lambda: lasting(out), lasting(whole))
    shutil.rmtree(out)

    yield scratch_trial(recipe, inputs / "elsewhere", disk.root / "scratch", lasting(whole))

    for name, file, *words in (
        ("convert", "model.tflite", "convert", whole / "short.int8.onnx", "-o"),
        ("report --html", "report.html", "report", whole, "--html", "-o"),
        ("baseline update", "baseline.json", "baseline", "update", whole, "--baseline"),
        ("deploy --to", "model.tar.gz", "deploy", whole, "--to"),
    ):
        yield file_trial(name, tuple(words), disk.root / name.split()[0] / file)


def scratch_trial(recipe: Path, out: Path, scratch: Path, expected: dict[str, str]) -> Trial:
    """A build with room for its files, and none for what it hands to other processes."""
    scratch.mkdir()
    tempfile.tempdir = str(scratch)
    n_bytes = chaos.N_IMAGES["test"] * 28 * 28
    command = ("build", recipe, "-o", out)
    return Trial(
        "build, TMPDIR", command, scratch, n_bytes, lambda: hashes(scratch), lambda: lasting(out), expected
    )


def file_trial(name: str, words: tuple[str | Path, ...], path: Path) -> Trial:
    """A command that writes one file, over an older one."""
    tempfile.tempdir = None
    path.parent.mkdir()
    checked(*words, path)
    made = path.read_bytes()
    path.write_bytes(made + b"\n")  # another file, and one that a command can read which looks at it first
    expected = {path.name: hashlib.sha256(made).hexdigest()}
    state = partial(hashes, path.parent)
    return Trial(name, (*words, path), path.parent, len(made), state, state, expected)


def checked(*command: str | Path) -> None:
    result = run(*command)
    if result.exit_code != 0:
        sys.exit(f"with room, {' '.join(map(str, command))} failed: {result.output}")


def inside(folder: Path, points: int) -> int:
    """In the namespace. The exit code: 1 where anything was wrong."""
    root = folder / "disk"
    root.mkdir()
    subprocess.run([*MOUNT, str(root)], check=True)
    disk, inputs = Disk(root), folder / "inputs"
    inputs.mkdir()
    chaos.write_inputs(inputs)
    os.chdir(inputs)
    chaos.measure_briefly()
    n_wrong = 0
    for trial in trials(inputs, disk):
        found = faults(trial, disk, points)
        n_wrong += bool(found)
        said = "NOT WELL" if found else "a clear error each time, nothing lost, equal files with room"
        print(
            f"{trial.name:<16} {points} points from 0 to {trial.need_bytes:,} bytes, read-only: {said}",
            flush=True,
        )
        for one in found:
            print(f"    {one}")
    return 1 if n_wrong else 0


def namespace() -> tuple[str, ...]:
    """The command that runs another one where it may mount. Raises OSError, with the reason, where none may."""
    reason = "unshare is not installed"
    for kind in NAMESPACES:
        with tempfile.TemporaryDirectory() as folder:
            try:
                tried = subprocess.run(
                    ["unshare", *kind, *MOUNT, folder], capture_output=True, text=True, check=False
                )
            except OSError:
                continue
        if tried.returncode == 0:
            return ("unshare", *kind)
        reason = tried.stderr.strip()
    raise OSError(reason)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=20, help="amounts of free space, for each command")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        return inside(options.inside, options.points)
    try:
        prefix = namespace()
    except OSError as fault:
        print(f"no disk can be mounted here: {fault}")
        return NO_MOUNTS
    with tempfile.TemporaryDirectory(prefix="edgecnn-full-disk-") as folder:
        environment = {**os.environ, "XDG_CACHE_HOME": str(Path(folder, "cache"))}
        command = [*prefix, sys.executable, __file__, "--inside", folder, "--points", str(options.points)]
        return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
