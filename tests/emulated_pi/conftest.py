"""The boards, each started once, and what is measured on them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from emulated_pi.emulated_board import EmulatedPi, emulated
from PIL import Image

import edgecnn
from edgecnn import data
from edgecnn.steps import measurements

RECIPE = """\
version: 1
name: {name}
data: mnist
model: lenet5
train: {{epochs: 2, threads: 2}}
compress:
{prune}  - quantize: {{calibration_images: 100, engine: onnxruntime}}
"""
# The demo's widths.
PRUNE = "  - prune: {widths: [6, 13, 20, 16], criterion: taylor, finetune_epochs: 2}\n"


@pytest.fixture(scope="session")
def builds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of two builds of LeNet-5 with short training, float and int8: `dense` and `pruned`."""
    folder = tmp_path_factory.mktemp("builds")
    for name, prune in (("dense", ""), ("pruned", PRUNE)):
        recipe = folder / f"{name}.yaml"
        recipe.write_text(RECIPE.format(name=name, prune=prune))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(measurements, "ROUNDS", 1)
            patch.setattr(measurements, "MIN_TOTAL_S", 0.05)
            edgecnn.build(recipe, folder / name)
    return {name: folder / name for name in ("dense", "pruned")}


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
