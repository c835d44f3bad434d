"""`edgecnn verify` and `edgecnn clean`: the files of a build against its lock, and what may go."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import filelock
import pytest
from cli.commands import run, told

from edgecnn import build_folder, provenance
from edgecnn.records import Report


def test_an_untouched_build_verifies(built: tuple[Path, Report]) -> None:
    result = run("verify", built[0])
    assert result.exit_code == 0, result.output
    assert result.output.count("ok ") == 14  # five models with their manifests, four files about them
    assert run("verify", built[0], "--json").exit_code == 0


def test_a_file_that_was_changed_removed_or_put_there_is_named(copied: Path) -> None:
    model = copied / "quick.int8.tflite"
    model.write_bytes(model.read_bytes()[:-1] + b"\0\0")
    (copied / "quick.fp32.onnx").unlink()
    (copied / "stray.tflite").write_bytes(b"TFL3")
    result = run("verify", copied, "--json")
    assert result.exit_code == 1
    found = {one["file"]: one["status"] for one in json.loads(result.stdout)["files"]}
    assert found.pop("quick.int8.tflite") == "changed"
    assert found.pop("quick.fp32.onnx") == "missing"
    assert found.pop("stray.tflite") == "unknown"
    assert set(found.values()) == {"ok"}


def test_the_lock_says_what_went_in(built: tuple[Path, Report]) -> None:
    lock = provenance.read(built[0])
    assert lock.recipe == "quick" and lock.seed == 0 and lock.threads == 2 and lock.data == "mnist"
    assert len(lock.data_sha256) == len(lock.recipe_sha256) == 64
    assert lock.tools["torch"][0].isdigit() and lock.machine["cpu_model"]
    assert {"train", "1-prune", "2-quantize", "export"} <= lock.stages.keys()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "there is no build.lock.json"),
        ("{}", "not a lock of a build"),
        ("[1, 2]", "not a lock of a build"),
        ("[" * 100_000, "not a lock of a build"),
        ('{"schema_version": 99}', "pip install -U edgecnn"),
    ],
)
def test_a_lock_that_cannot_be_used_is_said(copied: Path, content: str | None, said: str) -> None:
    path = copied / "build.lock.json"
    path.unlink()
    if content is not None:
        path.write_text(content)
    result = run("verify", copied)
    assert result.exit_code == 2 and said in told(result)


def test_a_build_made_again_has_the_same_model_files(copied: Path, short_timing: None) -> None:
    result = run("verify", copied, "--rebuild", "--json")
    again = json.loads(result.stdout)["rebuilt"]
    assert {one["status"] for one in again["files"]} == {"ok"} and len(again["files"]) == 10
    assert again["differences"] == []


def test_what_was_different_is_named() -> None:
    lock = provenance.BuildLock(
        recipe="a", recipe_sha256="1", seed=0, data="mnist", data_sha256="2", weights_sha256=None, threads=1,
        torch_device="cpu", machine={"cpu_model": "one"}, tools={"torch": "2.9"}, git=None, stages={},
        outputs={},
    )  # fmt: skip
    other = lock.model_copy(update={"threads": 2, "tools": {"torch": "2.10"}, "outputs": {"a": "b"}})
    assert provenance.differences(lock, lock) == []
    assert provenance.differences(lock, other) == ["threads: 1 -> 2", "torch: 2.9 -> 2.10"]


def test_git_state_is_that_of_the_recipe(tmp_path: Path) -> None:
    assert provenance.git_state(tmp_path) is None
    for command in ("init -q", "-c user.name=a -c user.email=a@b commit -q --allow-empty -m x"):
        assert os.system(f"git -C {tmp_path} {command}") == 0
    state = provenance.git_state(tmp_path)
    assert state is not None and len(state.commit) == 40 and not state.changed


def stale_result(folder: Path, stage: str = "1-trial", days: float = 1) -> Path:
    path = folder / ".stages" / stage / "0123456789abcdef"
    path.mkdir(parents=True)
    (path / "network.onnx").write_bytes(b"x" * 1000)
    written = time.time() - days * 86_400
    os.utime(path / "network.onnx", (written, written))
    return path


def test_clean_removes_what_the_build_does_not_need_and_nothing_else(copied: Path) -> None:
    stale = stale_result(copied)
    before = {path for path in copied.rglob("*") if path.is_file()}
    assert "would free 1.0 kB of 1 stage results" in run("clean", copied, "--dry-run").output
    assert stale.is_dir()
    assert "freed 1.0 kB of 1 stage results" in run("clean", copied).output
    assert {path for path in copied.rglob("*") if path.is_file()} == before - {stale / "network.onnx"}
    assert "of 0 stage results" in run("clean", copied).output


def test_what_an_interrupted_build_left_since_then_stays(copied: Path) -> None:
    built = time.time() - 2 * 86_400
    os.utime(copied / "build.lock.json", (built, built))
    newer = stale_result(copied, days=1)
    assert "of 0 stage results" in run("clean", copied).output
    assert newer.is_dir()
    assert run("clean", copied, "--all").exit_code == 0
    assert not newer.exists()


def test_a_linked_result_is_unlinked_and_what_it_points_to_stays(copied: Path, tmp_path: Path) -> None:
    elsewhere = stale_result(tmp_path / "elsewhere")
    (copied / ".stages" / "1-trial").mkdir()
    (copied / ".stages" / "1-trial" / "linked").symlink_to(elsewhere, target_is_directory=True)
    assert run("clean", copied).exit_code == 0
    assert not (copied / ".stages" / "1-trial" / "linked").exists()
    assert (elsewhere / "network.onnx").exists()


def test_all_on_a_folder_that_is_no_build_makes_nothing(tmp_path: Path) -> None:
    assert run("clean", "--all", tmp_path / "typo").exit_code == 2
    assert not (tmp_path / "typo").exists()


def test_only_what_is_old_enough_goes(copied: Path) -> None:
    old, new = stale_result(copied, "1-trial", days=40), stale_result(copied, "2-trial", days=3)
    assert run("clean", copied, "--older-than", "30d").exit_code == 0
    assert not old.exists() and new.exists()
    assert run("clean", copied, "--older-than", "2d").exit_code == 0
    assert not new.exists()


def test_all_leaves_the_files_of_the_build(copied: Path) -> None:
    assert run("clean", copied, "--all").exit_code == 0
    assert not list((copied / ".stages").glob("*/*/"))
    assert run("verify", copied).exit_code == 0


def test_what_an_unfinished_build_needs_is_not_known(copied: Path) -> None:
    (copied / "build.lock.json").unlink()
    stale = stale_result(copied)
    result = run("clean", copied)
    assert result.exit_code == 2 and "there is no build.lock.json" in told(result)
    assert stale.exists()


def test_a_running_build_is_left_alone(copied: Path) -> None:
    stale = stale_result(copied)
    with filelock.FileLock(copied / build_folder.LOCK):
        result = run("clean", copied)
    assert result.exit_code == 2 and "another build is writing to this folder" in told(result)
    assert stale.exists()


def test_without_folders_the_builds_in_artifacts_are_cleaned(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "artifacts").mkdir()
    copied.rename(tmp_path / "artifacts" / "quick")
    monkeypatch.chdir(tmp_path)
    stale = stale_result(tmp_path / "artifacts" / "quick")
    result = run("clean", "--json")
    assert json.loads(result.stdout)["builds"] == [{"folder": "artifacts/quick", "results": 1, "bytes": 1000}]
    assert not stale.exists()


@pytest.mark.parametrize("age", ["30", "d", "-1d", "3y", "1.5h"])
def test_an_age_that_is_none_is_said(copied: Path, age: str) -> None:
    result = run("clean", copied, f"--older-than={age}")
    assert result.exit_code == 2 and "such as 30d" in result.stderr
