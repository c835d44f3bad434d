"""Arm instructions that one inference takes, counted under qemu-user: a figure without noise, for gates.

It is no latency: instructions are not cycles, and caches are not counted. It tells whether a file got cheaper
or dearer on a core, to the instruction, on any Linux machine and without a board.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgecnn import captured, files
from edgecnn.errors import TargetError, UsageError
from edgecnn.ondevice.runtimes import RUNTIMES, runtime_class
from edgecnn.targets import process, zipapp

# MIDR_EL1 part numbers and features as Linux shows them. The runtimes choose their kernels by both.
_ARMV8_0 = "fp asimd evtstrm crc32 cpuid"
_ARMV8_2 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"
CPUS = {
    "cortex-a53": ("0xd03", _ARMV8_0),
    "cortex-a72": ("0xd08", _ARMV8_0),
    "cortex-a76": ("0xd0b", _ARMV8_2),
}
"""Raspberry Pi 3 and Zero 2 W; 4; 5."""
ROOT_VARIABLE = "EDGECNN_ARM64_ROOT"
PACKAGES = "qemu-user qemu-user-static mmdebstrap proot gcc libc6-dev"
PYTHONS = {"tflite-runtime": "/opt/tflite-runtime/python"}
# The first inferences allocate, and Python adapts its own code to them; then the counts stay the same.
N_RUNS = 40
N_WARM_UP = 30
TIMEOUT_S = 900
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Count:
    """Retired instructions of one inference at batch 1 on one thread; `counts` are those of single inferences.

    `instructions` is the median of the steady ones; `spread` is how far these lie apart, as a share of it.
    """

    file: str
    sha256: str
    cpu: str
    runtime: str
    runtime_version: str
    instructions: int
    spread: float
    counts: tuple[int, ...]


def count(model: Path, cpu: str, *, runtime: str | None = None, root: Path | None = None) -> Count:
    """Counts one model file on one core. `root` is an arm64 system made by `arm_root.sh`.

    Raises UsageError where something must be installed first, TargetError where the model does not run there.
    """
    root = _require(model, root)
    runtime = runtime or _preferred(model)
    with tempfile.TemporaryDirectory(prefix="edgecnn-count-") as name:
        folder = Path(name)
        answer = _run(model, cpu, runtime, root, folder)
        counts = _between_marks((folder / "marks").read_text())
    if len(counts) != N_RUNS:
        raise TargetError(f"{len(counts)} of {N_RUNS} inferences were counted", where=model.name)
    steady = counts[N_WARM_UP:]
    middle = int(statistics.median(steady))
    spread = (max(steady) - min(steady)) / middle
    sha256 = files.sha256_of(model)
    return Count(model.name, sha256, cpu, runtime, answer["runtime_version"], middle, spread, counts)


def _require(model: Path, root: Path | None) -> Path:
    """The arm64 system. Raises UsageError that says what is missing and how to get it."""
    if model.suffix.lower() not in (".onnx", ".tflite"):
        raise UsageError("not a .onnx or .tflite file", where=str(model))
    if not model.is_file():
        raise UsageError("there is no such file", where=str(model))
    if sys.platform != "linux":
        raise UsageError("instructions are counted by qemu-user, which runs on Linux only")
    missing = [tool for tool in ("qemu-aarch64", "proot", "gcc") if shutil.which(tool) is None]
    if missing:
        raise UsageError(
            f"there is no {', '.join(missing)}", fix=f"on Debian and Ubuntu: apt-get install {PACKAGES}"
        )
    root = root or Path(os.environ.get(ROOT_VARIABLE) or Path.home() / ".cache" / "edgecnn" / "arm64-root")
    if not (root / "opt" / "litert" / "python").is_file():
        raise UsageError(
            "there is no arm64 system to run the model in",
            where=str(root),
            fix=f"make one: sudo bash {HERE / 'arm_root.sh'} {root}; or name another with --root",
        )
    return root


def _preferred(model: Path) -> str:
    return "onnxruntime" if model.suffix.lower() == ".onnx" else "litert"


def _run(model: Path, cpu: str, runtime: str, root: Path, folder: Path) -> dict[str, Any]:
    """Runs the model in `root`, with the machine that it sees made in `folder`; marks go to `folder`/marks."""
    if runtime not in RUNTIMES or runtime_class(runtime).model_format != model.suffix.lower().lstrip("."):
        raise UsageError(f"{runtime} does not run this file", where=str(model), fix=f"use {_preferred(model)}")
    plugin = _plugin(model, folder)
    _make_machine(cpu, folder)
    (folder / zipapp.NAME).write_bytes(zipapp.build())
    # The same name for all: its length would be counted, too.
    counted = f"model{model.suffix.lower()}"
    shutil.copyfile(model, folder / counted)
    emulator = f"qemu-aarch64 -cpu {cpu} -plugin {plugin},out={folder}/marks"
    command = ["proot", "-q", emulator, "-r", str(root), "-b", "/proc", "-b", f"{folder}/cpuinfo:/proc/cpuinfo"]
    command += ["-b", f"{folder}/sys:/sys", "-b", f"{folder}:/counted", "-b", str(folder), "-w", "/"]
    # Nothing of our environment: its size would move the stack, and the hash seed the order of things.
    command += ["/usr/bin/env", "-i", "PYTHONHASHSEED=0", "PYTHONDONTWRITEBYTECODE=1", "PATH=/usr/bin:/bin"]
    command += ["/bin/sh", PYTHONS.get(runtime, "/opt/litert/python"), f"/counted/{zipapp.NAME}", "marked"]
    command += [f"/counted/{counted}", "--runtime", runtime, "--runs", str(N_RUNS)]
    done = _ended(command, model.name)
    return process.answer_of(done.returncode, done.stdout, done.stderr, verb="count", about=model.name)


def _ended(command: Sequence[str], about: str) -> captured.Ended:
    """Raises TargetError where it takes too long, or writes without end."""
    try:
        done = captured.run(command, timeout_s=TIMEOUT_S, env=os.environ)
    except subprocess.TimeoutExpired as fault:
        raise process.timed_out("count", about, TIMEOUT_S) from fault
    if done.is_flood:
        raise process.flood("count", about, done.stderr)
    return done


def _plugin(model: Path, folder: Path) -> Path:
    plugin = folder / "libinstructions.so"
    command = ["gcc", "-O2", "-shared", "-fPIC", "-o", str(plugin), str(HERE / "instructions.c")]
    done = _ended(command, model.name)
    if done.returncode != 0:
        raise UsageError(f"gcc cannot compile qemu's plugin:\n{done.stderr}", fix=f"apt-get install {PACKAGES}")
    return plugin


def _make_machine(cpu: str, folder: Path) -> None:
    """What /proc/cpuinfo and /sys say: it must fit the emulated core, or the runtimes crash."""
    part, features = CPUS[cpu]
    core = (
        f"BogoMIPS\t: 108.00\nFeatures\t: {features}\nCPU implementer\t: 0x41\nCPU architecture: 8\n"
        f"CPU variant\t: 0x0\nCPU part\t: {part}\nCPU revision\t: 3\n\n"
    )
    (folder / "cpuinfo").write_text("".join(f"processor\t: {n}\n{core}" for n in range(4)))
    system = folder / "sys" / "devices" / "system" / "cpu"
    system.mkdir(parents=True)
    for name in ("possible", "present"):
        (system / name).write_text("0-3\n")


def _between_marks(text: str) -> tuple[int, ...]:
    """The instructions between each even mark and the odd one after it."""
    lines = (line.split() for line in text.splitlines() if line.startswith("mark "))
    marks = {int(k): int(retired) for _, k, retired in lines}
    return tuple(marks[k + 1] - marks[k] for k in sorted(marks) if k % 2 == 0 and k + 1 in marks)
