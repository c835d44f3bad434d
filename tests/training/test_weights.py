"""Weights put into a network: strictly, but for a last layer of another size; pickled code never runs."""

from __future__ import annotations

import contextlib
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from edgecnn import confined
from edgecnn.errors import DataError, EdgeCNNError
from edgecnn.models import build_model
from edgecnn.training.weights import put_into, read_weights, tensors_in


def lenet(n_classes: int = 3, seed: int = 0) -> torch.nn.Module:
    return build_model("lenet5", in_channels=1, n_classes=n_classes, seed=seed)


@pytest.mark.parametrize("form", ["safetensors", "pth", "wrapped"])
def test_weights_of_every_form_are_the_same_network(tmp_path: Path, form: str) -> None:
    source, target = lenet(seed=1), lenet(seed=2)
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pth")
    state = source.state_dict()
    if form == "safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state} if form == "wrapped" else state, path)
    assert put_into(target, read_weights(path), where="w") == ()
    images = torch.rand(2, 1, 28, 28)
    assert torch.equal(source(images), target(images))


def test_a_last_layer_for_other_classes_stays_as_it_was() -> None:
    source, target = lenet(10, seed=1), lenet(3, seed=2)
    before = target.state_dict()["fc3.weight"].clone()
    assert put_into(target, source.state_dict(), where="w") == ("fc3.weight", "fc3.bias")
    after = target.state_dict()
    assert torch.equal(after["fc3.weight"], before)
    assert torch.equal(after["fc1.weight"], source.state_dict()["fc1.weight"])


def test_weights_of_colour_see_a_grey_picture_as_they_would_see_it_in_three_equal_channels() -> None:
    colour = build_model("squeezenet1_1", in_channels=3, n_classes=4, seed=1).eval()
    grey = build_model("squeezenet1_1", in_channels=1, n_classes=4, seed=2).eval()
    assert put_into(grey, colour.state_dict(), where="w") == ()
    images = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(grey(images), colour(images.expand(-1, 3, -1, -1)), atol=1e-4)


def test_every_misfit_is_listed() -> None:
    state = lenet(3).state_dict()
    state["extra"] = torch.zeros(1)
    state["conv1.weight"] = torch.zeros(7, 1, 5, 5)
    del state["conv2.bias"]
    with pytest.raises(DataError) as fault:
        put_into(lenet(3), state, where="mine.pth")
    message = str(fault.value)
    assert "mine.pth: the weights are of another network" in message
    assert "conv2.bias is missing" in message and "extra is unknown" in message
    assert "conv1.weight has the shape [7, 1, 5, 5], not [6, 1, 5, 5]" in message


class Planted:
    """What a crafted checkpoint runs when it is unpickled without care."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("how", ["pickle", "torch"])
def test_code_in_a_checkpoint_is_refused_and_does_not_run(tmp_path: Path, how: str) -> None:
    mark, path = tmp_path / "ran", tmp_path / "crafted.pth"
    if how == "pickle":
        path.write_bytes(pickle.dumps(Planted(mark)))
    else:
        torch.save({"state_dict": Planted(mark)}, path)
    with pytest.raises(DataError, match="not a file of weights alone") as fault:
        read_weights(path)
    assert not mark.exists()
    assert str(path) in str(fault.value)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut off"])
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match="not a file of weights alone"):
        read_weights(tmp_path / name)


def test_what_is_not_tensors_by_name_is_refused(tmp_path: Path) -> None:
    torch.save([torch.zeros(1)], tmp_path / "w.pth")
    with pytest.raises(DataError, match="not a state dict"):
        read_weights(tmp_path / "w.pth")


def test_the_weights_from_imagenet_load_strictly() -> None:
    path = Path(__file__).resolve().parents[3] / "shared" / "weights" / "squeezenet1_1_imagenet.safetensors"
    if not path.is_file():
        pytest.skip("the published weights are not beside this checkout")
    model = build_model("squeezenet1_1", in_channels=3, n_classes=1000)
    assert put_into(model, read_weights(path), where="w") == ()
    ten = build_model("squeezenet1_1", in_channels=3, n_classes=10)
    assert set(put_into(ten, read_weights(path), where="w")) == {"classifier.1.weight", "classifier.1.bias"}


def test_every_fault_of_a_damaged_file_is_told(tmp_path: Path) -> None:
    """torch ends in IndexError, struct.error, AssertionError, TypeError, AttributeError, MemoryError ..."""
    torch.save({"w": torch.zeros(4)}, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    whole = (tmp_path / "w.pth").read_bytes()
    for at in range(0, len(whole), 3):
        (tmp_path / "w.pth").write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        with contextlib.suppress(DataError):
            tensors_in(tmp_path / "w.pth")


def test_a_file_that_takes_the_reader_with_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "w.pth").write_bytes(b"x")

    def dies(*_: object) -> None:
        raise EdgeCNNError("it crashed native code")

    monkeypatch.setattr(confined, "run", dies)
    with pytest.raises(DataError, match="crashed native code"):
        read_weights(tmp_path / "w.pth")


def test_a_pipe_and_a_folder_are_no_weights(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "w.pth")
    for path in (tmp_path, tmp_path / "w.pth", tmp_path / "none.pth"):
        with pytest.raises(DataError):
            read_weights(path)


def test_tensors_that_are_not_plain_are_refused(tmp_path: Path) -> None:
    for tensor in (torch.zeros(3, device="meta"), torch.eye(3).to_sparse()):
        torch.save({"w": tensor}, tmp_path / "w.pth")
        with pytest.raises(DataError):
            tensors_in(tmp_path / "w.pth")
