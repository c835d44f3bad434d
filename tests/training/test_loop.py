import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgecnn.data import Dataset
from edgecnn.errors import DataError, EdgeCNNError
from edgecnn.models import build_model
from edgecnn.ondevice.manifest import Preprocessing
from edgecnn.progress import Silent
from edgecnn.training import checkpoint, loop
from edgecnn.training.distill import Teacher, distillation_loss
from edgecnn.training.loop import Pictures, Settings, evaluate, learning_rate_share, make_optimizer, train

PREPROCESSING = Preprocessing(28, 28, 1, (0.1,), (0.3,))
SETTINGS = Settings(
    epochs=3,
    batch_size=32,
    optimizer="adamw",
    learning_rate=3e-3,
    schedule="one_cycle",
    weight_decay=0.01,
    label_smoothing=0.0,
    augment=("shift", "rotate", "scale"),
    seed=5,
)


def squares_and_bars(n: int, seed: int) -> Pictures:
    """Two classes that a small network tells apart: a filled square, or a vertical bar, with noise."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, n)
    images = random.integers(0, 60, (n, 28, 28, 1)).astype(np.uint8)
    images[labels == 0, 8:20, 8:20] = 250
    images[labels == 1, 2:26, 12:15] = 250
    return Pictures(Dataset(images, labels, ("square", "bar"), "train"), PREPROCESSING, torch.device("cpu"))


TRAINING, VALIDATION = squares_and_bars(256, 0), squares_and_bars(128, 1)


def network() -> torch.nn.Module:
    torch.set_num_threads(1)
    return build_model(
        "lenet5", in_channels=1, n_classes=2, widths={"conv1": 3, "conv2": 4, "fc1": 8, "fc2": 8}, seed=1
    )


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("schedule", ["one_cycle", "cosine"])
def test_the_loop_learns(optimizer: str, schedule: str) -> None:
    model = network()
    rate = 0.02 if optimizer == "sgd" else 3e-3
    settings = replace(SETTINGS, optimizer=optimizer, schedule=schedule, learning_rate=rate, epochs=5)
    history = train(model, TRAINING, VALIDATION, settings)
    assert evaluate(model, VALIDATION) > 0.95
    assert [epoch.epoch for epoch in history] == [1, 2, 3, 4, 5]
    assert history[-1].train_loss < history[0].train_loss
    assert history[-1].validation_accuracy == evaluate(model, VALIDATION)


def test_the_same_seed_gives_the_same_bits_and_another_seed_others() -> None:
    first, again, other = network(), network(), network()
    train(first, TRAINING, VALIDATION, SETTINGS)
    train(again, TRAINING, VALIDATION, SETTINGS)
    train(other, TRAINING, VALIDATION, replace(SETTINGS, seed=6))
    assert torch.equal(weights(first), weights(again))
    assert not torch.equal(weights(first), weights(other))


class StopAfter:
    """Progress that pulls the plug in the middle of an epoch."""

    def __init__(self, n_steps: int) -> None:
        self.left = n_steps

    def start(self, title: str, total: int) -> None: ...
    def finish(self, detail: str = "") -> None: ...
    def say(self, line: str) -> None: ...

    def advance(self, steps: int = 1, detail: str = "") -> None:
        self.left -= steps
        if self.left < 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_run_cut_off_goes_on_with_the_same_bits(tmp_path: Path, optimizer: str) -> None:
    settings = replace(SETTINGS, optimizer=optimizer)
    whole = network()
    history = train(whole, TRAINING, VALIDATION, settings)
    with pytest.raises(KeyboardInterrupt):
        train(network(), TRAINING, VALIDATION, settings, checkpoints=tmp_path, progress=StopAfter(19))
    resumed = network()
    assert train(resumed, TRAINING, VALIDATION, settings, checkpoints=tmp_path) == history
    assert torch.equal(weights(whole), weights(resumed))
    assert len(list(tmp_path.glob("*.safetensors"))) == 1, "older checkpoints are removed"


def test_dropout_goes_on_with_the_same_bits_too(tmp_path: Path) -> None:
    def with_dropout() -> torch.nn.Module:
        return torch.nn.Sequential(network(), torch.nn.Dropout(0.5))

    whole, resumed = with_dropout(), with_dropout()
    train(whole, TRAINING, VALIDATION, SETTINGS)
    with pytest.raises(KeyboardInterrupt):
        train(with_dropout(), TRAINING, VALIDATION, SETTINGS, checkpoints=tmp_path, progress=StopAfter(19))
    torch.rand(7)
    train(resumed, TRAINING, VALIDATION, SETTINGS, checkpoints=tmp_path)
    assert torch.equal(weights(whole), weights(resumed))


def test_the_weights_lie_in_memory_as_before() -> None:
    model = network()
    train(model, TRAINING, VALIDATION, replace(SETTINGS, epochs=1))
    assert all(parameter.is_contiguous() for parameter in model.parameters())


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    train(network(), TRAINING, VALIDATION, replace(SETTINGS, epochs=1), checkpoints=tmp_path)
    (path,) = tmp_path.glob("*.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="the checkpoint is damaged: its sha256") as fault:
        checkpoint.load(tmp_path)
    assert "--force" in str(fault.value)
    (tmp_path / checkpoint.INDEX).write_text("{")
    with pytest.raises(DataError, match="the checkpoint is damaged"):
        checkpoint.load(tmp_path)


def test_divergence_ends_with_advice() -> None:
    model = network()
    with torch.no_grad():
        model.fc3.bias.fill_(math.inf)  # as an optimizer that ran away leaves it
    with pytest.raises(EdgeCNNError, match="training diverged: the loss is nan in epoch 1") as fault:
        train(model, TRAINING, VALIDATION, SETTINGS)
    assert "learning_rate" in str(fault.value)


def test_the_schedules_rise_and_fall_as_they_say() -> None:
    one_cycle = [learning_rate_share("one_cycle", step, 100) for step in range(101)]
    assert one_cycle[0] == pytest.approx(1 / 25)
    assert max(one_cycle) == pytest.approx(1.0)
    assert one_cycle.index(max(one_cycle)) == 30
    assert one_cycle[100] == pytest.approx(1 / 250_000, abs=1e-9)
    cosine = [learning_rate_share("cosine", step, 100) for step in range(101)]
    assert cosine == sorted(cosine, reverse=True)
    assert (cosine[0], cosine[50], cosine[100]) == pytest.approx((1, 0.5, 0))
    assert 0 < learning_rate_share("one_cycle", 0, 1) <= 1, "a single step has a rate, too"


def test_distillation_is_hintons_loss() -> None:
    teacher_net, student_logits = network(), torch.tensor([[1.0, -1.0], [0.5, 0.2]])
    images = TRAINING.normalized(TRAINING.images[:2])
    label_loss = torch.tensor(0.4)
    t, w = 2.0, 0.75
    teacher = Teacher(teacher_net, t, w)
    loss = distillation_loss(label_loss, student_logits, teacher.logits(images), teacher)
    with torch.no_grad():
        p = torch.softmax(teacher_net(images) / t, 1).numpy()
    q = torch.softmax(student_logits / t, 1).numpy()
    divergence = float((p * np.log(p / q)).sum(1).mean())
    assert float(loss) == pytest.approx(0.25 * 0.4 + 0.75 * t * t * divergence, rel=1e-5)


def test_a_network_is_its_own_perfect_teacher() -> None:
    model = network()
    images = TRAINING.normalized(TRAINING.images[:8])
    teacher = Teacher(model, 3.0, 1.0)
    loss = distillation_loss(torch.tensor(0.0), model(images), teacher.logits(images), teacher)
    assert math.isclose(float(loss.detach()), 0.0, abs_tol=1e-6)


def test_pictures_are_normalized_as_on_the_board() -> None:
    from edgecnn.ondevice.manifest import TensorSpec
    from edgecnn.ondevice.preprocess import model_input

    images_nhwc = np.arange(28 * 28, dtype=np.int64).reshape(1, 28, 28, 1).astype(np.uint8)
    expected = model_input(images_nhwc, PREPROCESSING, "NCHW", TensorSpec("", (), "float32"))
    images = torch.from_numpy(images_nhwc.transpose(0, 3, 1, 2).copy())
    np.testing.assert_allclose(TRAINING.normalized(images).numpy(), expected, atol=1e-6)


def layer_weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def test_frozen_layers_stay_until_they_are_let_go() -> None:
    model = network()
    before = layer_weights(model)
    train(model, TRAINING, VALIDATION, replace(SETTINGS, epochs=2, freeze_epochs=1, learning_rate=1e-3))
    assert not torch.equal(before["conv1.weight"], layer_weights(model)["conv1.weight"])
    frozen = network()
    run = loop.Run(frozen, replace(SETTINGS, epochs=2, freeze_epochs=1), None, Silent())
    run.one_epoch(TRAINING, 1, 8)
    after = layer_weights(frozen)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"fc3.weight", "fc3.bias"}
    assert all(p.requires_grad for p in model.parameters()), "a finished network can be trained on"


def test_layers_nearer_the_picture_learn_slower_by_the_factor() -> None:
    model = network()
    groups = make_optimizer(model, replace(SETTINGS, layer_decay=0.5)).param_groups
    share = {id(p): group["share"] for group in groups for p in group["params"]}
    by_name = {name: share[id(p)] for name, p in model.named_parameters()}
    assert by_name["fc3.weight"] == by_name["fc3.bias"] == 1
    assert by_name["fc2.weight"] == 0.5 and by_name["conv1.weight"] == 0.5**4
    decays = {p.ndim > 1: group["weight_decay"] for group in groups for p in group["params"]}
    assert decays == {True: 0.01, False: 0.0}


def test_the_average_of_the_weights_is_what_is_judged_and_kept(tmp_path: Path) -> None:
    plain, averaged = network(), network()
    train(plain, TRAINING, VALIDATION, SETTINGS)
    history = train(averaged, TRAINING, VALIDATION, replace(SETTINGS, ema=0.9))
    assert not torch.equal(weights(plain), weights(averaged))
    assert history[-1].validation_accuracy == evaluate(averaged, VALIDATION)
    # By hand: after each step, average = d average + (1 - d) weights, d at most 0.9 and small at first; torch
    # starts from the first weights.
    by_hand = network()
    run = loop.Run(by_hand, replace(SETTINGS, ema=0.9), None, Silent())
    average = None
    for step, (images, targets) in enumerate(TRAINING.batches(SETTINGS, run.generator)):
        run.set_rate(step, 24)
        run.step(images, targets)
        d = min(0.9, (1 + step) / (10 + step))
        average = weights(by_hand) if average is None else d * average + (1 - d) * weights(by_hand)
    torch.testing.assert_close(weights(run.judged), average)


def test_a_run_with_everything_cut_off_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    settings = replace(
        SETTINGS, ema=0.9, layer_decay=0.8, freeze_epochs=1, mixup=0.2, cutmix=1.0, augment=("crop", "color")
    )
    whole, resumed = network(), network()
    history = train(whole, TRAINING, VALIDATION, settings)
    with pytest.raises(KeyboardInterrupt):
        train(network(), TRAINING, VALIDATION, settings, checkpoints=tmp_path, progress=StopAfter(19))
    assert train(resumed, TRAINING, VALIDATION, settings, checkpoints=tmp_path) == history
    assert torch.equal(weights(whole), weights(resumed))


def test_bfloat16_learns_and_keeps_float32_weights_and_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    settings = replace(SETTINGS, epochs=6, precision="bfloat16")
    taught, plain, whole, resumed = network(), network(), network(), network()
    float32 = replace(settings, precision="float32")
    train(taught, TRAINING, VALIDATION, float32)
    teacher = Teacher(taught, 2.0, 0.5)
    train(plain, TRAINING, VALIDATION, float32, teacher=teacher)
    history = train(whole, TRAINING, VALIDATION, settings, teacher=teacher)
    assert history[-1].validation_accuracy > 0.95
    assert not torch.equal(weights(plain), weights(whole)), "nothing was rounded"
    assert {p.dtype for p in whole.parameters()} == {torch.float32}
    with pytest.raises(KeyboardInterrupt):
        train(
            network(), TRAINING, VALIDATION, settings,
            checkpoints=tmp_path, teacher=teacher, progress=StopAfter(19),
        )  # fmt: skip
    assert train(resumed, TRAINING, VALIDATION, settings, checkpoints=tmp_path, teacher=teacher) == history
    assert torch.equal(weights(whole), weights(resumed))


def with_norms() -> torch.nn.Module:
    """A convolution and its norm, then a layer that the user has frozen, then the classifier."""
    torch.manual_seed(4)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, stride=2), torch.nn.BatchNorm2d(4), torch.nn.ReLU(),
        torch.nn.Conv2d(4, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 2),
    )  # fmt: skip
    model[3].requires_grad_(False)
    return model


def test_what_the_user_has_frozen_stays_so_and_statistics_stand_still_with_their_layer() -> None:
    model = with_norms()
    before, statistics = layer_weights(model), model[1].running_mean.clone()
    settings = replace(SETTINGS, epochs=3, freeze_epochs=1)
    run = loop.Run(model, settings, None, Silent())
    run.one_epoch(TRAINING, 1, 8)
    run.finish()
    assert torch.equal(model[1].running_mean, statistics)
    train(model, TRAINING, VALIDATION, settings)
    moved = {name for name, one in layer_weights(model).items() if not torch.equal(one, before[name])}
    assert moved == set(before) - {"3.weight", "3.bias"}
    assert not model[3].weight.requires_grad and model[0].weight.requires_grad


def test_the_average_has_the_statistics_of_the_network() -> None:
    model = with_norms()
    run = loop.Run(model, replace(SETTINGS, ema=0.9), None, Silent())
    run.one_epoch(TRAINING, 1, 8)
    averaged = run.judged.get_submodule("1")
    assert float(model[1].running_mean.abs().sum()) > 0
    assert torch.equal(averaged.running_mean, model[1].running_mean)
    assert not torch.equal(averaged.weight, model[1].weight)


def test_a_norm_learns_as_the_layer_before_it() -> None:
    model = with_norms()
    groups = make_optimizer(model, replace(SETTINGS, layer_decay=0.5)).param_groups
    share = {id(p): group["share"] for group in groups for p in group["params"]}
    by_name = {name: share[id(p)] for name, p in model.named_parameters()}
    assert by_name["0.weight"] == by_name["1.weight"] == by_name["1.bias"] == 0.25
    assert by_name["3.weight"] == 0.5 and by_name["6.weight"] == 1


@pytest.mark.parametrize(
    ("n_images", "expected"), [(33, [16, 17]), (32, [16, 16]), (34, [16, 16, 2]), (1, [1]), (5, [5])]
)
def test_no_picture_is_a_batch_alone_where_others_are(n_images: int, expected: list[int]) -> None:
    assert loop.batch_sizes(n_images, 16) == expected


def test_a_norm_behind_pooling_trains_on_any_number_of_pictures() -> None:
    model = torch.nn.Sequential(
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.BatchNorm1d(1), torch.nn.Linear(1, 2)
    )
    history = train(model, squares_and_bars(33, 0), VALIDATION, replace(SETTINGS, batch_size=16, epochs=1))
    assert math.isfinite(history[0].train_loss)


def test_a_network_that_takes_views_gets_its_channels_first() -> None:
    class Views(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.dense = torch.nn.Conv2d(1, 4, 5, stride=4), torch.nn.Linear(4 * 36, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.dense(torch.relu(self.conv(x)).view(x.size(0), -1))

    def first(pictures: Pictures) -> Pictures:
        split = Dataset(
            pictures.images.permute(0, 2, 3, 1).numpy(), pictures.labels.numpy(), ("a", "b"), "train"
        )
        return Pictures(split, PREPROCESSING, torch.device("cpu"), channels_last=False)

    history = train(Views(), first(TRAINING), first(VALIDATION), SETTINGS)
    assert history[-1].validation_accuracy > 0.9
    with pytest.raises(RuntimeError, match="view"):
        train(Views(), TRAINING, VALIDATION, SETTINGS)


def test_a_teacher_works_in_the_layout_of_the_images() -> None:
    """Pooling is some ten times slower in the other one, which was a fifth of a step."""
    student, taught = network(), network()
    pooled = []
    convolutions = [layer for layer in taught.modules() if isinstance(layer, torch.nn.Conv2d)]
    for layer in convolutions:
        layer.register_forward_hook(lambda _, __, output: pooled.append(output))
    train(student, TRAINING, VALIDATION, replace(SETTINGS, epochs=1), teacher=Teacher(taught, 3.0, 0.5))
    assert len(pooled) >= len(convolutions) > 0
    assert all(output.is_contiguous(memory_format=torch.channels_last) for output in pooled)
