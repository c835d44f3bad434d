"""Installs the wheel with the lowest or newest versions that it allows, and runs the tests that need no torch.

    python tools/dependency_sets.py lowest newest
    python tools/dependency_sets.py newest --python python3.13

Each set gets a virtual environment of its own: what `pip install edgecnn[report]` gives, and pytest. `lowest`
takes the bound that pyproject.toml names for each direct dependency. torch must not be there: a gate in CI
should not download a gigabyte.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# What a user does who does not train: convert, inspect, check, compare, report, measure.
TESTS = (
    "tests/test_units.py",
    "tests/test_gate.py",
    "tests/test_files.py",
    "tests/test_metrics.py",
    "tests/test_target_file.py",
    "tests/test_confined.py",
    "tests/check",
    "tests/inspection",
    "tests/ondevice",
    "tests/data",
    "tests/report",
    "tests/export/tflite/test_writer.py",
    "tests/export/tflite/test_operators.py",
    "tests/export/tflite/test_options.py",
)
# They need torch, a browser, or the tools of development.
NOT_THESE = (
    "tests/check/test_why.py",
    "tests/check/test_ci_files.py",
    "tests/report/html/test_browser.py",
)
COPIED = ("tests", "benchmarks", "recipes", "tools")


def floors() -> list[str]:
    """ "name==version" of every lower bound among the dependencies of a user who does not train."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = []
    for requirement in (*project["dependencies"], *project["optional-dependencies"]["report"]):
        spec, _, marker = requirement.partition(";")
        bound = re.fullmatch(r"([\w.-]+)>=([\w.]+)(?:,.*)?", spec.strip())
        assert bound, f"no lower bound: {requirement}"
        found.append(f"{bound[1]}=={bound[2]}" + (f" ; {marker.strip()}" if marker else ""))
    return found


def check(kind: str, interpreter: str, folder: Path, wheel: Path) -> bool:
    """Whether the tests pass with this set."""
    subprocess.run([interpreter, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    pip = (python, "-m", "pip", "--disable-pip-version-check")
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(floors() if kind == "lowest" else ()) + "\n", encoding="utf-8")
    command = [*pip, "install", "--quiet", "--no-compile", "--only-binary=:all:", "--constraint", constraints]
    subprocess.run([*command, f"{wheel}[report]", "pytest", "hypothesis"], check=True)
    subprocess.run([*pip, "check"], check=True)
    listed = subprocess.run(
        [*pip, "list", "--format=freeze"], check=True, capture_output=True, text=True
    ).stdout
    print(f"{kind}: {' '.join(listed.split())}", flush=True)
    if re.search(r"^torch==", listed, re.MULTILINE):
        print(f"{kind}: torch was installed without [train]")
        return False
    # Without the sources: the installed wheel is what is tested.
    for name in COPIED:
        shutil.copytree(ROOT / name, folder / name)
    for path in (*ROOT.glob("*.*"), ROOT / "Makefile"):
        if path.is_file():
            shutil.copy(path, folder)
    tests = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS]
    ignored = [f"--ignore={path}" for path in NOT_THESE]
    return subprocess.run([*tests, *ignored], cwd=folder, check=False).returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="+", choices=("lowest", "newest"))
    parser.add_argument("--python", default=sys.executable)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edgecnn-sets-") as name:
        source = Path(name, "source")
        shutil.copytree(
            ROOT, source, ignore=shutil.ignore_patterns(".*", "artifacts", "build", "*.egg-info", "tests")
        )
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", name, source]
        subprocess.run(command, check=True)
        (wheel,) = Path(name).glob("*.whl")
        failed = []
        for kind in options.kinds:
            folder = Path(name, kind)
            folder.mkdir()
            if not check(kind, options.python, folder, wheel):
                failed.append(kind)
    print(f"failed: {', '.join(failed)}" if failed else "every set passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
