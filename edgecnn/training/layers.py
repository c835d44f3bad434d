"""What counts as a layer of a network."""

from __future__ import annotations

import torch
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


@torch.no_grad()
def scatter_vectors(model: nn.Module, seed: int) -> None:
    """Gives biases and norms random values, no two the same, as training would."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.uniform_(0.5, 1.5, generator=generator)
