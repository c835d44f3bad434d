"""Each converter in an environment of its own, made with exact versions and kept for the next time."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
OURS = "edgecnn"
PIP_MINUTES = 30


@dataclass(frozen=True)
class Converter:
    """`module` is its runner, `min_python` what its packages ask for; ours runs in this environment."""

    module: str
    min_python: tuple[int, int] = (3, 11)
    is_ours: bool = False


CONVERTERS = {
    OURS: Converter("run_edgecnn", is_ours=True),
    "litert-torch": Converter("run_litert_torch"),
    "onnx2tf": Converter("run_onnx2tf", min_python=(3, 12)),
    "tensorflow": Converter("run_tensorflow"),
}


class EnvironmentFailure(Exception):  # noqa: N818 - it is what the table shows
    """There is no environment for a converter, and why."""


def python_of(name: str, cache: Path, interpreters: Iterable[str] = ()) -> Path:
    """The Python that runs the converter `name`; its environment is made in `cache` where it is not there yet.

    Raises EnvironmentFailure where it cannot be made.
    """
    converter = CONVERTERS[name]
    if converter.is_ours:
        return Path(sys.executable)
    wanted = (HERE / "requirements" / f"{name}.txt").read_text()
    folder = cache.resolve() / name
    installed = folder / "installed.txt"
    python = folder / "bin" / "python"
    if installed.is_file() and installed.read_text() == wanted and python.exists():
        return python
    shutil.rmtree(folder, ignore_errors=True)
    cache.mkdir(parents=True, exist_ok=True)
    (cache / ".gitignore").write_text("*\n")
    print(f"making the environment of {name} (minutes, gigabytes) ...", file=sys.stderr, flush=True)
    _run([interpreter_for(converter.min_python, interpreters), "-m", "venv", str(folder)])
    requirements = str(HERE / "requirements" / f"{name}.txt")
    _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements])
    installed.write_text(wanted)  # last: a folder without it is half made
    return python


def interpreter_for(min_python: tuple[int, int], interpreters: Iterable[str]) -> str:
    """The first of this Python, `interpreters` and what PATH has that is new enough."""
    on_path = (f"python3.{minor}" for minor in range(min_python[1], min_python[1] + 3))
    for candidate in (sys.executable, *interpreters, *on_path):
        ask = "import sys; print(*sys.version_info[:2])"
        try:
            answer = subprocess.run([candidate, "-c", ask], capture_output=True, text=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError):
            continue  # not there, or a shim of a version that is not installed
        major, minor = map(int, answer.split())
        if (major, minor) >= min_python:
            return candidate
    version = ".".join(map(str, min_python))
    raise EnvironmentFailure(f"it needs Python {version} or newer: name one by --python")


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=PIP_MINUTES * 60)
    except subprocess.CalledProcessError as fault:
        errors = [line for line in fault.stderr.splitlines() if line.startswith("ERROR")] or [fault.stderr]
        raise EnvironmentFailure(f"pip: {errors[-1].strip()[:300]}") from fault
    except subprocess.TimeoutExpired as fault:
        raise EnvironmentFailure(f"pip took more than {PIP_MINUTES} minutes") from fault


def run_module(python: Path, module: str, *arguments: str, log: Path, timeout_s: float) -> str:
    """Runs `converters.<module>`; returns why it failed, or nothing. What it prints goes to `log`."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(ROOT)]),
        # TensorFlow looks for a GPU and tells of it otherwise.
        "CUDA_VISIBLE_DEVICES": "",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "ORT_DISABLE_TELEMETRY": "1",
    }
    command = [str(python), "-m", f"converters.{module}", *arguments]
    with log.open("w") as output:
        try:
            code = subprocess.run(
                command, env=environment, stdout=output, stderr=output, timeout=timeout_s, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            return f"took more than {timeout_s:.0f} s"
    if code == 0:
        return ""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    # A negative code is the signal that ended it: native code crashed, and has told nothing.
    return (
        f"ended by signal {-code}" if code < 0 else (lines[-1].strip()[:300] if lines else f"exit code {code}")
    )
