"""`tflm`: TFLite Micro on this machine. It tells the memory of a model, and neither time nor accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgecnn.errors import UsageError
from edgecnn.targets.target import Target


class MicroTarget(Target):
    """Known by its name; `edgecnn benchmark --target tflm` is what can be done with it."""

    name = "tflm"

    def __init__(self) -> None:
        super().__init__(self.name, _Nothing(), timeout_s=0)

    def runtimes_for(self, model_format: str) -> tuple[str, ...]:
        return ()


class _Nothing:
    largest_file_bytes: int | None = None

    def run(self, arguments: Sequence[str], *, about: str, timeout_s: float) -> dict[str, Any]:
        raise UsageError(
            f"TFLite Micro on this machine does no {arguments[0]}",
            fix="edgecnn benchmark MODEL.tflite --target tflm tells the memory that a model needs",
        )

    def run_to_file(
        self, arguments: Sequence[str], output: Path, *, about: str, timeout_s: float
    ) -> dict[str, Any]:
        return self.run(arguments, about=about, timeout_s=timeout_s)

    def place(self, path: Path) -> str:
        return str(path)
