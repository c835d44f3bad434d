"""What the tests of both boards ask of a board."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli.commands import run
from emulated_pi.emulated_board import EmulatedPi

from edgecnn import data
from edgecnn.ondevice.manifest import Manifest
from edgecnn.steps import evaluation
from edgecnn.targets import zipapp
from edgecnn.targets.host import HostTarget

DEMO = "mnist_lenet5_int8"


def digits_class() -> str:
    test = data.load("mnist").test
    return test.class_names[test.labels[0]]


def json_of(*arguments: str | Path) -> Any:
    """What a command prints with --json; it must succeed."""
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def with_threads(patch: pytest.MonkeyPatch, *counts: int) -> None:
    """Not with one and with one for each core: they spin while they wait, for long in emulation."""
    patch.setattr(evaluation, "thread_counts", lambda _environment: counts)


def by_hand(board: EmulatedPi, python: str, model: Path, runtime: str, digit: Path) -> None:
    """All that a user does who copies the program, a model and images to a board, and has no edgecnn there."""
    test, images = data.load("mnist").test, io.BytesIO()
    np.save(images, test.images_nhwc[:200])
    board.ssh("mkdir -p hand")
    copied = {
        zipapp.NAME: zipapp.build(),
        "images.npy": images.getvalue(),
        digit.name: digit.read_bytes(),
        model.name: model.read_bytes(),
        f"{model.name}.json": Manifest.path_for(model).read_bytes(),
    }
    for name, content in copied.items():
        board.ssh(f"cat > hand/{name}", content)

    def answer(*words: str) -> dict:
        said = board.said(f"cd hand && {python} {zipapp.NAME} {' '.join(words)}")
        answered: dict = json.loads(said.splitlines()[-1])
        return answered

    probed = answer("probe")
    assert probed["emulated"] and runtime in probed["runtimes"]
    evaluated = answer("evaluate", model.name, "--images", "images.npy", "--output", "outputs.npy")
    assert evaluated["shape"] == [200, 10]
    there = np.load(io.BytesIO(board.ssh("cat hand/outputs.npy")))
    manifest = Manifest.from_json(Manifest.path_for(model).read_text())
    host = HostTarget()
    here_runtimes = host.runtimes_for(manifest.format)  # tflite-runtime has no wheel for a newer Python
    here = host.evaluate(
        model, manifest, test.images_nhwc[:200], runtime if runtime in here_runtimes else here_runtimes[0]
    )
    assert (there.argmax(axis=1) == here.argmax(axis=1)).mean() >= 0.99
    timed = answer("benchmark", model.name, "--min-s", "0.05")
    assert timed["emulated"] and timed["runtime"] == runtime
    assert len(timed["samples_ms"]) >= 50 and timed["warmup_runs"] >= 12
    assert answer("memory", model.name)["peak_rss_bytes"] > 2**20
    (prediction,) = answer("predict", model.name, digit.name)["predictions"]
    assert prediction["guesses"][0]["class_name"] == digits_class()
    board.ssh("rm -r hand")
