"""The interpreters that run model files, one module each, imported when asked for."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Dict, Optional, Tuple, Type, cast

from edgecnn.ondevice.manifest import DeviceError, require_file
from edgecnn.ondevice.runtimes.runtime import Runtime

# In order of preference. The classes are light: the package itself is imported when a model is loaded.
RUNTIMES = {
    "onnxruntime": "edgecnn.ondevice.runtimes.onnxruntime:OnnxRuntime",
    "litert": "edgecnn.ondevice.runtimes.litert:LiteRT",
    "tflite-runtime": "edgecnn.ondevice.runtimes.tflite_runtime:TFLiteRuntime",
}


def runtime_class(name: str) -> Type[Runtime]:
    """Raises DeviceError for a name that is not in RUNTIMES."""
    if name not in RUNTIMES:
        raise DeviceError(f"unknown runtime {name!r}", "use one of: " + ", ".join(RUNTIMES))
    module, _, attribute = RUNTIMES[name].partition(":")
    return cast(Type[Runtime], getattr(importlib.import_module(module), attribute))


def format_of(model: Path) -> str:
    """ "onnx" or "tflite", by the file's suffix. Raises DeviceError for any other."""
    suffix = model.suffix.lower().lstrip(".")
    if suffix not in ("onnx", "tflite"):
        raise DeviceError(f"{model.name} is neither an .onnx nor a .tflite file", "name a model file")
    return suffix


def load_model(name: str, model: Path, num_threads: int = 1, optimize: bool = True) -> Runtime:
    """Loads a model file on the runtime called `name`.

    Raises DeviceError where the runtime is unknown, not installed, made for the other format,
    or cannot load the file.
    """
    chosen = runtime_class(name)
    model_format = format_of(model)
    if chosen.model_format != model_format:
        fitting = ", ".join(n for n in RUNTIMES if runtime_class(n).model_format == model_format)
        raise DeviceError(f"{name} does not run .{model_format} files", f"use one of: {fitting}")
    require_file(model)
    if num_threads < 1:
        raise DeviceError(f"{num_threads} threads asked for", "ask for 1 or more")
    if not is_installed(name):
        raise DeviceError(f"{name} is not installed", f"pip install {chosen.distribution}")
    return chosen(model, num_threads, optimize)


def is_installed(name: str) -> bool:
    return importlib.util.find_spec(runtime_class(name).package) is not None


def available_runtimes(model_format: str) -> Tuple[str, ...]:
    """Names of the installed runtimes for "onnx" or "tflite", the preferred one first. Imports none."""
    return tuple(
        name for name in RUNTIMES if runtime_class(name).model_format == model_format and is_installed(name)
    )


def preferred_runtime(model: Path) -> str:
    """The first installed runtime for the file. Raises DeviceError where there is none."""
    model_format = format_of(model)
    names = available_runtimes(model_format)
    if not names:
        package = "onnxruntime" if model_format == "onnx" else "ai-edge-litert"
        raise DeviceError(f"no runtime for .{model_format} files is installed", f"pip install {package}")
    return names[0]


def installed_version(name: str) -> Optional[str]:
    """The version of a runtime's package, or None where it is not installed."""
    # Not above: it is a tenth of what a board imports for one inference.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(runtime_class(name).distribution)
    except PackageNotFoundError:
        return "unknown" if is_installed(name) else None


def installed_versions() -> Dict[str, str]:
    """Name -> version of every installed runtime."""
    versions = {name: installed_version(name) for name in RUNTIMES}
    return {name: version for name, version in versions.items() if version is not None}
