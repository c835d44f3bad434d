"""Running networks that came as the user's ONNX file: in the confined worker, not in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numpy as np

from edgecnn import confined
from edgecnn.steps.networks import Workshop

P = ParamSpec("P")
R = TypeVar("R")


def run(shop: Workshop, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """`function`, which has a runtime run networks of the recipe among its `args`.

    Where they are ours it is called here; where they come from an ONNX file, in the worker of `confined.run`,
    whose errors are raised.
    """
    if shop.recipe.model.name != "onnx":
        return function(*args, **kwargs)
    return confined.run(function, shop.recipe.model.path or "", sum(map(_n_bytes, args)), *args, **kwargs)


def _n_bytes(value: Any) -> int:
    if isinstance(value, np.ndarray):
        return value.nbytes
    return int(value.ByteSize()) if hasattr(value, "ByteSize") else 0
