"""Runs a .tflite file in one runtime: python -m converters.run_file RUNTIME FILE INPUTS.npy OUTPUTS.npy

In a process of its own, since a runtime may take the process down with it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

ARENA_BYTES = 32_000_000
REFERENCE = "-reference"


def outputs_of(runtime: str, file: Path, inputs: np.ndarray) -> np.ndarray:
    """Inputs and outputs [n, ...] in the file's own types and layout. `litert-reference`: its plain kernels."""
    if runtime != "tflm":
        from edgecnn.ondevice.runtimes import load_model

        model = load_model(runtime.removesuffix(REFERENCE), file, optimize=not runtime.endswith(REFERENCE))
        return model.run_each(inputs)  # type: ignore[attr-defined]
    from tflite_micro import runtime as micro

    interpreter = micro.Interpreter.from_file(str(file), arena_size=ARENA_BYTES)
    results = []
    for i in range(len(inputs)):
        interpreter.set_input(inputs[i : i + 1], 0)
        interpreter.invoke()
        results.append(interpreter.get_output(0)[0])
    return np.stack(results)


if __name__ == "__main__":
    np.save(sys.argv[4], outputs_of(sys.argv[1], Path(sys.argv[2]), np.load(sys.argv[3])))
