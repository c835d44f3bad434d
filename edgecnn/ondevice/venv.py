"""A virtual environment in ~/edgecnn/venv with a runtime in it. Nothing outside that folder is changed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from edgecnn.ondevice.written import MOST_STDERR, Written

LAST_WORDS = 5


def install(packages: Sequence[str]) -> Dict[str, Any]:
    """Makes the environment where there is none, and installs what is not there yet.

    One that another version of Python made is made anew; `replaced` tells which.
    The system's packages stay visible in it: picamera2 is one, and its numpy spares a download.
    """
    folder = Path.home() / "edgecnn" / "venv"
    python = folder / "bin" / "python"
    if not _is_ours(folder):
        return {
            "error": f"{folder} is no virtual environment, or a link to one: it is left as it is",
            "fix": "move it away, then again with --fix",
        }
    replaced = _other_python(folder)
    if replaced or not _works([str(python), "-m", "pip", "--version"]):
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = _run([_system_python(), "-m", "venv", "--clear", "--system-site-packages", str(folder)])
        if made.returncode != 0:
            return {
                "error": "the board's Python cannot make a virtual environment" + _last_words(made),
                "fix": "on the board: sudo apt install python3-venv; then again with --fix",
            }
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    # --no-user: pip's own configuration may say that all goes to the user's packages, outside the environment.
    installed = _run([*pip, "--no-user", "--only-binary=:all:", *packages])
    if installed.returncode != 0:
        return {
            "error": f"pip cannot install {' '.join(packages)}" + _last_words(installed),
            "fix": "check the board's way to the internet and its free disk space; then again with --fix",
        }
    return {"python": str(python), "packages": list(packages), "replaced": replaced}


def _is_ours(folder: Path) -> bool:
    """Whether all in it may be removed: it is an environment, or what is left of one that was never whole.

    A link leads to somebody's own.
    """
    if folder.is_symlink():
        return False
    return (folder / "pyvenv.cfg").is_file() or not any(path.is_file() for path in folder.rglob("*"))


def _other_python(folder: Path) -> Optional[str]:
    """The version of Python, such as 3.9, that made the environment, where it is another than this one's.

    After an upgrade of the system its `python` may be the new one, which sees nothing of what is in it.
    """
    try:
        text = (folder / "pyvenv.cfg").read_text(errors="replace")
    except OSError:
        return None
    made_by = re.search(r"^version(?:_info)? *= *(\d+\.\d+)", text, re.MULTILINE)
    if made_by is None or made_by[1] == "{}.{}".format(*sys.version_info):
        return None
    return made_by[1]


def _system_python() -> str:
    """The Python of which the environment of this one was made; this one where it is in none.

    An environment made of another would end with it. Before Python 3.11, `_base_executable` is not that.
    """
    major, minor = sys.version_info[:2]
    base = Path(sys.base_prefix, "bin", f"python{major}.{minor}")
    if sys.prefix != sys.base_prefix and base.is_file():
        return str(base)
    return getattr(sys, "_base_executable", sys.executable)


def _works(command: List[str]) -> bool:
    try:
        return _run(command).returncode == 0
    except OSError:
        return False


def _run(command: List[str]) -> subprocess.CompletedProcess[str]:
    """Its last words are kept. One that writes without end is ended."""
    said = Written(MOST_STDERR)
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0
    ) as process:
        assert process.stdout is not None
        while not said.is_flood and (block := process.stdout.read(1 << 16)):
            said.add(block)
        if said.is_flood:
            process.kill()
    return subprocess.CompletedProcess(command, process.returncode, said.text)


def _last_words(process: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in process.stdout.splitlines() if line.strip()][-LAST_WORDS:]
    return "".join("\n  | " + line for line in lines)
