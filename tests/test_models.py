import pytest
import torch

from edgecnn.models import MODELS, build_model, widths_of


@pytest.mark.parametrize(("name", "n_params"), [("lenet5", 61_706), ("lenet5_caffe", 431_080)])
def test_the_parameter_counts_of_the_literature(name: str, n_params: int) -> None:
    model = build_model(name, in_channels=1, n_classes=10)
    assert sum(p.numel() for p in model.parameters()) == n_params


@pytest.mark.parametrize("name", MODELS)
def test_logits_for_a_batch_of_any_size(name: str) -> None:
    info = MODELS[name]
    model = build_model(name, in_channels=1, n_classes=7)
    logits = model(torch.zeros(3, 1, *info.input_size))
    assert logits.shape == (3, 7)
    assert not torch.allclose(logits.exp().sum(1), torch.ones(3)), "logits, not probabilities"


@pytest.mark.parametrize("name", MODELS)
def test_widths_are_parameters_of_the_model(name: str) -> None:
    widths = dict.fromkeys(MODELS[name].widths, 3)
    model = build_model(name, in_channels=1, n_classes=10, widths=widths)
    assert widths_of(model, name) == widths
    assert model(torch.zeros(1, 1, 28, 28)).shape == (1, 10)


def test_the_seed_decides_the_weights() -> None:
    def first_weight(seed: int) -> float:
        model = build_model("lenet5", in_channels=1, n_classes=10, seed=seed)
        return float(model.conv1.weight.detach()[0, 0, 0, 0])

    assert first_weight(3) == first_weight(3) != first_weight(4)
