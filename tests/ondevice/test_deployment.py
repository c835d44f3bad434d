"""Versions on the board: whole ones only, whatever is interrupted, and a way back."""

from __future__ import annotations

import os
import shutil
import threading
import time
from pathlib import Path

import pytest

from edgecnn.ondevice import deployment
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
        act(["install", "net", version, *files])
        act(["switch", "net", version])
    assert act(["rollback", "net"]) == {"current": "v1", "previous": "v2"}
    assert (home / "current").readlink() == Path("v1")
    assert act(["rollback", "net"]) == {"current": "v2", "previous": "v1"}


def test_the_same_version_again_does_not_lose_the_way_back(home: Path, files: list[str]):
    for version in ("v1", "v2", "v2"):
        act(["install", "net", version, *files])
        act(["switch", "net", version])
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


def test_what_a_killed_install_left_is_removed_later(home: Path, files: list[str]):
    left, fresh = home / ".v0.abc", home / ".v9.def"
    for folder in (left, fresh):
        folder.mkdir(parents=True)
    os.utime(left, (time.time() - 2 * deployment.ABANDONED_S,) * 2)
    act(["install", "net", "v1", *files])
    assert not left.exists() and fresh.exists()


def test_two_hosts_at_once(home: Path, files: list[str]):
    versions = [f"v{i}" for i in range(6)]

    def deploy(version: str) -> None:
        act(["install", "net", version, *files])
        act(["switch", "net", version])

    threads = [threading.Thread(target=deploy, args=(version,)) for version in versions]
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
