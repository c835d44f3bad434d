"""What a machine has and lacks for running models. Stdlib only: numpy may be what is missing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import shutil
import struct
import sys
import sysconfig
from pathlib import Path
from typing import Any, Dict, Optional

from edgecnn.ondevice import environment

PACKAGES = ("numpy", "pillow", "ai-edge-litert", "tflite-runtime", "onnxruntime")


def survey(root: Path = Path("/")) -> Dict[str, Any]:
    """Plain facts; None is what cannot be read. `packages`: name -> version of those that are installed."""
    return {
        "arch": platform.machine(),
        "bits": struct.calcsize("P") * 8,
        "board_model": environment.board_model(root),
        "cpu_model": environment.cpu_model(root),
        "n_cores": environment.usable_cores(),
        "os": environment.os_name(root),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "python_path": sys.executable,
        "in_venv": sys.prefix != sys.base_prefix,
        "has_venv_module": importlib.util.find_spec("ensurepip") is not None,
        "externally_managed": Path(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED").exists(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "has_picamera2": importlib.util.find_spec("picamera2") is not None,
        "memory_bytes": environment.memory_bytes(root),
        "disk_free_bytes": shutil.disk_usage(Path.home()).free,
        "emulated": environment.is_emulated(root),
        **environment.conditions(root),
    }


def _version(distribution: str) -> Optional[str]:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
