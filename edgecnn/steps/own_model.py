"""A network that the user brings as a Python file: allowed or refused, made, checked, cut to its widths."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgecnn.errors import ModelError, UsageError
from edgecnn.models import own_code
from edgecnn.models.own_code import OwnCode
from edgecnn.recipe import Recipe

if TYPE_CHECKING:
    import torch
    from torch import nn

    from edgecnn.steps.networks import Workshop


def refuse_code(recipe: Recipe, *, allow_code: bool) -> None:
    """Raises UsageError for a recipe that runs the user's code, unless that is allowed."""
    if recipe.model.name == "python" and not allow_code:
        file, _, name = (recipe.model.path or "").rpartition(":")
        raise UsageError(
            f"this recipe runs code that is not part of edgecnn: {file}, to make the network {name}",
            where="model.python",
            fix="read that file; if you trust it, run the same command with --allow-code",
        )


def make(shop: Workshop, code: OwnCode, widths: dict[str, int]) -> nn.Module:
    """The user's own network. With `widths`, its layers are cut to so many channels: the first ones stay."""
    refuse_code(shop.recipe, allow_code=shop.allow_code)
    shop.progress.say(f"--allow-code: runs {code}")
    model = own_code.make(code, shop.recipe.model.args or {}, shop.recipe.seed)
    from edgecnn.compress.prune import cut
    from edgecnn.models import widths_of

    now = widths_of(model, shop.recipe.model.name)
    if widths and widths != now:
        pre = shop.recipe.preprocessing
        with own_code.blamed(code, f"{code.name} cannot be pruned again", always=True):
            cut(model, widths, (pre.channels, pre.height, pre.width))
    return model


def check(shop: Workshop, code: OwnCode, model: nn.Module) -> None:
    """What can be known of the user's network before it is trained: it fits the data, and can be exported."""
    from edgecnn.compress.qat.operators import require_known
    from edgecnn.export.onnx import export_onnx
    from edgecnn.export.tflite import convert

    recipe, pre = shop.recipe, shop.recipe.preprocessing
    validation = shop.pictures["validation"]
    images = validation.normalized(validation.images[:3])
    own_code.check_fits(code, model, images, len(shop.source.class_names), recipe.data.name)
    with own_code.blamed(code, f"torch cannot export {code.name} to ONNX", always=True):
        exported = export_onnx(model, (pre.channels, pre.height, pre.width))
    if "tflite" in recipe.export:
        convert(exported)
    if recipe.qat:
        require_known(node.op_type for node in exported.graph.node)


def check_pruned(shop: Workshop, code: OwnCode, model: nn.Module) -> None:
    validation = shop.pictures["validation"]
    images = validation.normalized(validation.images[:3])
    try:
        own_code.check_fits(code, model, images, len(shop.source.class_names), shop.recipe.data.name)
    except ModelError as fault:
        raise ModelError(
            f"pruned, the network does not run any more: {fault.what}",
            where=fault.where,
            fix="let forward take sizes from its tensors (x.flatten(1), x.shape[1]), or leave prune out",
        ) from fault


def prunable_widths(
    code: OwnCode, model: nn.Module, widths: dict[str, int], images_nchw: torch.Tensor
) -> dict[str, int]:
    """Those of `widths` that pruning may change. Raises ModelError where the network cannot be traced, or
    nothing is left.
    """
    from edgecnn.compress.prune import prunable_layers

    with own_code.blamed(code, f"{code.name} cannot be traced for pruning", always=True):
        prunable = prunable_layers(model, images_nchw)
    if not prunable:
        raise ModelError(
            f"no layer of {code.name} can be pruned: all decide the outputs, or are grouped convolutions",
            where=str(code.file),
            fix="leave prune out",
        )
    return {layer: widths[layer] for layer in prunable}
