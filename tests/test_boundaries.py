"""What must stay light, and what must stay in step."""

from __future__ import annotations

import subprocess
import sys
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from recipes_for_tests import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import lock

HEAVY = ("torch", "neural_compressor", "onnxscript", "torch_pruning", "matplotlib")

PROBE = """
import sys
{code}
print("heavy:" + ",".join(name for name in {heavy!r} if name in sys.modules))
"""


def heavy_imports_of(code: str) -> str:
    """Which heavy packages are loaded after `code` ran in a fresh Python."""
    script = PROBE.format(code=code, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1].removeprefix("heavy:")


def test_the_probe_can_fail() -> None:
    assert heavy_imports_of("import torch") == "torch"


@pytest.mark.parametrize(
    "code",
    [
        "import edgecnn",
        "import edgecnn.cli; edgecnn.cli.cli(['--help'], standalone_mode=False)",
        "import edgecnn.pipeline",
        "import edgecnn.export.tflite",
        "from edgecnn.report import terminal, markdown, tables, html, model_card",
        "from edgecnn import recipe_file; recipe_file.load('recipes/mnist_lenet5_int8.yaml')",
    ],
)
def test_what_needs_no_training_loads_no_torch(code: str) -> None:
    assert heavy_imports_of(f"import os; os.chdir({str(ROOT)!r}); {code}") == ""


def test_the_help_screen_loads_next_to_nothing() -> None:
    script = (
        "import sys, edgecnn.cli; edgecnn.cli.cli(['--help'], standalone_mode=False);"
        "print([m for m in ('numpy', 'onnx', 'pydantic', 'yaml', 'rich', 'onnxruntime') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_onnxruntime_leaves_nothing_in_the_home_folder(tmp_path: object) -> None:
    code = (
        "import os, pathlib; home = pathlib.Path(os.environ['HOME']);"
        "from edgecnn.ondevice.runtimes import runtime_class;"
        "runtime_class('onnxruntime').import_package();"
        "print(sorted(str(p.relative_to(home)) for p in home.rglob('*') if p.is_file()))"
    )
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_lock_is_in_step_with_pyproject() -> None:
    text = lock.LOCK.read_text()
    assert f"requirements-sha256: {lock.requirements_sha256()}" in text, "run: make lock"
    assert "python tools/lock.py" in text, "the file says how it was made"


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_the_lock_satisfies_every_requirement(python: str) -> None:
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "platform_machine": "x86_64",
        "platform_system": "Linux",
        "os_name": "posix",
    }
    pins: dict[str, Version] = {}
    for line in lock.LOCK.read_text().splitlines():
        if line and not line.startswith("#"):
            pin = Requirement(line)
            if pin.marker is None or pin.marker.evaluate(environment):
                assert pin.name not in pins, f"{pin.name} is pinned twice for Python {python}"
                (specifier,) = pin.specifier
                pins[pin.name] = Version(specifier.version)
    for text in lock.requirements():
        wanted = Requirement(text)
        if wanted.marker is None or wanted.marker.evaluate(environment):
            name = lock.normalized(wanted.name)
            assert name in pins, f"{name} is missing for Python {python}"
            assert wanted.specifier.contains(pins[name], prereleases=True), text


def test_the_base_install_has_no_torch() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    base = {lock.normalized(Requirement(text).name) for text in project["dependencies"]}
    assert not base & {"torch", "neural-compressor", "torch-pruning", "onnxscript", "matplotlib"}
    train = {lock.normalized(Requirement(text).name) for text in project["optional-dependencies"]["train"]}
    assert {"torch", "neural-compressor", "torch-pruning", "onnxscript"} <= train
