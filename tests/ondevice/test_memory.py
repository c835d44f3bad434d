"""Peak memory, read from the kernel."""

from __future__ import annotations

import subprocess
import sys

import pytest

from edgecnn.ondevice import memory
from edgecnn.ondevice.memory import peak_memory, resident_bytes, status_bytes

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


PEAKS = """
import numpy as np
from edgecnn.ondevice.memory import reset_peak, status_bytes
can_reset, before = reset_peak(), status_bytes("VmHWM")
block = np.ones(64 * 2**20, np.uint8)
del block
after = status_bytes("VmHWM")
print(int(can_reset and reset_peak()), after - before, status_bytes("VmHWM") - before)
"""


@linux
def test_the_peak_holds_what_was_freed_and_can_be_reset():
    # In a process of its own: what other tests left behind is given back at any moment.
    done = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True, check=True)
    can_reset, grown, left = map(int, done.stdout.split())
    if not can_reset:
        pytest.skip("this kernel does not reset VmHWM")
    assert grown >= 60 * 2**20
    assert left < 30 * 2**20


@linux
def test_peak_memory_of_a_model(models):
    answer = peak_memory(models.fp32_onnx, "onnxruntime", 1)
    assert answer["peak_rss_bytes"] >= answer["rss_before_load_bytes"] > 2**20
    assert answer["rss_before_load_bytes"] >= answer["rss_before_runtime_bytes"] * 0.9
    assert answer["method"].startswith("VmHWM")


def test_the_kernel_may_refuse_to_reset(models, monkeypatch: pytest.MonkeyPatch, tmp_path):
    monkeypatch.setattr(memory, "CLEAR_REFS", tmp_path / "gone" / "clear_refs")
    if sys.platform.startswith("linux"):
        assert peak_memory(models.fp32_onnx, "onnxruntime", 1)["method"] == "VmHWM of the whole process"


def test_without_proc_the_largest_resident_size_is_taken(models, monkeypatch: pytest.MonkeyPatch, tmp_path):
    monkeypatch.setattr(memory, "STATUS", tmp_path / "gone")
    answer = peak_memory(models.fp32_onnx, "onnxruntime", 1)
    assert answer["method"] == "ru_maxrss" and answer["peak_rss_bytes"] > 2**20
    assert answer["rss_before_load_bytes"] is None and resident_bytes() is None


def test_a_missing_line_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path):
    (tmp_path / "status").write_text("Name:\tpython\nVmRSS:\t   2048 kB\n")
    monkeypatch.setattr(memory, "STATUS", tmp_path / "status")
    assert status_bytes("VmRSS") == 2048 * 1024
    assert status_bytes("VmHWM") is None
