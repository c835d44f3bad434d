"""Kills builds at random moments, goes on with them, and compares all that they leave with a build left alone.

    python tools/chaos.py                     # 30 kills
    python tools/chaos.py --kills 5 --seed 7

The build is a short one: LeNet-5 on a few hundred of the digits that ship with edgecnn, pruned, quantized,
exported and measured. SIGKILL goes to its whole process group. The moments are spread over all of the build, as
long as it takes undisturbed; some builds are killed several times. In the end every file must be the same,
stage results included, but for times and what is said of them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgecnn import data
from edgecnn.build_folder import HOLDER, LOCK, MODEL_CARD, READY, REPORT
from edgecnn.provenance import LOCK_FILE
from edgecnn.stages import DONE, FOLDER
from edgecnn.steps import measurements

RECIPE = """\
version: 1
name: short
data: {npz: {path: digits.npz, size: 28, channels: 1}}
model: lenet5
train: {epochs: 6, threads: 1, learning_rate: 3e-3}
compress:
  - prune: {ratio: 0.5, steps: 2, finetune_epochs: 2}
  - quantize: {calibration_images: 50, engine: onnxruntime}
"""
# The command line of edgecnn, in a process that measures briefly.
BUILD = f"""\
import sys
sys.path.insert(0, {str(Path(__file__).resolve().parent)!r})
import chaos
chaos.measure_briefly()
from edgecnn.cli import main
main()
"""
N_IMAGES = {"train": 600, "val": 200, "test": 200}
# Of three builds about one is killed more than once.
KILLS_OF_A_BUILD = (1, 1, 1, 1, 2, 3)
# Where a machine is faster than it was, a build ends before its kill: it is tried again, killed earlier.
N_TRIES, SOONER = 6, 0.8
NOT_RESULTS = {str(path) for path in (LOCK, HOLDER)}
TIMES = {"seconds", "finished", "records", *measurements.TIMING_FIELDS}


def measure_briefly() -> None:
    """Times one file, for a moment: what the machine is worth is not what is tried here."""
    all_files = measurements.benchmark_files
    measurements.ROUNDS, measurements.MIN_TOTAL_S = 1, 0.02
    measurements.benchmark_files = lambda paths, *others, **options: all_files(paths[-1:], *others, **options)


def write_inputs(folder: Path) -> None:
    """The recipe and its digits."""
    splits = data.load("mnist")
    parts = zip(N_IMAGES, (splits.train, splits.validation, splits.test), strict=True)
    arrays = {}
    for name, part in parts:
        arrays[f"x_{name}"], arrays[f"y_{name}"] = (
            values[: N_IMAGES[name]] for values in (part.images_nhwc, part.labels)
        )
    np.savez_compressed(folder / "digits.npz", **arrays)
    (folder / "short.yaml").write_text(RECIPE)


def start_build(inputs: Path, output: Path, core: int | None = None) -> subprocess.Popen[str]:
    """A build in a process group of its own, on one core: the work of two cannot be compared in time."""

    def pin() -> None:
        if core is not None:
            os.sched_setaffinity(0, {core})

    return subprocess.Popen(
        [sys.executable, "-c", BUILD, "build", "short.yaml", "-o", str(output)],
        cwd=inputs,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=pin,  # noqa: PLW1509
    )


def finish(build: subprocess.Popen[str]) -> str:
    """Waits for the end; what is wrong with it, or nothing."""
    _, stderr = build.communicate()
    return "" if build.returncode == 0 else f"exit code {build.returncode}: {stderr[-600:].strip()}"


def fingerprint(folder: Path) -> dict[str, str]:
    """sha256 by name of every file below a build folder, without times."""
    names = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {
        name: hashlib.sha256(_lasting(path)).hexdigest()
        for name, path in sorted(names.items())
        if name not in NOT_RESULTS
    }


def _lasting(path: Path) -> bytes:
    """What is in a file and is the same in every build: no times, and no sentences about them."""
    if path.name == MODEL_CARD:
        return b""
    if path.name not in (DONE, REPORT, LOCK_FILE):
        return path.read_bytes()
    found = json.loads(path.read_text(encoding="utf-8"))
    if path.name == REPORT:
        del found["notes"]
    if path.name == LOCK_FILE:
        for name in (REPORT, MODEL_CARD):
            del found["outputs"][name]
    return json.dumps(_timeless(found), sort_keys=True).encode()


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(inner) for key, inner in value.items() if key not in TIMES}
    return [_timeless(inner) for inner in value] if isinstance(value, list) else value


@dataclass(frozen=True)
class Undisturbed:
    """A build that nobody killed: seconds until it has claimed its folder and until its end, and its files."""

    begin_s: float
    end_s: float
    files: dict[str, str]
    stages: tuple[str, ...]

    def seconds_at(self, share: float, done: float = 0.0) -> float:
        """How long a build that begins at the share `done` of its work runs until it is at `share`."""
        return self.begin_s + (share - done) * (self.end_s - self.begin_s)


def undisturbed(inputs: Path, output: Path, core: int | None) -> Undisturbed:
    started = time.monotonic()
    build = start_build(inputs, output, core)
    while not (output / LOCK).exists() and build.poll() is None:
        time.sleep(0.005)
    begin_s = time.monotonic() - started
    fault = finish(build)
    if fault:
        sys.exit(f"the undisturbed build failed: {fault}")
    end_s = time.monotonic() - started
    lock = json.loads((output / LOCK_FILE).read_text(encoding="utf-8"))
    return Undisturbed(begin_s, end_s, fingerprint(output), tuple(lock["stages"]))


@dataclass(frozen=True)
class Kill:
    """A kill: at which share of the work it was due, after how many seconds it came, and what it hit."""

    share: float
    after_s: float
    stage: str


@dataclass(frozen=True)
class Outcome:
    """A build that was killed, once or more, and ended; `fault` is empty where its files are the right ones."""

    kills: tuple[Kill, ...]
    fault: str


def draw(n_kills: int, seed: int) -> Iterator[tuple[float, ...]]:
    """For each build the shares of its work, 0..1, at which it is killed: one in each n-th of the whole."""
    generator = random.Random(seed)
    shares = [(k + generator.random()) / n_kills for k in range(n_kills)]
    generator.shuffle(shares)
    while shares:
        n = min(len(shares), generator.choice(KILLS_OF_A_BUILD))
        yield tuple(sorted(shares.pop() for _ in range(n)))


def killed(
    inputs: Path, output: Path, shares: Sequence[float], whole: Undisturbed, core: int | None
) -> Outcome:
    """A build that is killed at each of `shares`, goes on each time, and is compared with `whole`."""
    for attempt in range(N_TRIES):
        out = output.with_name(f"{output.name}.{attempt}")
        kills = _kill_at(inputs, out, shares, whole, core, SOONER**attempt)
        if kills is not None:
            fault = finish(start_build(inputs, out, core))
            return Outcome(kills, fault or _difference(whole.files, fingerprint(out)))
    sys.exit(f"a build ended before it could be killed at {shares}, {N_TRIES} times")


def _kill_at(
    inputs: Path, output: Path, shares: Sequence[float], whole: Undisturbed, core: int | None, pace: float
) -> tuple[Kill, ...] | None:
    """None where the build ended before."""
    kills: list[Kill] = []
    done = 0.0
    for share in shares:
        build = start_build(inputs, output, core)
        seconds = pace * whole.seconds_at(share, done)
        try:
            build.communicate(timeout=seconds)
            return None
        except subprocess.TimeoutExpired:
            os.killpg(build.pid, signal.SIGKILL)
            build.communicate()
        kills.append(Kill(share, seconds, where(output, whole.stages)))
        done = share
    return tuple(kills)


def where(folder: Path, stages: Sequence[str]) -> str:
    """What a build was doing when it was killed, by what it has left."""
    if not (folder / LOCK).exists():
        return "start"
    begun = [name for name in stages if (folder / FOLDER / name).is_dir()]
    unfinished = [name for name in begun if not list((folder / FOLDER / name).glob(f"*/{DONE}"))]
    if unfinished:
        epochs = [
            json.loads(path.read_text(encoding="utf-8"))["epoch"]
            for path in (folder / FOLDER / unfinished[0]).glob("*/checkpoint*/checkpoint.json")
        ]
        return f"{unfinished[0]}, {sum(epochs)} epochs saved" if epochs else unfinished[0]
    if len(begun) < len(stages):
        return f"before {stages[len(begun)]}"
    published = (folder / LOCK_FILE).exists() and not (folder / READY).exists()
    return "after the last file" if published else "publish"


def _difference(expected: dict[str, str], found: dict[str, str]) -> str:
    missing, more = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    changed = sorted(name for name in expected.keys() & found.keys() if expected[name] != found[name])
    said = {"missing": missing, "left over": more, "other bytes": changed}
    return "; ".join(f"{what}: {', '.join(names)}" for what, names in said.items() if names)


def chaos(folder: Path, n_kills: int, seed: int, jobs: int) -> list[Outcome]:
    """Kills as many builds at once as there are `jobs`, each on a core of its own."""
    write_inputs(folder)
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [None]
    chosen = [cores[k % len(cores)] for k in range(jobs)]
    with ThreadPoolExecutor(jobs) as pool:
        alone = [(folder, folder / f"undisturbed-{core}", core) for core in dict.fromkeys(chosen)]
        first = list(pool.map(lambda arguments: undisturbed(*arguments), alone))
        whole = min(first, key=lambda one: one.end_s)
        if any(one.files != whole.files for one in first):
            sys.exit(f"two undisturbed builds differ: {_difference(first[0].files, first[-1].files)}")
        print(f"undisturbed: {whole.begin_s:.1f} s until its folder is claimed, {whole.end_s:.1f} s in all")
        builds = list(draw(n_kills, seed))
        return list(
            pool.map(
                lambda k: killed(folder, folder / f"killed-{k}", builds[k], whole, chosen[k % jobs]),
                range(len(builds)),
            )
        )


def show(outcomes: Sequence[Outcome]) -> None:
    print("build  of the work  after     while                           in the end")
    for number, outcome in enumerate(outcomes, 1):
        for kill in outcome.kills:
            said = "equal" if not outcome.fault else "NOT EQUAL"
            print(f"{number:>5}  {kill.share:>11.0%}  {kill.after_s:>5.1f} s  {kill.stage:<32}  {said}")
        if outcome.fault:
            print(f"       {outcome.fault}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="builds at once")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edgecnn-chaos-") as folder:
        outcomes = chaos(Path(folder), options.kills, options.seed, options.jobs)
    show(outcomes)
    n_kills = sum(len(outcome.kills) for outcome in outcomes)
    n_equal = sum(len(outcome.kills) for outcome in outcomes if not outcome.fault)
    n_several = sum(len(outcome.kills) > 1 for outcome in outcomes)
    print(f"{n_equal} of {n_kills} equal ({len(outcomes)} builds, {n_several} of them killed more than once)")
    return 0 if n_equal == n_kills else 1


if __name__ == "__main__":
    sys.exit(main())
