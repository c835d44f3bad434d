"""Killed builds and full disks: a short run of `make chaos`."""

from __future__ import annotations

import subprocess
import sys

import pytest
from recipes_for_tests import ROOT


def run(tool: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools" / tool), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_killed_builds_end_with_the_files_of_one_that_was_left_alone() -> None:
    done = run("chaos.py", "--kills", "5", "--seed", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 of 5 equal" in done.stdout


@pytest.mark.slow
def test_a_full_disk_is_a_clear_error_and_leaves_what_was_there() -> None:
    done = run("full_disk.py", "--points", "2")
    if done.returncode == 77:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout + done.stderr
