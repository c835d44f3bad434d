"""The boards, each started once, and what is measured on them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from emulated_pi.checks import DEMO
from emulated_pi.emulated_board import EmulatedPi, emulated
from PIL import Image
from recipes_for_tests import ROOT

import edgecnn
from edgecnn import data

MADE = ROOT / "artifacts" / DEMO / ".stages"


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the demo's build: what `make demo` has made from the same code is taken over.

    Without its budget: a hundred images, or one runtime, are too few for that.
    """
    folder = tmp_path_factory.mktemp("builds") / "demo"
    if MADE.is_dir():
        shutil.copytree(MADE, folder / ".stages", ignore=shutil.ignore_patterns("lock"))
    edgecnn.build(ROOT / "recipes" / f"{DEMO}.yaml", folder, overrides=("budget={}",))
    return folder


@pytest.fixture(scope="session")
def _pi4(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatedPi]:
    with emulated("pi4", tmp_path_factory.mktemp("pi4")) as board:
        yield board


@pytest.fixture(scope="session")
def _pi2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatedPi]:
    with emulated("pi2", tmp_path_factory.mktemp("pi2")) as board:
        yield board


@pytest.fixture
def pi4(_pi4: EmulatedPi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EmulatedPi:
    """A Raspberry Pi 4 with a 64-bit system. Targets: `pi4` has the Python that edgecnn finds there, `litert`
    one that sees ai-edge-litert and onnxruntime, `tflite-runtime` one that sees that.
    """
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    _pi4.name_targets(
        tmp_path, {"litert": "/opt/litert/python", "tflite-runtime": "/opt/tflite-runtime/python"}
    )
    return _pi4


@pytest.fixture
def pi2(_pi2: EmulatedPi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EmulatedPi:
    """A Raspberry Pi 2 with a 32-bit system, and numpy and Pillow from its packages. Targets as of `pi4`,
    without `litert`, which there is not for 32 bits.
    """
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    _pi2.name_targets(tmp_path, {"tflite-runtime": "/opt/tflite-runtime/python"})
    return _pi2


@pytest.fixture
def digit(tmp_path: Path) -> Path:
    """The first test image of MNIST as a PNG file."""
    path = tmp_path / "digit.png"
    Image.fromarray(data.load("mnist").test.images_nhwc[0, :, :, 0]).save(path)
    return path
