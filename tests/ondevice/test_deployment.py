"""Versions on the board: whole ones only, whatever is interrupted, and a way back."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgecnn.ondevice.deployment import act


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / "edgecnn" / "net"


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    (tmp_path / "model.tflite").write_bytes(b"weights")
    (tmp_path / "predict").write_text("#!/bin/sh\n")
    return [str(tmp_path / "model.tflite"), str(tmp_path / "predict")]


def test_a_version_is_installed_then_made_current(home: Path, files: list[str]):
    assert act(["install", "net", "v1", *files]) == {"folder": str(home / "v1")}
    assert not (home / "current").exists()
    assert act(["switch", "net", "v1"]) == {"current": "v1", "previous": None}
    assert (home / "current" / "model.tflite").read_bytes() == b"weights"
    assert os.access(home / "current" / "predict", os.X_OK)
    assert not os.access(home / "current" / "model.tflite", os.X_OK)


def test_the_way_back_and_forth(home: Path, files: list[str]):
    for version in ("v1", "v2"):
        deploy(version, files)
    assert act(["rollback", "net"]) == {"current": "v1", "previous": "v2"}
    assert (home / "current").readlink() == Path("v1")
    assert act(["rollback", "net"]) == {"current": "v2", "previous": "v1"}


def test_the_same_version_again_does_not_lose_the_way_back(home: Path, files: list[str]):
    for version in ("v1", "v2", "v2"):
        deploy(version, files)
    assert act(["rollback", "net"])["current"] == "v1"


def test_nothing_to_go_back_to(home: Path, files: list[str]):
    act(["install", "net", "v1", *files])
    act(["switch", "net", "v1"])
    answer = act(["rollback", "net"])
    assert "no version of net before" in answer["error"] and answer["fix"]
    assert (home / "current").readlink() == Path("v1")


def test_an_install_that_fails_half_way_leaves_nothing(home: Path, files: list[str]):
    answer = act(["install", "net", "v1", *files, str(home / "gone")])
    assert "cannot write" in answer["error"] and answer["fix"]
    assert [path.name for path in home.iterdir()] == [".lock"]


def test_a_version_that_was_altered_there_is_made_anew(home: Path, files: list[str]):
    act(["install", "net", "v1", *files])
    act(["switch", "net", "v1"])
    (home / "v1" / "model.tflite").write_bytes(b"weightS")
    (home / "v1" / "predict").unlink()
    assert act(["install", "net", "v1", *files]) == {"folder": str(home / "v1")}
    assert (home / "current" / "model.tflite").read_bytes() == b"weights"
    assert os.access(home / "current" / "predict", os.X_OK)
    assert sorted(path.name for path in home.iterdir()) == [".lock", "current", "v1"]


def test_a_whole_version_is_left_alone(home: Path, files: list[str]):
    act(["install", "net", "v1", *files])
    before = (home / "v1" / "model.tflite").stat().st_ino
    act(["install", "net", "v1", *files])
    assert (home / "v1" / "model.tflite").stat().st_ino == before


def test_a_version_that_went_does_not_become_current(home: Path, files: list[str]):
    act(["install", "net", "v1", *files])
    act(["switch", "net", "v1"])
    answer = act(["switch", "net", "v2"])
    assert "version v2 of net is not there" in answer["error"] and answer["fix"]
    assert (home / "current").readlink() == Path("v1")


def test_what_a_killed_install_left_is_removed_by_the_next_action(home: Path, files: list[str]):
    for name in (".v0.abcd1234", ".v0.abcd1234.altered", ".own", "notes"):
        (home / name).mkdir(parents=True)
    act(["install", "net", "v1", *files])
    assert sorted(path.name for path in home.iterdir()) == [".lock", ".own", "notes", "v1"]


CHANGES = {"os.mkdir", "os.rename", "os.symlink", "os.remove", "os.rmdir", "os.chmod"}


def killed_before_change(n: int, arguments: list[str]) -> bool:
    """`act(arguments)` in a process that ends by SIGKILL before its change to the file system with that number;
    whether it came that far.
    """
    left = n

    def count(event: str, of: tuple[Any, ...]) -> None:
        nonlocal left
        if event in CHANGES or (event == "open" and of[2] & (os.O_WRONLY | os.O_RDWR)):
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    process = os.fork()
    if process == 0:
        failed = True
        try:
            sys.addaudithook(count)
            failed = "error" in act(arguments)
        finally:
            os._exit(failed)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    assert code in (0, -signal.SIGKILL)
    return code != 0


def killed_at_each_change(home: Path, arguments: list[str], prepare: Callable[[], None]) -> Iterator[int]:
    """Once for each change that `act(arguments)` makes: `prepare` has made `home`, and it was killed there."""
    for n in itertools.count():
        shutil.rmtree(home, ignore_errors=True)
        prepare()
        if not killed_before_change(n, arguments):
            return
        yield n


def deploy(version: str, files: list[str]) -> dict[str, str | None]:
    act(["install", "net", version, *files])
    return act(["switch", "net", version])


def test_a_rollback_that_was_killed_at_any_moment_loses_no_version(home: Path, files: list[str]):
    def two_versions() -> None:
        for version in ("v1", "v2"):
            deploy(version, files)

    seen = set()
    for n in killed_at_each_change(home, ["rollback", "net"], two_versions):
        current = str((home / "current").readlink())
        other = {"v1": "v2", "v2": "v1"}[current]
        assert act(["rollback", "net"]) == {"current": other, "previous": current}, n
        assert act(["rollback", "net"]) == {"current": current, "previous": other}, n
        seen.add(current)
    assert seen == {"v1", "v2"}, "killed before and after the change that counts"


def test_a_deployment_that_was_killed_at_any_moment_leaves_the_way_back(home: Path, files: list[str]):
    def three_versions() -> None:
        for version in ("v1", "v2"):
            deploy(version, files)
        act(["install", "net", "v3", *files])

    seen = set()
    for n in killed_at_each_change(home, ["switch", "net", "v3"], three_versions):
        current = str((home / "current").readlink())
        before = {"v3": "v2", "v2": "v1"}[current]
        assert act(["rollback", "net"]) == {"current": before, "previous": current}, n
        assert act(["rollback", "net"]) == {"current": current, "previous": before}, n
        assert deploy("v3", files) == {"current": "v3", "previous": "v2"}, n
        seen.add(current)
    assert seen == {"v2", "v3"}, "killed before and after the change that counts"


def test_an_altered_version_is_there_at_any_moment_while_it_is_made_anew(home: Path, files: list[str]):
    def altered() -> None:
        deploy("v1", files)
        for name in ("model.tflite", "predict"):
            (home / "v1" / name).write_bytes(b"altered")

    n = -1
    for n in killed_at_each_change(home, ["install", "net", "v1", *files], altered):
        assert (home / "current" / "model.tflite").read_bytes() in (b"weights", b"altered"), n
        assert (home / "current" / "predict").read_bytes() in (b"#!/bin/sh\n", b"altered"), n
        deploy("v1", files)
        assert (home / "current" / "model.tflite").read_bytes() == b"weights", n
        assert os.access(home / "current" / "predict", os.X_OK), n
        assert sorted(path.name for path in (home / "v1").iterdir()) == ["model.tflite", "predict"], n
        assert sorted(path.name for path in home.iterdir()) == [".lock", "current", "v1"], n
    assert n > 5


def test_a_new_version_that_was_killed_at_any_moment_is_not_there(home: Path, files: list[str]):
    for n in killed_at_each_change(home, ["install", "net", "v2", *files], lambda: None):
        assert not (home / "v2").exists() or len([*(home / "v2").iterdir()]) == 2, n
        assert deploy("v2", files)["current"] == "v2", n
        assert sorted(path.name for path in home.iterdir()) == [".lock", "current", "v2"], n


def test_a_folder_in_the_place_of_a_file_is_replaced(home: Path, files: list[str]):
    deploy("v1", files)
    (home / "v1" / "predict").unlink()
    (home / "v1" / "predict" / "x").mkdir(parents=True)
    deploy("v1", files)
    assert os.access(home / "current" / "predict", os.X_OK)


def test_links_that_lead_to_the_same_version_are_no_way_back(home: Path, files: list[str]):
    for version in ("v1", "v2"):
        deploy(version, files)
    (home / "previous").unlink()
    (home / "previous").symlink_to("v2")
    assert "no version of net before" in act(["rollback", "net"])["error"]


def test_two_hosts_at_once(home: Path, files: list[str]):
    versions = [f"v{i}" for i in range(6)]
    threads = [threading.Thread(target=deploy, args=(version, files)) for version in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(path.name for path in home.iterdir()) == [".lock", "current", "previous", *versions]
    current, previous = (home / "current").readlink(), (home / "previous").readlink()
    assert current != previous and {str(current), str(previous)} <= set(versions)


def test_a_folder_that_cannot_be_written(home: Path, files: list[str]):
    home.parent.mkdir()
    shutil.copy(files[0], home)  # a file where the folder should be
    answer = act(["install", "net", "v1", *files])
    assert "cannot write" in answer["error"] and str(home) in answer["error"]


@pytest.mark.parametrize(
    "arguments", [["../../outside", "v1"], ["/tmp/outside", "v1"], ["net", "../v1"], ["", "v1"]]
)
@pytest.mark.parametrize("action", ["install", "switch", "rollback"])
def test_a_name_that_leads_out_of_the_folder_is_refused(
    action: str, arguments: list[str], home: Path, files: list[str], tmp_path: Path
):
    before = set(tmp_path.rglob("*"))
    assert "no name of a model" in act([action, *arguments, *files])["error"]
    assert set(tmp_path.rglob("*")) == before


def test_no_model_lies_where_the_environment_is(home: Path, files: list[str]):
    for action in (["install", "venv", "v1", *files], ["switch", "venv", "v1"], ["rollback", "venv"]):
        answer = act(action)
        assert "a model called venv would lie where" in answer["error"] and "another name" in answer["fix"]
    assert not (home.parent / "venv").exists()
