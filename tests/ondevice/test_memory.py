"""Peak memory, read from the kernel."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from edgecnn.ondevice import memory
from edgecnn.ondevice.memory import peak_memory, reset_peak, resident_bytes, status_bytes

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


@linux
def test_the_peak_holds_what_was_freed_and_can_be_reset():
    if not reset_peak():
        pytest.skip("this kernel does not reset VmHWM")
    before = status_bytes("VmHWM")
    block = np.ones(64 * 2**20, np.uint8)
    del block
    assert status_bytes("VmHWM") - before >= 60 * 2**20
    assert reset_peak()
    assert status_bytes("VmHWM") - before < 30 * 2**20


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
