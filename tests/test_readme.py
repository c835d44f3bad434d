"""What the README shows is so: its recipe is the demo's, its script runs, its commands exist."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
import yaml
from check.builds import build
from PIL import Image
from recipes_for_tests import ROOT

from edgecnn import data
from edgecnn.cli import cli
from edgecnn.export.onnx import export_onnx
from edgecnn.export.tflite import convert
from edgecnn.models import build_model
from edgecnn.ondevice import predict as ondevice_predict
from edgecnn.ondevice.manifest import Manifest

README = (ROOT / "README.md").read_text()


def block(language: str, containing: str) -> str:
    return next(
        text for text in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL) if containing in text
    )


def test_the_recipe_shown_is_the_one_that_the_demo_builds() -> None:
    recipe = (ROOT / "recipes" / "mnist_lenet5_int8.yaml").read_text()
    assert block("yaml", "version: 1") == recipe


def test_the_output_shown_is_of_the_demo() -> None:
    shown = block("", "test images")
    for key in ("dense fp32 (ref)", "fp32.onnx", "fp32.tflite", "int8.onnx", "int8.tflite", "pass"):
        assert key in shown


def test_every_command_is_listed_and_every_listed_command_exists() -> None:
    listed = set(re.findall(r"^\| `edgecnn (\w+)", README, re.MULTILINE))
    assert listed == set(cli.commands)
    for name, option in re.findall(r"edgecnn (\w+) [^`\n]*?(--[a-z-]+)", README):
        if name in cli.commands:
            flags = [flag for p in cli.commands[name].params if isinstance(p, click.Option) for flag in p.opts]
            assert option in flags, f"edgecnn {name} has no {option}"


def test_the_files_that_it_links_to_exist() -> None:
    for target in re.findall(r"\]\(([^)h][^)]*)\)", README):
        assert (ROOT / target).exists(), target


GATED = "artifacts/mnist_lenet5_int8"


def commands_of_the_gate() -> tuple[list[str], str]:
    """What the README has typed once, and what it has the CI run."""
    chapter = README.split("## Gate your CI in five lines")[1].split("\n## ")[0]
    typed = [line.strip() for line in chapter.splitlines() if re.match(r"    (edgecnn|git) ", line)]
    (step,) = (
        one["run"] for one in yaml.safe_load(block("yaml", "edgecnn check")) if "edgecnn check" in str(one)
    )
    return typed, step


def shell(folder: Path, *commands: str, code: int = 0) -> str:
    """Runs each of `commands` in bash as a user does, with the edgecnn under test on the PATH."""
    binaries = folder.parent / "bin"
    binaries.mkdir(exist_ok=True)
    (binaries / "edgecnn").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m edgecnn "$@"\n')
    (binaries / "edgecnn").chmod(0o755)
    env = {"PATH": f"{binaries}:{os.environ['PATH']}", "HOME": str(folder.parent), "PYTHONPATH": str(ROOT)}
    said = ""
    for command in commands:
        done = subprocess.run(
            ["bash", "-c", command], cwd=folder, env=env, capture_output=True, text=True, check=False
        )
        said = done.stdout + done.stderr
        assert done.returncode == code, f"{command}: {said}"
    return said


def test_the_gate_works_from_zero_with_the_lines_shown(tmp_path: Path) -> None:
    """A new repository, the README's commands, and what a CI's checkout of it says; then a fattened model."""
    typed, step = commands_of_the_gate()
    assert len(typed) == 2
    repository, checkout = tmp_path / "repository", tmp_path / "checkout"
    repository.mkdir()
    commit = "git -c user.name=a -c user.email=a@b commit -qm x"
    shell(repository, "git init -q")
    build(repository / GATED)
    (repository / GATED / ".stages").mkdir()
    (repository / GATED / ".stages" / "weights").write_bytes(b"w" * 1000)
    shell(repository, *typed, commit, f"git clone -q . {checkout}")
    assert not (checkout / GATED / ".stages").exists()
    assert "::notice title=edgecnn check::pass" in shell(checkout, step)

    build(repository / GATED, size_bytes=12_000)
    shell(repository, f"git add {GATED}/*", commit)
    shell(checkout, "git pull -q")
    said = shell(checkout, step, code=1)
    assert "tiny.int8.tflite: size fail: 10.0 kB -> 12.0 kB" in said


@pytest.mark.parametrize("digit", range(3))
def test_the_script_for_the_board_gives_what_edgecnn_gives(tmp_path: Path, digit: int) -> None:
    from edgecnn.compress.quantize import quantize
    from edgecnn.recipe import QuantizeSpec

    script = tmp_path / "classify.py"
    script.write_text(block("python", "classify.py"))
    model, picture = tmp_path / "m.int8.tflite", tmp_path / "digit.png"
    images = data.load("mnist").test.images_nhwc
    Image.fromarray(images[digit, :, :, 0]).save(picture)
    calibration = (images[:20].transpose(0, 3, 1, 2) / np.float32(255) - np.float32(0.1307)) / np.float32(
        0.3081
    )
    network = export_onnx(build_model("lenet5", in_channels=1, n_classes=10, seed=digit), (1, 28, 28))
    quantized = quantize(network, calibration.astype(np.float32), QuantizeSpec(engine="onnxruntime"))
    conversion = convert(quantized.model)
    model.write_bytes(conversion.data)
    manifest = Manifest(
        format="tflite",
        precision="int8",
        variant="final",
        layout="NHWC",
        preprocessing=data.DATASETS["mnist"].preprocessing,
        inputs=conversion.inputs,
        outputs=conversion.outputs,
        class_names=tuple("abcdefghij"),
        n_params=0,
        n_macs=0,
        size_bytes=len(conversion.data),
        file_sha256="",
        recipe_name="m",
        recipe_sha256="",
    )
    Manifest.path_for(model).write_text(manifest.to_json())
    done = subprocess.run([sys.executable, script, model, picture], capture_output=True, text=True, check=True)
    (expected,) = ondevice_predict.predict(model, manifest, [picture], "litert")
    assert done.stdout.split() == [expected.guesses[0].class_name]
    lines = [
        line
        for line in script.read_text().splitlines()
        if line and not line.startswith(("#", "import", "from"))
    ]
    assert len(lines) <= 10, "the script is short"
