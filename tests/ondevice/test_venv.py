"""The environment in ~/edgecnn/venv: nothing else is removed for it, and it hangs on nobody's own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgecnn.ondevice import venv
from edgecnn.ondevice.venv import install
from edgecnn.ondevice.written import MOST_STDERR


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "edgecnn").mkdir()
    return tmp_path / "edgecnn" / "venv"


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that were to be run; none is, and all succeed."""
    asked: list[list[str]] = []

    def run(command: list[str]) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(venv, "_run", run)
    return asked


def test_a_folder_that_is_no_environment_is_left_as_it_is(folder: Path, commands: list[list[str]]):
    (folder / "v1").mkdir(parents=True)
    (folder / "v1" / "model.tflite").write_bytes(b"weights")
    answer = install(["numpy"])
    assert f"{folder} is no virtual environment" in answer["error"] and "move it away" in answer["fix"]
    assert commands == [] and (folder / "v1" / "model.tflite").read_bytes() == b"weights"


def test_an_environment_of_the_users_that_a_link_leads_to_is_left_as_it_is(
    folder: Path, commands: list[list[str]], tmp_path: Path
):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "pyvenv.cfg").touch()
    folder.symlink_to(tmp_path / "own")
    assert "a link to one: it is left as it is" in install(["numpy"])["error"] and commands == []


@pytest.mark.parametrize("left", [["pyvenv.cfg"], ["pyvenv.cfg", "bin/python"], []])
def test_what_is_left_of_one_that_was_never_whole_is_made_anew(
    folder: Path, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch, left: list[str]
):
    (folder / "bin").mkdir(parents=True)
    for name in left:
        (folder / name).touch()
    monkeypatch.setattr(venv, "_works", lambda _: False)
    assert install(["numpy"])["packages"] == ["numpy"]
    make, pip = commands
    assert make[1:] == ["-m", "venv", "--clear", "--system-site-packages", str(folder)]
    assert pip[0] == str(folder / "bin" / "python") and "--no-user" in pip
    assert not any("break-system" in word or "sudo" in word for word in (*make, *pip))


THIS = "{}.{}".format(*sys.version_info)


@pytest.mark.parametrize("line", ["version = 3.4.10", "version_info = 3.4.10.final.0", "version=3.4"])
def test_one_of_another_python_is_made_anew(folder: Path, commands: list[list[str]], line: str):
    folder.mkdir()
    (folder / "pyvenv.cfg").write_text(f"home = /usr/bin\nvirtualenv = {THIS}.1\n{line}\n")
    assert install(["numpy"])["replaced"] == "3.4"
    make, pip = commands
    assert make[1:] == ["-m", "venv", "--clear", "--system-site-packages", str(folder)]
    assert pip[:4] == [str(folder / "bin" / "python"), "-m", "pip", "install"]


@pytest.mark.parametrize(
    "text", [f"version = {THIS}.99\n", f"version_info = {THIS}.0.final.0\n", "version = ?", "\udcff"]
)
def test_one_of_this_python_or_of_who_knows_which_is_kept_if_it_works(
    folder: Path, commands: list[list[str]], text: str
):
    folder.mkdir()
    (folder / "pyvenv.cfg").write_text(text, errors="surrogateescape")
    assert install(["numpy"])["replaced"] is None
    assert [command[3] for command in commands] == ["--version", "install"]


def test_of_a_command_the_last_words_are_kept():
    done = venv._run([sys.executable, "-c", "import sys; print('x' * 50_000); sys.exit('last\\n')"])
    assert done.returncode == 1 and done.stdout.endswith("last\n\n") and len(done.stdout) == MOST_STDERR


def test_a_command_that_writes_without_end_is_ended(folder: Path, monkeypatch: pytest.MonkeyPatch):
    endless = folder.with_name("endless")
    endless.write_text("#!/bin/sh\nexec yes 'no end'\n")
    endless.chmod(0o755)
    monkeypatch.setattr(venv, "_system_python", lambda: str(endless))
    answer = install(["numpy"])
    assert "cannot make a virtual environment\n  | no end" in answer["error"] and len(answer["error"]) < 200


def test_it_is_made_of_the_python_below_an_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    major, minor = sys.version_info[:2]
    (tmp_path / "bin").mkdir()
    below = tmp_path / "bin" / f"python{major}.{minor}"
    below.touch()
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "own"))
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path))
    # As Python 3.9 and 3.10 have it there.
    monkeypatch.setattr(sys, "_base_executable", str(tmp_path / "own" / "bin" / "python"))
    assert venv._system_python() == str(below)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(sys, "_base_executable", "/usr/bin/python3")
    assert venv._system_python() == "/usr/bin/python3"
