"""The float network behind an artifact: its weights lie in the stages of the build, beside the artifact."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecnn import files, stages
from edgecnn.errors import EdgeCNNError, ModelError, UsageError
from edgecnn.progress import Progress
from edgecnn.recipe import Recipe
from edgecnn.stages import StageStore
from edgecnn.steps.networks import WEIGHTS_FILE, Workshop, make_network, require_training_packages

if TYPE_CHECKING:
    from torch import nn


def load(where: Path, recipe: Recipe, *, n_classes: int, allow_code: bool, progress: Progress) -> nn.Module:
    """The network that the stage in the folder `where` left, ready to infer; `recipe` is that of its build.

    Raises UsageError where its code may not be run, MissingExtraError without torch.
    """
    require_training_packages("--explain")
    record = _read(where / stages.DONE)
    shop = Workshop(recipe, StageStore(where.parent), progress, allow_code=allow_code)
    _check_code(shop, recipe, record)
    from edgecnn.training.checkpoint import load_weights

    model = make_network(shop, record["facts"]["widths"], n_classes)
    try:
        load_weights(where / WEIGHTS_FILE, model)
    except (RuntimeError, OSError) as fault:
        raise EdgeCNNError(
            "the weights of the build do not fit the network as this edgecnn makes it",
            where=str(where / WEIGHTS_FILE),
            fix="build again",
        ) from fault
    return model.eval()


def stage_of(artifact: Path) -> Path:
    """The folder of the stage whose float network was exported to the model file `artifact`: the dense one, or
    the compressed one. Raises UsageError where its build is not beside it, ModelError where that had none.

    The export stage has recorded which file it wrote, and the keys of the stages that it was made from.
    """
    folder = artifact.parent
    sha256 = files.sha256_of(artifact)
    for path in sorted((folder / stages.FOLDER / "export").glob(f"*/{stages.DONE}")):
        record = _read(path)
        variants = {one["sha256"]: one["variant"] for one in record.get("facts", {}).get("artifacts", ())}
        if sha256 not in variants:
            continue
        needed = {
            name.removeprefix("needs "): key
            for name, key in record["inputs"].items()
            if name.startswith("needs ")
        }
        if "import" in needed:
            raise ModelError(
                "it was made from an ONNX file, which gives no gradients",
                where=str(artifact),
                fix="--explain needs a network of edgecnn, or your own as Python code",
            )
        made = [folder / stages.FOLDER / name / key for name, key in needed.items()]
        networks = [place for place in made if (place / WEIGHTS_FILE).is_file()]
        if networks:
            result: Path = networks[0 if variants[sha256] == "dense" else -1]
            return result
    raise UsageError(
        "the float network that it was made from is not beside it",
        where=str(artifact),
        fix=f"name the artifact in its build folder, with {stages.FOLDER} in it; if that is gone, build again",
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _check_code(shop: Workshop, recipe: Recipe, record: dict[str, Any]) -> None:
    if shop.own_code and shop.own_code.sha256 != record["inputs"].get("own code"):
        raise ModelError(
            f"{shop.own_code.file} is not what it was when the network was trained",
            where=str(recipe.model.path),
            fix="build again",
        )
