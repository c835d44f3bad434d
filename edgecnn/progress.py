"""How long work tells where it stands. The terminal draws it; from Python it is silent unless asked for."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """One bar at a time: `start` opens it, `advance` moves it, `finish` closes it."""

    def start(self, title: str, total: int) -> None: ...

    def advance(self, steps: int = 1, detail: str = "") -> None: ...

    def finish(self, detail: str = "") -> None: ...

    def say(self, line: str) -> None: ...


class Silent:
    """The progress of someone who does not look."""

    def start(self, title: str, total: int) -> None: ...

    def advance(self, steps: int = 1, detail: str = "") -> None: ...

    def finish(self, detail: str = "") -> None: ...

    def say(self, line: str) -> None: ...
