"""Weights to start from: published ones, or a file of the user's. Pickled code in a .pth file never runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from edgecnn import confined
from edgecnn.errors import DataError, EdgeCNNError
from edgecnn.training.layers import layers_of


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The tensors by name in a .safetensors or .pth / .pt file (a state dict, or one under "state_dict").

    Raises DataError for what is not such a file; one that holds more than tensors is refused, not run. It is
    read in the worker of `confined`: torch is not made for files that are damaged on purpose.
    """
    if not path.exists():
        raise DataError("there is no such file of weights", where=str(path))
    try:
        return confined.run(tensors_in, str(path), confined.check_model_file(path), path)
    except DataError:
        raise
    except EdgeCNNError as fault:
        raise DataError(fault.what, where=str(path), fix=fault.fix) from fault


def tensors_in(path: Path) -> dict[str, torch.Tensor]:
    """What `read_weights` gives, read in this process. Raises DataError for every fault."""
    try:
        loaded = _loaded(path)
        return {str(name): tensor.detach().contiguous() for name, tensor in loaded.items()}
    except DataError:
        raise
    except Exception as fault:  # of a damaged file torch makes nearly any: IndexError, struct.error, TypeError
        reason = str(fault).strip().splitlines()[0] if str(fault).strip() else type(fault).__name__
        raise DataError(
            f"not a file of weights alone: {reason}",
            where=str(path),
            fix="save them with safetensors.torch.save_file(model.state_dict(), ...)",
        ) from fault


def _loaded(path: Path) -> Mapping[str, torch.Tensor]:
    if path.suffix == ".safetensors":
        return load_file(path)
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, Mapping) or not all(map(_is_plain, loaded.values())):
        raise DataError("not a state dict: expected tensors by name", where=str(path))
    return loaded


def _is_plain(value: object) -> bool:
    """Whether it is a tensor with its numbers there, all of them."""
    return isinstance(value, torch.Tensor) and value.layout == torch.strided and value.device.type == "cpu"


def put_into(model: nn.Module, weights: Mapping[str, torch.Tensor], *, where: str) -> tuple[str, ...]:
    """Loads `weights` into `model`; names and shapes must be its own, but those of the last layer may differ in
    shape, and a first layer for grey pictures takes one for colour.

    Returns the names that stay as `model` had them: a last layer for another number of classes. Raises
    DataError that lists every name that is missing, unknown, or of another shape.
    """
    own = model.state_dict()
    first, *_, last = layers_of(model)
    weights = {**weights, **_for_grey(f"{first}.weight", own, weights)}
    faults = [f"{name} is missing" for name in own if name not in weights]
    faults += [f"{name} is unknown" for name in weights if name not in own]
    kept = []
    for name, tensor in weights.items():
        if name in own and tensor.shape != own[name].shape:
            if name.rpartition(".")[0] == last:
                kept.append(name)
            else:
                faults.append(f"{name} has the shape {list(tensor.shape)}, not {list(own[name].shape)}")
    if faults:
        shown = "; ".join(faults[:10]) + (f"; and {len(faults) - 10} more" if len(faults) > 10 else "")
        raise DataError(f"the weights are of another network: {shown}", where=where)
    model.load_state_dict({**own, **{name: tensor for name, tensor in weights.items() if name not in kept}})
    return tuple(kept)


def _for_grey(
    name: str, own: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """The filters `name` [n, 3, kh, kw] as [n, 1, kh, kw], where the network's own have one channel.

    A grey picture has the same values in red, green and blue: the sum of a filter over the three gives what
    the filter would.
    """
    if name not in own or name not in weights:
        return {}
    wanted, given = own[name].shape, weights[name].shape
    if len(given) != 4 or given[1] != 3 or wanted != (given[0], 1, *given[2:]):
        return {}
    return {name: weights[name].sum(dim=1, keepdim=True)}
