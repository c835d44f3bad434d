"""How torch is made ready for training."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from edgecnn.training.device import keep_freed_memory
if {keep}:
    keep_freed_memory()
def fill():
    torch.ones(64 << 20, dtype=torch.uint8)
for _ in range(30):
    fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    fill()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator than glibc's")
def test_what_a_step_frees_is_not_fetched_from_the_system_again() -> None:
    def page_faults(keep: bool) -> int:
        run = subprocess.run(
            [sys.executable, "-c", FAULTS.format(keep=keep)], capture_output=True, text=True, check=True
        )
        return int(run.stdout)

    usual, kept = page_faults(False), page_faults(True)
    assert kept < usual / 50, f"{kept} page faults, {usual} without it"
