"""Inferences marked for a counter of instructions that runs this program from outside."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any, Dict

from edgecnn.ondevice.benchmark import example_input
from edgecnn.ondevice.runtimes import load_model

# No such `which` exists: the kernel refuses it, and the counter sees the call.
MARK = 77


def run_marked(model: Path, runtime_name: str, n_runs: int) -> Dict[str, Any]:
    """Runs the model on one thread; inference k lies between the marks 2k and 2k + 1."""
    runtime = load_model(runtime_name, model, num_threads=1)
    runtime.prepare(example_input(runtime.single_input()))
    invoke = runtime.invoke
    gc.collect()
    gc.disable()  # a collection would be counted as part of one inference
    for k in range(n_runs):
        _mark(2 * k)
        invoke()
        _mark(2 * k + 1)
    return {"runtime": runtime_name, "runtime_version": runtime.version, "n_runs": n_runs}


def _mark(k: int, getpriority: Any = os.getpriority) -> None:
    try:  # noqa: SIM105 - what Python itself runs between two marks is counted, too: as little as can be
        getpriority(MARK, k)
    except OSError:
        pass
