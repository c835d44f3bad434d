"""docs/your-own-model.md: its examples run, word for word, and what it says of errors is so."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import digits_for_tests
import pytest
from cli.commands import run, told
from measurements_for_tests import measure_little
from recipes_for_tests import ROOT

from edgecnn import build_folder, recipe_file

PAGE = (ROOT / "docs" / "your-own-model.md").read_text(encoding="utf-8")
NET, MY_NET, FIRST_COMMANDS, GIVEN, SECOND_COMMANDS, NORMALIZATION = (
    text for _, text in re.findall(r"```(python|yaml|sh)\n(.*?)```", PAGE, re.DOTALL)
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of the page, where they are built."""
    for name, content in (("net.py", NET), ("my_net.yaml", MY_NET), ("given.yaml", GIVEN)):
        assert f"`{name}`:" in PAGE
        (tmp_path / name).write_text(content)
    monkeypatch.chdir(tmp_path)
    measure_little(monkeypatch)
    return tmp_path


@pytest.fixture
def few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand digits for training, a hundred for the rest: enough to see faults, too few to learn."""
    digits_for_tests.use_fewer(monkeypatch, n_train=1000, n_rest=100)


def commands(block: str) -> list[list[str]]:
    lines = [shlex.split(line) for line in block.splitlines()]
    assert all(line[0] == "edgecnn" for line in lines)
    return [line[1:] for line in lines]


@pytest.mark.slow
def test_the_examples_run_as_they_stand(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # An epoch of fewer would not teach it enough; a thousand pictures say as well whether it did.
    digits_for_tests.use_fewer(monkeypatch, n_train=55_000, n_rest=1_000)
    for command in (*commands(FIRST_COMMANDS), *commands(SECOND_COMMANDS)):
        result = run(*command)
        assert result.exit_code == 0, result.output
        if "--allow-code" in command:
            assert "--allow-code: runs Net of net.py" in result.stderr
    trained = build_folder.read_report(folder / "artifacts" / "my_net")
    given = build_folder.read_report(folder / "artifacts" / "given")
    assert [stage.stage for stage in trained.stages] == ["train", "1-prune", "2-quantize"]
    assert [stage.stage for stage in given.stages] == ["import", "1-quantize"]
    assert trained.stages[1].n_params < 0.8 * trained.stages[0].n_params, "pruned"
    by_key = {artifact.key: artifact for artifact in trained.artifacts}
    dense = by_key["dense.fp32.onnx"].measurements[0].accuracy
    assert dense > 0.8
    assert given.artifacts[0].measurements[0].accuracy == dense, "the file is the network that it was"
    assert run("build", "my_net.yaml").exit_code == 2, "allowed once is not allowed for good"
    unchanged = run("build", "my_net.yaml", "--allow-code")
    assert "train: unchanged" in unchanged.stderr and "runs Net" not in unchanged.stderr


def test_nothing_but_build_with_leave_runs_the_file(folder: Path, few_images: None) -> None:
    ran = folder / "it_ran"
    (folder / "net.py").write_text(f"open({str(ran)!r}, 'w')\n" + NET)
    result = run("build", "my_net.yaml")
    assert result.exit_code == 2
    assert "this recipe runs code that is not part of edgecnn: net.py, to make the network Net" in told(result)
    assert "run the same command with --allow-code" in result.stderr
    assert run("build", "my_net.yaml", "--dry-run").exit_code == 0
    assert not ran.exists()
    assert not (folder / "artifacts").exists(), "nothing is written, either"
    result = run("build", "my_net.yaml", "--allow-code", "--set", "model.args.n_classes=5")
    assert "Net has 5 outputs; mnist has 10 classes" in told(result)
    assert ran.exists(), "the test can fail"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("nn.Conv2d(1, width", "nn.Conv2d(3, width", "Net does not run on the pictures of mnist (1 x 28 x 28"),
        ("x.mean(dim=(2, 3))", "x.mean(dim=(2, 3)) if x.max() > 0 else x", "torch cannot export Net to ONNX"),
        ("x.mean(dim=(2, 3))", "torch.erfinv(x).mean(dim=(2, 3)) * 0", "cannot"),
        ("torch.relu(self.stem(images))", "x.relu()", "net.py:34: Net does not run on the pictures"),
    ],
)
def test_what_does_not_fit_is_told_before_training(
    folder: Path, few_images: None, old: str, new: str, expected: str
) -> None:
    assert old in NET
    (folder / "net.py").write_text(NET.replace(old, new))
    result = run("build", "my_net.yaml", "--allow-code")
    assert result.exit_code == 2, result.output
    assert expected in told(result)
    assert "train ..." not in result.stderr


def test_channel_counts_in_forward_are_told_when_it_is_pruned(folder: Path, few_images: None) -> None:
    fixed = NET.replace("x.mean(dim=(2, 3))", "x.mean(dim=(2, 3)).view(-1, 32)")
    assert fixed != NET
    (folder / "net.py").write_text(fixed)
    result = run("build", "my_net.yaml", "--allow-code")
    assert result.exit_code == 2, result.output
    assert "pruned, the network does not run any more" in told(result)
    assert "leave prune out" in result.stderr


def test_widths_are_refused_before_anything_runs(folder: Path) -> None:
    result = run("build", "my_net.yaml", "--dry-run", "--set", "compress.0.prune={widths: [3, 4]}")
    assert "the layers of your own network are not known before it runs" in told(result)


def test_the_normalization_shown_is_one(folder: Path) -> None:
    (folder / "given.yaml").write_text(GIVEN.replace("data: mnist", NORMALIZATION.strip()))
    pre = recipe_file.load(folder / "given.yaml").recipe.preprocessing
    assert (pre.mean, pre.std) == ((0.5,), (0.5,))
