"""edgecnn: one recipe from training to measured, gated int8 ONNX and TFLite artifacts.

import edgecnn
report = edgecnn.build("recipe.yaml")
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgecnn.progress import Progress
    from edgecnn.records import Report

__version__ = "0.1.0"
__all__ = ["__version__", "build"]


def build(
    recipe_path: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    overrides: tuple[str, ...] = (),
    force: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Builds the recipe into `output` (default: artifacts/<recipe name>); see `edgecnn.pipeline.build`."""
    from edgecnn import pipeline  # here, so that `import edgecnn` costs nothing

    return pipeline.build(recipe_path, output, overrides=overrides, force=force, progress=progress)
