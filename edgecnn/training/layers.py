"""What counts as a layer of a network."""

from __future__ import annotations

from torch import nn


def layers_of(model: nn.Module) -> dict[str, nn.Module]:
    """The modules with parameters of their own by name, in the order in which the network holds them.

    In ours that is the order of their data. Layers side by side, as in a Fire module, follow one another.
    """
    return {
        name: module
        for name, module in model.named_modules()
        if any(True for _ in module.parameters(recurse=False))
    }
