"""A virtual environment in ~/edgecnn/venv with a runtime in it. Nothing outside that folder is changed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Sequence

LAST_WORDS = 5


def install(packages: Sequence[str]) -> Dict[str, Any]:
    """Makes the environment where there is none, and installs what is not there yet.

    The system's packages stay visible in it: picamera2 is one, and its numpy spares a download.
    """
    folder = Path.home() / "edgecnn" / "venv"
    python = folder / "bin" / "python"
    # Of the system, also where this is the Python of an earlier such environment.
    system_python = getattr(sys, "_base_executable", sys.executable)
    if not _works([str(python), "-m", "pip", "--version"]):
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = _run([system_python, "-m", "venv", "--clear", "--system-site-packages", str(folder)])
        if made.returncode != 0:
            return {
                "error": "the board's Python cannot make a virtual environment" + _last_words(made),
                "fix": "on the board: sudo apt install python3-venv; then again with --fix",
            }
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    installed = _run([*pip, "--only-binary=:all:", *packages])
    if installed.returncode != 0:
        return {
            "error": f"pip cannot install {' '.join(packages)}" + _last_words(installed),
            "fix": "check the board's way to the internet and its free disk space; then again with --fix",
        }
    return {"python": str(python), "packages": list(packages)}


def _works(command: List[str]) -> bool:
    try:
        return _run(command).returncode == 0
    except OSError:
        return False


def _run(command: List[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def _last_words(process: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in process.stdout.splitlines() if line.strip()][-LAST_WORDS:]
    return "".join("\n  | " + line for line in lines)
