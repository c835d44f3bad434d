"""Running any model on given arrays: several inputs, several outputs, no preprocessing."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List

import numpy as np
from numpy.typing import NDArray

from edgecnn.ondevice.manifest import DeviceError
from edgecnn.ondevice.runtimes import load_model


def run(
    model: Path,
    inputs: Dict[str, NDArray[Any]],
    runtime_name: str,
    num_threads: int = 1,
    optimize: bool = True,
) -> Dict[str, NDArray[Any]]:
    """The outputs by name, each [n, *output shape], of `inputs` by name, each [n, *input shape].

    Each of the n rows is one inference. Raises DeviceError where the model cannot be loaded or takes other
    inputs.
    """
    runtime = load_model(runtime_name, model, num_threads, optimize)
    expected = [spec.name for spec in runtime.inputs]
    if sorted(expected) != sorted(inputs):
        raise DeviceError(
            f"the model takes the inputs {', '.join(expected)}; given were {', '.join(inputs)}",
            "name each input once",
        )
    rows: List[List[NDArray[Any]]] = [
        runtime.run_all([inputs[name][row] for name in expected])
        for row in range(len(next(iter(inputs.values()))))
    ]
    return {spec.name: np.stack([row[i] for row in rows]) for i, spec in enumerate(runtime.outputs)}
