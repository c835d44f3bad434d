"""Peak memory of loading and running a model. Call it in a fresh process: what was resident before counts."""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import Any, Dict, Optional

from edgecnn.ondevice.benchmark import example_input
from edgecnn.ondevice.runtimes import load_model, runtime_class

STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")
N_RUNS = 5


def peak_memory(model: Path, runtime_name: str, num_threads: int) -> Dict[str, Any]:
    """Resident bytes before the runtime, before the model, and at the peak of loading and running it.

    Raises DeviceError where the model cannot be loaded or has no single image input.
    """
    before_runtime = resident_bytes()
    runtime_class(runtime_name).import_package()
    before_load = resident_bytes()
    was_reset = reset_peak()
    runtime = load_model(runtime_name, model, num_threads)
    runtime.prepare(example_input(runtime.single_input()))
    for _ in range(N_RUNS):
        runtime.invoke()
    peak = status_bytes("VmHWM")
    if peak is not None:
        method = "VmHWM, reset before loading" if was_reset else "VmHWM of the whole process"
    else:
        peak, method = _largest_resident_bytes(), "ru_maxrss"
    return {
        "runtime": runtime_name,
        "runtime_version": runtime.version,
        "num_threads": num_threads,
        "peak_rss_bytes": peak,
        "rss_before_load_bytes": before_load,
        "rss_before_runtime_bytes": before_runtime,
        "method": method,
    }


def reset_peak() -> bool:
    """Sets VmHWM back to what is resident now (proc(5), clear_refs). Not every kernel is built with it."""
    try:
        CLEAR_REFS.write_text("5")
    except OSError:
        return False
    return True


def resident_bytes() -> Optional[int]:
    return status_bytes("VmRSS")


def status_bytes(field: str) -> Optional[int]:
    """A size from /proc/self/status, or None where there is no such line (not Linux)."""
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    return None


def _largest_resident_bytes() -> int:
    """Only where there is no VmHWM: on Linux this figure survives exec, so it may be that of the parent."""
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024
