"""What a target's name means."""

from __future__ import annotations

from pathlib import Path

import pytest
from recipes_for_tests import MINIMAL_RECIPE

from edgecnn import recipe_file, target_file
from edgecnn.errors import EdgeCNNError, RecipeError, UsageError
from edgecnn.target_file import Address, address


@pytest.fixture
def targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's targets.yaml, to be written by the test."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "edgecnn").mkdir()
    return tmp_path / "edgecnn" / "targets.yaml"


def test_user_and_host_need_no_file(targets: Path):
    assert address("pi@raspberrypi.local") == Address("pi@raspberrypi.local", "pi@raspberrypi.local")


def test_a_name_of_the_file(targets: Path):
    targets.write_text(
        "pi4:\n  host: pi@10.0.0.4\n  python: ~/py/bin/python\n"
        "  ssh_config: ~/cfg\n  ssh_options: [Port=2222]\n"
    )
    assert address("pi4") == Address(
        "pi4", "pi@10.0.0.4", "~/py/bin/python", Path.home() / "cfg", ("Port=2222",)
    )


def test_an_unknown_name_lists_the_known_ones(targets: Path):
    targets.write_text("pi4: {host: a@b}\n")
    with pytest.raises(UsageError, match="no target 'pi5'; known are: host, pi4") as caught:
        address("pi5")
    assert "user@host" in caught.value.fix and str(targets) in caught.value.fix


@pytest.mark.parametrize(
    "host", ["-oProxyCommand=id@b", "a@-oProxyCommand=id", "a b@c", "a@", "@b", "a@b\nc", "a@b/c"]
)
def test_a_host_that_ssh_would_take_for_something_else(targets: Path, host: str):
    with pytest.raises(UsageError, match="is not a host"):
        target_file._checked_host(host, "x")
    if "@" in host:
        with pytest.raises(UsageError, match="is not a host"):
            address(host)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pi4", "targets.yaml holds names"),
        ("pi4: a@b", "a target needs its host"),
        ("pi4: {python: python3}", "a target needs its host"),
        ("pi4: {host: a@b, port: 22}", "there is no key 'port'"),
        ("pi4: {host: 3}", "host is a text, not 3"),
        ("pi4: {host: a@b, ssh_options: Port=22}", "ssh_options is a list"),
        ("pi4: {host: a@b, ssh_options: [Port 22]}", "'Port 22' is not an option of ssh"),
        ("pi4: {host: '-oProxyCommand=id'}", "is not a host"),
        ("pi4: {host: a@b", "not valid YAML"),
        (
            "pi4: {host: a@b, ssh_config: ~nobody-of-that-name/x}",
            "there is no such user: '~nobody-of-that-name/x'",
        ),
    ],
)
def test_a_fault_in_the_file_is_told_with_its_place(targets: Path, text: str, words: str):
    targets.write_text(text)
    with pytest.raises(EdgeCNNError, match=r"targets\.yaml") as caught:
        address("pi4")
    assert words in str(caught.value) and caught.value.exit_code == 2


@pytest.mark.parametrize("letter", ["\\0", "\\n", "\\x1b", "\\uD800"])
@pytest.mark.parametrize(
    ("entry", "key"),
    [
        ('host: "a@b{}"', "host"),
        ('host: a@b, python: "/usr/bin/py{}"', "python"),
        ('host: a@b, ssh_config: "/cfg{}"', "ssh_config"),
        ('host: a@b, ssh_options: [Port=22, "User=a{}"]', "ssh_options"),
    ],
)
def test_letters_that_no_command_takes(targets: Path, entry: str, key: str, letter: str):
    targets.write_text(f"pi4: {{{entry.format(letter)}}}\n")
    with pytest.raises(
        UsageError, match=rf"targets\.yaml: pi4: {key} has a letter that cannot be in it: "
    ) as caught:
        address("pi4")
    assert "take out the NUL, line break or other control character" in str(caught.value)
    assert not set("\0\x1b\ud800") & set(str(caught.value)), "it is shown as it is written"


def test_letters_of_any_language_and_spaces_are_taken(targets: Path):
    targets.write_text("pi4: {host: a@b, python: ~/mi años/bin/python, ssh_options: ['ProxyCommand=a  b']}\n")
    assert address("pi4").python == "~/mi años/bin/python"
    assert address("pi4").ssh_options == ("ProxyCommand=a  b",)


def test_a_recipe_may_name_boards_that_are_known(targets: Path, tmp_path: Path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(MINIMAL_RECIPE + "targets: [host, pi4, pi@raspberrypi.local]\n")
    with pytest.raises(RecipeError, match=r"targets\.1: there is no target 'pi4'"):
        recipe_file.load(recipe)
    assert recipe_file.load(recipe, is_built=True).recipe.targets[1] == "pi4", "as it was built elsewhere"
    targets.write_text("pi4: {host: a@b}\n")
    assert recipe_file.load(recipe).recipe.targets == ("host", "pi4", "pi@raspberrypi.local")
