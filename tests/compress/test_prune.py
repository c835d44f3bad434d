import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from edgecnn.compress.prune import channel_importance, cut, prunable_layers, prune, widths_at_step
from edgecnn.errors import ModelError
from edgecnn.models import MODELS, build_model, widths_of
from edgecnn.recipe import PruneSpec, target_widths

IMAGES, LABELS = torch.rand(64, 1, 28, 28), torch.randint(0, 10, (64,))


def pruned(widths: dict[str, int], criterion: str = "magnitude", seed: int = 0) -> torch.nn.Module:
    model = build_model("lenet5", in_channels=1, n_classes=10, seed=1)
    prune(model, widths, criterion, IMAGES, LABELS, seed)
    return model


@pytest.mark.parametrize("criterion", ["magnitude", "taylor", "hessian", "random"])
def test_the_pruned_network_is_physically_smaller_and_runs(criterion: str) -> None:
    widths = {"conv1": 4, "conv2": 7, "fc1": 11, "fc2": 5}
    model = pruned(widths, criterion)
    assert widths_of(model, "lenet5") == widths
    # conv1 4x25+4, conv2 4x7x25+7, fc1 7x25x11+11, fc2 11x5+5, fc3 5x10+10
    assert sum(p.numel() for p in model.parameters()) == 104 + 707 + 1936 + 60 + 60
    assert model(IMAGES).shape == (64, 10)
    assert all(p.grad is None for p in model.parameters()), "no gradients are left behind"


def test_pruned_weights_load_into_a_fresh_network_of_those_widths() -> None:
    model = pruned({"conv1": 4, "conv2": 7, "fc1": 11, "fc2": 5}, "taylor")
    fresh = build_model("lenet5", in_channels=1, n_classes=10, widths=widths_of(model, "lenet5"))
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh(IMAGES), model(IMAGES))


def test_channels_that_do_nothing_go_first_and_the_outputs_stay() -> None:
    model = build_model("lenet5", in_channels=1, n_classes=10, seed=1)
    with torch.no_grad():
        for dead in (1, 4):
            model.conv1.weight[dead] = 0
            model.conv1.bias[dead] = 0
        model.fc1.weight[50] = 0
        model.fc1.bias[50] = 0
    before = model(IMAGES)
    for criterion in ("magnitude", "taylor", "hessian"):
        copy = build_model("lenet5", in_channels=1, n_classes=10)
        copy.load_state_dict(model.state_dict())
        prune(copy, {"conv1": 4, "conv2": 16, "fc1": 119, "fc2": 84}, criterion, IMAGES, LABELS, 0)
        assert torch.allclose(copy(IMAGES), before, atol=1e-5), criterion


def test_pruning_is_repeatable() -> None:
    widths = {"conv1": 3, "conv2": 5, "fc1": 20, "fc2": 10}
    for criterion in ("taylor", "random"):
        first, again = pruned(widths, criterion), pruned(widths, criterion)
        assert torch.equal(first(IMAGES), again(IMAGES))
    assert not torch.equal(pruned(widths, "random", seed=1)(IMAGES), pruned(widths, "random")(IMAGES))


def squeezenet(widths: dict[str, int], *, bypass: bool = False, seed: int = 1) -> torch.nn.Module:
    options = {"stem": "small", "simple_bypass": bypass}
    return build_model(
        "squeezenet1_1", in_channels=1, n_classes=10, widths=widths, seed=seed, options=options
    ).eval()


FIRE_WIDTHS = {
    layer: 16 if "expand" in layer else 8 for layer in MODELS["squeezenet1_1"].widths if layer != "features.0"
} | {"features.0": 12}


@pytest.mark.parametrize("bypass", [False, True])
@pytest.mark.parametrize("criterion", ["magnitude", "taylor", "hessian", "random"])
def test_fire_modules_are_pruned_with_what_reads_them(criterion: str, bypass: bool) -> None:
    model = squeezenet(FIRE_WIDTHS, bypass=bypass)
    target = target_widths(FIRE_WIDTHS, 0.4)
    prune(model, target, criterion, IMAGES, LABELS, 0)
    assert widths_of(model, "squeezenet1_1") == target
    assert model.features[4].squeeze.in_channels == 10 + 10, "both sides of the concat before it"
    assert model.classifier[1].in_channels == 10 + 10
    fresh = squeezenet(target, bypass=bypass, seed=2)
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh(IMAGES), model.eval()(IMAGES))


def test_dead_channels_of_both_sides_of_a_fire_module_go_and_the_outputs_stay() -> None:
    model = squeezenet(FIRE_WIDTHS)
    dead = {"features.3.expand1x1": (2, 5), "features.3.expand3x3": (0, 7, 9), "features.6.squeeze": (3,)}
    with torch.no_grad():
        for layer, channels in dead.items():
            for channel in channels:
                model.get_submodule(layer).weight[channel] = 0
                model.get_submodule(layer).bias[channel] = 0
    before = model(IMAGES)
    target = {layer: width - len(dead.get(layer, ())) for layer, width in FIRE_WIDTHS.items()}
    for criterion in ("magnitude", "taylor", "hessian"):
        copy = squeezenet(FIRE_WIDTHS)
        copy.load_state_dict(model.state_dict())
        prune(copy, target, criterion, IMAGES, LABELS, 0)
        assert torch.allclose(copy.eval()(IMAGES), before, atol=1e-5), criterion


def test_dropout_plays_no_part_in_the_choice_of_channels() -> None:
    def outputs(seed: int) -> torch.Tensor:
        model = squeezenet(FIRE_WIDTHS)
        torch.manual_seed(seed)
        prune(model, target_widths(FIRE_WIDTHS, 0.4), "taylor", IMAGES, LABELS, 0)
        return model.eval()(IMAGES)

    assert torch.equal(outputs(1), outputs(2))


def test_a_layer_cannot_grow() -> None:
    with pytest.raises(ValueError, match="pruning cannot widen conv1 from 6 to 8 channels"):
        pruned({"conv1": 8})


@given(
    start=st.integers(1, 500),
    share=st.floats(0.01, 1.0),
    n_steps=st.integers(1, 10),
    schedule=st.sampled_from(["uniform", "cubic"]),
)
def test_widths_fall_step_by_step_to_the_target(start: int, share: float, n_steps: int, schedule: str) -> None:
    target = max(1, round(start * share))
    path = [
        widths_at_step({"a": start}, {"a": target}, step, n_steps, schedule)["a"]
        for step in range(1, n_steps + 1)
    ]
    assert path[-1] == target
    assert path == sorted(path, reverse=True)
    assert path[0] <= start


def test_a_ratio_leaves_at_least_one_channel() -> None:
    assert target_widths({"a": 10, "b": 2}, 0.6) == {"a": 4, "b": 1}
    assert target_widths({"a": 1}, 0.99) == {"a": 1}


@given(width=st.integers(1, 500), ratio=st.floats(0.01, 0.99), round_to=st.integers(1, 32))
def test_a_ratio_leaves_multiples_and_no_layer_grows(width: int, ratio: float, round_to: int) -> None:
    kept = target_widths({"a": width}, ratio, round_to)["a"]
    assert 1 <= kept <= width
    assert kept % round_to == 0 or kept == width
    assert kept in (width, round_to) or abs(kept - width * (1 - ratio)) <= round_to / 2 + 1e-9


def test_the_network_says_what_to_round_to_unless_the_recipe_does() -> None:
    def kept(model: str, **settings: int) -> int:
        return PruneSpec(ratio=0.5, **settings).kept(model, {"a": 58})["a"]

    assert (kept("lenet5"), kept("squeezenet1_1"), kept("squeezenet1_1", round_to=1)) == (29, 32, 29)


class Strange(nn.Module):
    """A residual sum, a depthwise and a grouped convolution, and two layers whose sum is the output."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.added = nn.Conv2d(8, 8, 1)
        self.alone = nn.Conv2d(8, 16, 3)
        self.before_grouped = nn.Conv2d(16, 8, 1)
        self.grouped = nn.Conv2d(8, 8, 3, groups=2)
        self.hidden = nn.Linear(8, 12)
        self.head = nn.Linear(12, 5)
        self.side_head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        x = x + self.added(torch.relu(self.depthwise(x)))
        x = torch.relu(self.grouped(self.before_grouped(torch.relu(self.alone(x)))))
        pooled = x.mean(dim=(2, 3))
        return self.side_head(pooled) + self.head(torch.relu(self.hidden(pooled)))


def test_of_an_unknown_network_all_layers_but_those_of_the_output_and_grouped_ones_can_be_pruned() -> None:
    found = prunable_layers(Strange(), torch.rand(2, 1, 16, 16))
    assert set(found) == {"stem", "depthwise", "added", "alone", "hidden"}


@pytest.mark.parametrize("criterion", ["magnitude", "taylor", "hessian", "random"])
def test_an_unknown_network_is_pruned_and_made_again_from_its_widths(criterion: str) -> None:
    torch.manual_seed(0)
    model, images = Strange(), torch.rand(4, 1, 16, 16)
    target = {"stem": 5, "depthwise": 5, "added": 5, "alone": 9, "hidden": 7}
    prune(model, target, criterion, images, torch.arange(4), seed=0)
    widths = widths_of(model, "python")
    assert {layer: widths[layer] for layer in target} == target
    assert widths["head"] == widths["side_head"] == 5 and widths["grouped"] == 8
    again = Strange()
    cut(again, widths, (1, 16, 16))
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again.eval()(images), model.eval()(images))


def test_the_cubic_schedule_removes_most_at_first() -> None:
    path = [widths_at_step({"a": 100}, {"a": 36}, step, 4, "cubic")["a"] for step in range(1, 5)]
    # 36 + 64 x (3/4, 2/4, 1/4, 0) cubed.
    assert path == [63, 44, 37, 36]


def test_hessian_importance_is_the_mean_square_of_each_images_gradient() -> None:
    """Of one layer by itself: sum of weight^2 x that, over the filter and over what reads it."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3))
    images, labels = torch.rand(5, 1, 2, 3), torch.tensor([0, 1, 2, 0, 1])
    first, last = model[1], model[3]
    expected = torch.zeros(4)
    for image, label in zip(images.split(1), labels.split(1), strict=True):
        loss = nn.functional.cross_entropy(model(image), label)
        of_first, of_last = torch.autograd.grad(loss, (first.weight, last.weight))
        expected += ((first.weight * of_first) ** 2).sum(1).detach() / 5
        expected += ((last.weight * of_last) ** 2).sum(0).detach() / 5
    found = channel_importance(model, ["1"], "hessian", images, labels)["1"]
    torch.testing.assert_close(found, expected)


def test_importance_can_be_compared_between_layers() -> None:
    """A layer that the outputs hardly depend on is worth little, however many channels it has."""
    torch.manual_seed(0)

    class Sides(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.few, self.many = nn.Linear(6, 3), nn.Linear(6, 30)
            self.last = nn.Linear(33, 3)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen = images.flatten(1)
            return self.last(torch.cat([self.few(seen), self.many(seen)], dim=1))

    model = Sides()
    with torch.no_grad():
        model.last.weight[:, 3:] *= 0.01
    images, labels = torch.rand(8, 1, 2, 3), torch.arange(8) % 3
    found = channel_importance(model, ["few", "many"], "taylor", images, labels)
    assert found["few"].sum() > 5 * found["many"].sum()


def normalized(affine: bool = True) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6, affine=affine), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 36, 10)
    )


def test_by_batchnorm_the_channels_of_the_smallest_scales_go() -> None:
    model = normalized()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([0.5, -0.9, 0.1, 0.8, -0.2, 0.7]))
    prune(model, {"0": 4}, "batchnorm", torch.rand(4, 1, 8, 8), torch.arange(4), seed=0)
    assert torch.equal(model[1].weight, torch.tensor([0.5, -0.9, 0.8, 0.7]))
    assert model[4].in_features == 4 * 36


@pytest.mark.parametrize(("model", "layer"), [(normalized(affine=False), "0"), (pruned({}), "conv1")])
def test_without_a_scale_there_is_no_pruning_by_batchnorm(model: nn.Module, layer: str) -> None:
    images = torch.rand(4, 1, *((8, 8) if layer == "0" else (28, 28)))
    with pytest.raises(ModelError, match=f"needs a BatchNorm with scales behind {layer}, and there is none"):
        prune(model, {layer: 2}, "batchnorm", images, torch.arange(4), seed=0)
