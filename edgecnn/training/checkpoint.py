"""Checkpoints without pickle: tensors in one safetensors file, everything else in the JSON beside it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialized
from torch import nn

from edgecnn import files
from edgecnn.errors import DataError

INDEX = "checkpoint.json"


@dataclass(frozen=True)
class Checkpoint:
    """`tensors` by name, and `facts`, plain JSON: the epoch, the history, the widths of the network."""

    tensors: dict[str, torch.Tensor]
    facts: dict[str, Any]


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Replaces the checkpoint in `folder`, which holds the old one or the new one at any moment."""
    with files.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    tensors_file = f"epoch-{checkpoint.facts['epoch']:04d}.safetensors"
    # By way of memory: what safetensors says of a full disk is no OSError.
    content = serialized({name: tensor.contiguous() for name, tensor in checkpoint.tensors.items()})
    files.write_bytes(folder / tensors_file, content)
    sha256 = hashlib.sha256(content).hexdigest()
    index = {"tensors_file": tensors_file, "tensors_sha256": sha256, **checkpoint.facts}
    files.write_text(folder / INDEX, json.dumps(index, indent=1) + "\n")
    for old in folder.glob("epoch-*.safetensors"):
        if old.name != tensors_file:
            old.unlink()


def load(folder: Path) -> Checkpoint | None:
    """The checkpoint in `folder`, or None where there is none. Raises DataError for a damaged one."""
    index = folder / INDEX
    if not index.is_file():
        return None
    try:
        facts = json.loads(index.read_text(encoding="utf-8"))
        tensors_path = folder / Path(facts.pop("tensors_file")).name
        if files.sha256_of(tensors_path) != facts.pop("tensors_sha256"):
            raise ValueError("its sha256 is not the recorded one")
        return Checkpoint(load_file(tensors_path), facts)
    except (OSError, ValueError, KeyError, AttributeError, SafetensorError) as fault:
        raise DataError(
            f"the checkpoint is damaged: {fault}", where=str(folder), fix="build again with --force"
        ) from fault


def save_weights(path: Path, model: nn.Module) -> None:
    """The weights of `model` alone, as safetensors."""
    files.write_bytes(path, serialized({k: v.cpu().contiguous() for k, v in model.state_dict().items()}))


def load_weights(path: Path, model: nn.Module) -> None:
    """Puts the weights in the safetensors file at `path` into `model`; names and shapes must fit exactly."""
    model.load_state_dict(load_file(path))


def prefixed(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def unprefixed(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
