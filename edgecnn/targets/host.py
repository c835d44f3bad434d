"""Measuring on this machine: each measurement in a fresh process of this Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edgecnn.ondevice.runtimes import available_runtimes
from edgecnn.targets.process import run_verb
from edgecnn.targets.target import Target

RunVerb = Callable[..., dict[str, Any]]


class HostTarget(Target):
    """This machine."""

    name = "host"

    def __init__(self, *, timeout_s: float = 600.0, run: RunVerb = run_verb) -> None:
        """`timeout_s` limits each process; `run` starts one."""
        super().__init__(self.name, _ThisMachine(run), timeout_s)

    def runtimes_for(self, model_format: str) -> tuple[str, ...]:
        return available_runtimes(model_format)


class _ThisMachine:
    """Files are where they are."""

    def __init__(self, run: RunVerb) -> None:
        self._run = run

    def run(self, arguments: Sequence[str], *, about: str, timeout_s: float) -> dict[str, Any]:
        return self._run([*arguments], about=about, timeout_s=timeout_s)

    def run_to_file(
        self, arguments: Sequence[str], output: Path, *, about: str, timeout_s: float
    ) -> dict[str, Any]:
        return self.run([*arguments, "--output", str(output)], about=about, timeout_s=timeout_s)

    def place(self, path: Path) -> str:
        # Absolute, so that a name which begins with a dash is not taken for an option.
        return str(path.absolute())
