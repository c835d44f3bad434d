import pytest
import torch
from recipes_for_tests import ROOT
from torch import nn
from torch.nn import functional

from edgecnn.models import MODELS, build_model, channel_layers, fitting_stem, widths_of
from edgecnn.recipe import check_widths

IMAGENET_WEIGHTS = ROOT.parent / "shared" / "weights" / "squeezenet1_1_imagenet.safetensors"
SQUEEZENETS = ("squeezenet1_0", "squeezenet1_1")


@pytest.mark.parametrize("kernel_sizes", [(5, 5, 3), (3, 5, 1), (9, 9, 9), (1, 1, 1)])
def test_kernels_of_the_global_lenet(kernel_sizes: tuple[int, int, int]) -> None:
    model = build_model("lenet5_global", in_channels=1, n_classes=4, options={"kernel_sizes": kernel_sizes})
    convolutions = [layer for layer in model.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert tuple(layer.kernel_size[0] for layer in convolutions) == kernel_sizes
    assert model(torch.zeros(2, 1, 28, 28)).shape == (2, 4)


@pytest.mark.parametrize(("name", "n_params"), [("lenet5", 61_706), ("lenet5_caffe", 431_080)])
def test_the_parameter_counts_of_the_literature(name: str, n_params: int) -> None:
    model = build_model(name, in_channels=1, n_classes=10)
    assert sum(p.numel() for p in model.parameters()) == n_params


@pytest.mark.parametrize("conv_relu", [False, True])
def test_caffes_lenet_with_and_without_relu_behind_its_convolutions(conv_relu: bool) -> None:
    model = build_model("lenet5_caffe", in_channels=1, n_classes=10, options={"conv_relu": conv_relu})
    assert sum(p.numel() for p in model.parameters()) == 431_080
    layers = dict(model.named_children())
    images = torch.randn(2, 1, 28, 28)
    x = layers["conv1"](images)
    x = layers["conv2"](functional.max_pool2d(x.clamp(min=0) if conv_relu else x, 2))
    x = functional.max_pool2d(x.clamp(min=0) if conv_relu else x, 2)
    by_hand = layers["fc2"](layers["fc1"](x.flatten(1)).clamp(min=0))
    torch.testing.assert_close(model(images), by_hand)


@pytest.mark.parametrize("name", MODELS)
def test_logits_for_a_batch_of_any_size(name: str) -> None:
    info = MODELS[name]
    model = build_model(name, in_channels=1, n_classes=7)
    logits = model(torch.zeros(3, 1, *(info.input_size or (40, 56))))
    assert logits.shape == (3, 7)
    assert not torch.allclose(logits.exp().sum(1), torch.ones(3)), "logits, not probabilities"


@pytest.mark.parametrize("name", MODELS)
def test_the_layers_are_those_that_a_recipe_may_name(name: str) -> None:
    model = build_model(name, in_channels=1, n_classes=10, widths=dict.fromkeys(MODELS[name].widths, 3))
    assert [*MODELS[name].widths, MODELS[name].last] == channel_layers(model)


@pytest.mark.parametrize("name", MODELS)
def test_widths_are_parameters_of_the_model(name: str) -> None:
    widths = dict.fromkeys(MODELS[name].widths, 3)
    model = build_model(name, in_channels=1, n_classes=10, widths=widths)
    assert widths_of(model, name) == widths
    assert model(torch.zeros(1, 1, 28, 28)).shape == (1, 10)


@pytest.mark.parametrize(("name", "n_params"), [("squeezenet1_0", 1_248_424), ("squeezenet1_1", 1_235_496)])
def test_the_parameter_counts_of_torchvision(name: str, n_params: int) -> None:
    model = build_model(name, in_channels=3, n_classes=1000)
    assert sum(p.numel() for p in model.parameters()) == n_params


def squeezenet1_1_by_hand(weights: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """The published network written down from its description, with weights of torchvision's names."""

    def layer(name: str, x: torch.Tensor, **settings: int) -> torch.Tensor:
        return functional.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], **settings).clamp(min=0)

    x = layer("features.0", x, stride=2)
    for place in (2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12):
        if place in (2, 5, 8):
            x = functional.max_pool2d(x, 3, 2, ceil_mode=True)
            continue
        x = layer(f"features.{place}.squeeze", x)
        sides = layer(f"features.{place}.expand1x1", x), layer(f"features.{place}.expand3x3", x, padding=1)
        x = torch.cat(sides, dim=1)
    return layer("classifier.1", x).mean(dim=(2, 3))


def test_squeezenet_computes_what_its_description_says() -> None:
    model = build_model("squeezenet1_1", in_channels=3, n_classes=7).eval()
    images = torch.randn(2, 3, 97, 80)
    assert torch.allclose(model(images), squeezenet1_1_by_hand(model.state_dict(), images), atol=1e-5)


def test_imagenet_weights_of_torchvision_load_and_give_its_logits() -> None:
    if not IMAGENET_WEIGHTS.exists():
        pytest.skip(f"{IMAGENET_WEIGHTS.name} is not beside this checkout")
    from safetensors.torch import load_file

    weights = load_file(IMAGENET_WEIGHTS)
    model = build_model("squeezenet1_1", in_channels=3, n_classes=1000).eval()
    model.load_state_dict(weights, strict=True)
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        assert torch.allclose(model(images), squeezenet1_1_by_hand(weights, images), rtol=1e-4, atol=1e-4)


def test_the_stem_is_the_one_that_leaves_something_of_the_picture() -> None:
    def size_after_the_features(stem: str, pixels: int) -> int:
        model = build_model("squeezenet1_1", in_channels=1, n_classes=10, options={"stem": stem})
        return int(model.features(torch.zeros(1, 1, pixels, pixels)).shape[-1])

    assert (fitting_stem(28, 28), fitting_stem(32, 300), fitting_stem(224, 224)) == (
        "small",
        "small",
        "imagenet",
    )
    assert (size_after_the_features("small", 28), size_after_the_features("imagenet", 28)) == (7, 1)
    assert size_after_the_features("imagenet", 224) == 13


@pytest.mark.parametrize("name", SQUEEZENETS)
def test_simple_bypass_goes_around_every_second_fire_module(name: str) -> None:
    plain, bypassing = (
        build_model(name, in_channels=1, n_classes=10, options={"simple_bypass": bypass}).eval()
        for bypass in (False, True)
    )
    around = [place for place, layer in enumerate(bypassing.features) if getattr(layer, "bypass", False)]
    assert {f"features.{place}" for place in around} == {
        layer.rpartition(".")[0] for _, layer in MODELS[name].bypassed
    }
    assert len(around) == 4
    assert plain.state_dict().keys() == bypassing.state_dict().keys()
    inputs = torch.randn(1, bypassing.features[around[0]].squeeze.in_channels, 5, 5)
    added = bypassing.features[around[0]](inputs) - plain.features[around[0]](inputs)
    assert torch.allclose(added, inputs, atol=1e-5)


def test_widths_that_do_not_fit_are_refused_with_the_layers_named() -> None:
    with pytest.raises(
        ValueError, match=r"squeezenet1_1 takes 25 numbers, one for each of features\.0, .*are 2"
    ):
        check_widths("squeezenet1_1", (8, 8))
    widths = [8] * 25
    widths[3] = 16  # features.3.expand3x3
    check_widths("squeezenet1_1", tuple(widths))
    with pytest.raises(ValueError, match=r"adds features\.3\.expand3x3 to features\.4\.expand3x3: .* 16 and 8"):
        check_widths("squeezenet1_1", tuple(widths), bypass=True)


@pytest.mark.parametrize("name", SQUEEZENETS)
def test_dropout_stands_before_the_classifier_only(name: str) -> None:
    model = build_model(name, in_channels=1, n_classes=10)
    assert [key for key, layer in model.named_modules() if isinstance(layer, nn.Dropout)] == ["classifier.0"]


def test_the_seed_decides_the_weights() -> None:
    def first_weight(seed: int) -> float:
        model = build_model("lenet5", in_channels=1, n_classes=10, seed=seed)
        return float(model.conv1.weight.detach()[0, 0, 0, 0])

    assert first_weight(3) == first_weight(3) != first_weight(4)


@pytest.mark.parametrize("stem", ["imagenet", "small"])
@pytest.mark.parametrize("name", SQUEEZENETS)
def test_the_least_size_is_the_least_that_runs(name: str, stem: str) -> None:
    least = MODELS[name].least_size[stem]
    model = build_model(name, in_channels=1, n_classes=2, options={"stem": stem})
    assert model(torch.zeros(1, 1, least, least)).shape == (1, 2)
    with pytest.raises(RuntimeError):
        model(torch.zeros(1, 1, least - 1, least - 1))
