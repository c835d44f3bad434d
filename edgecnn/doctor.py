"""What a machine has and lacks for running models, each with what to do about it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from edgecnn.errors import UsageError
from edgecnn.export.tflite import runtimes as known_operators
from edgecnn.inspection import inspect
from edgecnn.inspection.onnx_graph import read_graph
from edgecnn.targets import answers
from edgecnn.targets.remote import VENV_PYTHON, RemoteTarget
from edgecnn.targets.target import Target

Status = Literal["ok", "note", "lacks"]
# pip and a runtime with its numpy.
FIX_TIMEOUT_S = 1800
LEAST_MEMORY_BYTES = 400 * 10**6
LEAST_DISK_BYTES = 500 * 10**6
HOT_C = 75
NEWEST_32_BIT = (3, 11)
_TABLES = known_operators.RUNTIMES
RUNTIMES = ("ai-edge-litert", "tflite-runtime", "onnxruntime")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `lacks` keeps models from running; `note` makes figures worth less."""

    about: str
    status: Status
    found: str
    advice: str | None = None


@dataclass(frozen=True)
class _Installed:
    """What `ondevice.venv` answers."""

    python: str
    packages: tuple[str, ...]
    replaced: str | None = None


def examine(target: Target, models: Sequence[Path] = ()) -> list[Finding]:
    """Everything that is worth saying of a machine, and of whether it can run `models`."""
    facts = target.survey()
    found = [*findings(facts), *(finding for model in models for finding in _operators(model, facts))]
    return [*found, *_python_of_its_own(target, facts, found)]


def fix(target: Target) -> dict[str, Any]:
    """Makes ~/edgecnn/venv on the board, with the runtimes that fit. Raises UsageError where none fits.

    `replaced` is the version of the Python whose environment was there before, if it was another.
    """
    if not isinstance(target, RemoteTarget):
        raise UsageError("this machine is not changed", fix="pip install ai-edge-litert onnxruntime pillow")
    facts = target.survey()
    packages = fitting_packages(facts)
    if packages is None:
        raise UsageError(_no_wheel(facts), where=target.name, fix=_IMAGE)
    answer = target.board.run(["venv", *packages], about=target.name, timeout_s=FIX_TIMEOUT_S)
    return asdict(answers.checked(_Installed, answer, "--fix", target.name))


def _python_of_its_own(target: Target, facts: Mapping[str, Any], found: Sequence[Finding]) -> Iterator[Finding]:
    """What --fix cannot mend: it installs in its own environment, and the target names another Python."""
    named = target.board.address.python if isinstance(target, RemoteTarget) else None
    in_ours = PurePosixPath(facts["python_path"]).parent.parts[-3:] == ("edgecnn", "venv", "bin")
    if named and not in_ours and any("--fix" in (one.advice or "") for one in found):
        advice = (
            f"--fix installs in {VENV_PYTHON.removesuffix('/bin/python')} only: after it, write python: "
            f"{VENV_PYTHON} in targets.yaml, or leave python: out; or install in this one by hand"
        )
        yield Finding("targets.yaml", "note", f"python: {named}", advice)


def fitting_packages(facts: Mapping[str, Any]) -> tuple[str, ...] | None:
    """What pip can install there: ai-edge-litert and onnxruntime have 64-bit wheels, tflite-runtime 32-bit ones
    up to Python 3.11. None where nothing fits.
    """
    if facts["bits"] == 64:
        return ("ai-edge-litert", "onnxruntime", "pillow")
    if _release(facts["python"]) > NEWEST_32_BIT or facts["arch"].startswith("armv6"):
        return None
    return ("tflite-runtime", "numpy<2", "pillow")


_IMAGE = "write the 64-bit image of Raspberry Pi OS to the card (a Pi 3 or newer, or a Zero 2 W)"


def _no_wheel(facts: Mapping[str, Any]) -> str:
    return f"there is no runtime for {facts['arch']} in {facts['bits']}-bit with Python {facts['python']}"


def findings(facts: Mapping[str, Any]) -> list[Finding]:
    """What `facts` (see `ondevice.survey`) mean."""
    checks = (
        _machine,
        _python_found,
        _numpy,
        _runtimes,
        _pictures,
        _memory,
        _disk,
        _speed,
        _throttling,
        _emulation,
    )
    return [finding for check in checks for finding in check(facts)]


def _machine(facts: Mapping[str, Any]) -> Iterator[Finding]:
    name = facts["board_model"] or facts["cpu_model"] or "?"
    found = f"{name}, {facts['arch']}, {facts['bits']}-bit, {facts['n_cores']} cores, {facts['os']}"
    if fitting_packages(facts) is None:
        yield Finding("machine", "lacks", found, f"{_no_wheel(facts)}: {_IMAGE}")
    elif facts["bits"] == 32:
        yield Finding("machine", "note", found, f"for 32-bit there is the old tflite-runtime only: {_IMAGE}")
    else:
        yield Finding("machine", "ok", found)


def _python_found(facts: Mapping[str, Any]) -> Iterator[Finding]:
    found = f"{facts['python']} ({facts['python_path']})"
    if facts["in_venv"] or set(RUNTIMES) & set(facts["packages"]):
        yield Finding("Python", "ok", found)
    elif not facts["has_venv_module"]:
        advice = "it cannot make virtual environments: sudo apt install python3-venv"
        yield Finding("Python", "note", found, advice)
    elif facts["externally_managed"]:
        yield Finding(
            "Python", "note", found, "the system's own, where pip installs nothing: --fix makes a venv"
        )
    else:
        yield Finding("Python", "ok", found)


def _numpy(facts: Mapping[str, Any]) -> Iterator[Finding]:
    version = facts["packages"].get("numpy")
    if version is None:
        yield Finding("numpy", "lacks", "not installed", "--fix installs it")
    elif "tflite-runtime" in facts["packages"] and _release(version)[0] >= 2:
        only = not {"ai-edge-litert", "onnxruntime"} & set(facts["packages"])
        advice = 'tflite-runtime was built for numpy 1: pip install "numpy<2" there'
        yield Finding("numpy", "lacks" if only else "note", version, advice)
    else:
        yield Finding("numpy", "ok", version)


def _runtimes(facts: Mapping[str, Any]) -> Iterator[Finding]:
    found = [f"{name} {facts['packages'][name]}" for name in RUNTIMES if name in facts["packages"]]
    if found:
        yield Finding("runtimes", "ok", ", ".join(found))
    else:
        yield Finding("runtimes", "lacks", "none", "--fix installs what fits in ~/edgecnn/venv")


def _pictures(facts: Mapping[str, Any]) -> Iterator[Finding]:
    version = facts["packages"].get("pillow")
    camera = "picamera2 is there" if facts["has_picamera2"] else "no picamera2"
    advice = None if version else "PNG and JPEG cannot be read there: --fix installs it"
    yield Finding("Pillow", "ok" if version else "note", f"{version or 'not installed'}; {camera}", advice)


def _memory(facts: Mapping[str, Any]) -> Iterator[Finding]:
    size = facts["memory_bytes"]
    if size is not None:
        small = size < LEAST_MEMORY_BYTES
        advice = (
            "a runtime needs about 100 MB: stop the desktop (raspi-config, Boot, Console)" if small else None
        )
        yield Finding("memory", "note" if small else "ok", _gigabytes(size), advice)


def _disk(facts: Mapping[str, Any]) -> Iterator[Finding]:
    free = facts["disk_free_bytes"]
    small = free < LEAST_DISK_BYTES
    advice = "runtimes and test images take up to 0.5 GB: free some space" if small else None
    yield Finding("disk", "note" if small else "ok", f"{_gigabytes(free)} free", advice)


def _gigabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f} GB"


def _speed(facts: Mapping[str, Any]) -> Iterator[Finding]:
    clock = f"{facts['clock_mhz']:.0f} MHz" if facts["clock_mhz"] else "clock not told"
    governor = facts["governor"]
    if governor in (None, "performance"):
        yield Finding("clock", "ok", clock + (f", governor {governor}" if governor else ""))
        return
    yield Finding(
        "clock",
        "note",
        f"{clock}, governor {governor}",
        "the clock follows the load; for steady figures: "
        "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor",
    )


def _throttling(facts: Mapping[str, Any]) -> Iterator[Finding]:
    flags, celsius = facts["throttle_flags"], facts["temperature_c"]
    found = f"{celsius:.0f} C" if celsius is not None else "temperature not told"
    if flags and flags & 0xF:
        advice = "it is slowed down now: a stronger power supply, cooling"
    elif flags and flags & 0xF0000:
        advice = "it was slowed down since it was started: a stronger power supply, cooling; then restart it"
    elif celsius is not None and celsius > HOT_C:
        advice = "near the limit at which it slows down: cooling"
    else:
        yield Finding("throttling", "ok", found + ("" if flags is None else f", flags {flags:#x}"))
        return
    yield Finding("throttling", "note", found + (f", flags {flags:#x}" if flags is not None else ""), advice)


def _emulation(facts: Mapping[str, Any]) -> Iterator[Finding]:
    if facts["emulated"]:
        yield Finding("emulation", "note", "this is no real board", "its milliseconds mean nothing")


def _operators(model: Path, facts: Mapping[str, Any]) -> Iterator[Finding]:
    """Whether the runtimes there know the operators of a file, in the versions that it has."""
    file = inspect(model)
    if file.format == "onnx":
        yield _known_to_onnxruntime(model, facts["packages"].get("onnxruntime"))
        return
    versions = {(one.operator, one.version or 1) for one in file.layers}
    yield from _known_to_tflite(model.name, versions, facts)
    # Of an operator that our converter does not write, no table here says which runtime has it.
    if others := sorted({operator for operator, _ in versions} - _TABLES["litert"].keys()):
        advice = "whether the runtimes have these is not known here; try it: edgecnn benchmark MODEL --target T"
        yield Finding(model.name, "note", f"it has {', '.join(others)}", advice)


# Release -> the newest opset of ai.onnx and the newest IR version that it loads, until the next row. Up to 1.14
# from https://onnxruntime.ai/docs/reference/compatibility.html. The later ones as they were tried with a file
# of one node: the table there ends with 1.20, and names an older IR version for 1.15 than it loads.
_ONNXRUNTIME = (
    ((1, 32), 28, 14),
    ((1, 24), 25, 13),
    ((1, 23), 23, 11),
    ((1, 21), 22, 10),
    ((1, 18), 21, 10),
    ((1, 17), 20, 9),
    ((1, 15), 19, 9),
    ((1, 14), 18, 8),
    ((1, 12), 17, 8),
    ((1, 11), 16, 8),
    ((1, 9), 15, 8),
    ((1, 8), 14, 7),
)
# Releases from the first up to the second were not tried, nor were those after the last row.
_UNTRIED = ((1, 25), (1, 32))


def _known_to_onnxruntime(model: Path, release: str | None) -> Finding:
    """Whether that release loads a file of such versions; that it has each kernel, only a run tells."""
    name, found = model.name, f"on onnxruntime {release}"
    if release is None:
        return Finding(name, "lacks", "on onnxruntime", "onnxruntime is not installed there: --fix installs it")
    version = _release(release)
    opset, ir_version = next((known for since, *known in _ONNXRUNTIME if version >= since), (0, 0))
    of_file = _versions(model)
    too_new = [
        f"{what} {there}"
        for (what, there), newest in zip(of_file.items(), (opset, ir_version), strict=True)
        if there > newest
    ]
    if not too_new:
        return Finding(name, "ok", found)
    if not opset or _UNTRIED[0] <= version < _UNTRIED[1] or version > _ONNXRUNTIME[0][0]:
        advice = "whether it loads that is not known here; try it: edgecnn benchmark MODEL --target T"
        return Finding(name, "note", f"{found}: {', '.join(too_new)}", advice)
    advice = f"use a newer one there, or export with opset {opset} and IR version {ir_version} at the most"
    return Finding(name, "lacks", f"{found}: not {', '.join(too_new)}", advice)


def _versions(model: Path) -> dict[str, int]:
    """What an .onnx file, which was inspected, says of itself; the opset is that of ONNX's own operators."""
    graph = read_graph(model.read_bytes(), model.parent)
    opset = max(graph.opsets.get("", 0), graph.opsets.get("ai.onnx", 0))
    return {"opset": opset, "IR version": graph.message.last("ir_version", 0)}


def _release(version: str) -> tuple[int, int]:
    """Of "1.24.4" 1 and 24; 0 and 0 of what does not begin so."""
    found = re.match(r"(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _known_to_tflite(name: str, versions: Set[tuple[str, int]], facts: Mapping[str, Any]) -> Iterator[Finding]:
    installed = {p: v for p, v in facts["packages"].items() if p in ("ai-edge-litert", "tflite-runtime")}
    if not installed:
        yield Finding(name, "lacks", "no TFLite runtime", "--fix installs one")
    for package, release in installed.items():
        # Before 2.0 LiteRT had the operators of TensorFlow Lite of its day.
        is_new = package == "ai-edge-litert" and not release.startswith(("0.", "1."))
        runtime = "litert" if is_new else "tflite-runtime==2.14"
        unknown = sorted(
            f"{operator} version {version}"
            for operator, version in versions
            if operator in _TABLES["litert"] and version > _TABLES[runtime].get(operator, 0)
        )
        advice = f"use a newer one, or: edgecnn convert --runtime {runtime}" if unknown else None
        status: Status = "lacks" if unknown and len(installed) == 1 else "note" if unknown else "ok"
        found = f"on {package} {release}" + (f": not {', '.join(unknown)}" if unknown else "")
        yield Finding(name, status, found, advice)
