"""Writes requirements.lock: the exact version of everything that edgecnn[train,dev] needs, for each Python.

    python tools/lock.py python3.11 python3.12 python3.13

Each interpreter resolves the dependencies of pyproject.toml with its own pip (nothing is installed); the
results become one file, with a marker where they differ. What torch's CUDA builds pull in is left to torch:
its CPU build wants none of it.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
EXTRAS = ("train", "dev")
LEFT_TO_TORCH = re.compile(r"nvidia-.*|triton|cuda-.*")


def requirements() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    return [*project["dependencies"], *(one for extra in EXTRAS for one in optional[extra])]


def requirements_sha256() -> str:
    """The hash that ties the lock to pyproject.toml."""
    return hashlib.sha256("\n".join(requirements()).encode()).hexdigest()


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def resolve(interpreter: str) -> tuple[str, dict[str, str]]:
    """The interpreter's "3.11", and the version of every package that its pip would install."""
    with tempfile.TemporaryDirectory() as folder:
        venv = Path(folder, "venv")
        subprocess.run([interpreter, "-m", "venv", venv], check=True)
        python = venv / "bin" / "python"
        version = subprocess.run(
            [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
            check=True, capture_output=True, text=True,
        ).stdout.strip()  # fmt: skip
        command = [python, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
        report = Path(folder, "report.json")
        subprocess.run([*command, "--report", report, *requirements()], check=True)
        installed = json.loads(report.read_text(encoding="utf-8"))["install"]
    versions = {normalized(one["metadata"]["name"]): one["metadata"]["version"] for one in installed}
    kept = {
        # A local label (+cpu) names a build; the version is the same.
        name: number.partition("+")[0]
        for name, number in versions.items()
        if not LEFT_TO_TORCH.fullmatch(name)
    }
    return version, kept


def markers() -> dict[str, str]:
    """The platform part of the markers in pyproject.toml, by package."""
    found = {}
    for requirement in requirements():
        spec, _, marker = requirement.partition(";")
        platform = [part for part in marker.split(" and ") if "platform" in part]
        if platform:
            found[normalized(re.split(r"[<>=!~\[ ]", spec)[0])] = " and ".join(p.strip() for p in platform)
    return found


def merged(resolutions: dict[str, dict[str, str]]) -> list[str]:
    pythons = sorted(resolutions, key=lambda version: [int(part) for part in version.split(".")])
    pins: dict[tuple[str, str], list[str]] = defaultdict(list)
    for python in pythons:
        for name, version in resolutions[python].items():
            pins[name, version].append(python)
    platforms = markers()
    lines = []
    for (name, version), on in sorted(pins.items()):
        conditions = []
        if on != pythons:
            tests = [f"python_version {'>=' if p == pythons[-1] else '=='} '{p}'" for p in on]
            conditions.append(f"({' or '.join(tests)})" if len(tests) > 1 else tests[0])
        if name in platforms:
            conditions.append(platforms[name])
        lines.append(f"{name}=={version}" + (f" ; {' and '.join(conditions)}" if conditions else ""))
    return lines


def main(interpreters: list[str]) -> None:
    resolutions = dict(resolve(interpreter) for interpreter in interpreters)
    header = [
        "# Exact versions of everything that edgecnn[train,dev] needs. Do not edit: made by",
        f"#   python tools/lock.py {' '.join('python' + version for version in resolutions)}",
        f"# requirements-sha256: {requirements_sha256()}",
    ]
    LOCK.write_text("\n".join([*header, *merged(resolutions)]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:] or [sys.executable])
