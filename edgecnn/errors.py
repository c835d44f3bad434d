"""What can go wrong, as the user is told it: what is wrong, where, and how to mend it."""

from __future__ import annotations


class EdgeCNNError(Exception):
    """A fault that the command line prints without a traceback.

    `what` is one sentence; `where` names the file, line, key or node; `fix` says what to do about it.
    """

    exit_code = 3

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.fix = fix

    def __str__(self) -> str:
        lines = [f"{self.where}: {self.what}" if self.where else self.what]
        if self.fix:
            lines.append(f"  fix: {self.fix}")
        return "\n".join(lines)


class RecipeError(EdgeCNNError):
    """The recipe is not one that can be built."""

    exit_code = 2


class UsageError(EdgeCNNError):
    """A file or option named on the command line cannot be used as asked."""

    exit_code = 2


class DataError(EdgeCNNError):
    """A data set is missing, altered or unreadable."""


class ModelError(EdgeCNNError):
    """The user's own network cannot be used as the recipe asks."""

    exit_code = 2


class ConversionError(EdgeCNNError):
    """An ONNX graph has no TFLite equivalent that we can write."""

    exit_code = 2


class QuantizationError(EdgeCNNError):
    """The quantization engine failed, or gave a network that is not what was asked for."""


class TargetError(EdgeCNNError):
    """The machine that was to measure an artifact did not do so."""


class MissingExtraError(EdgeCNNError):
    """A package of an optional extra is needed and not installed."""

    def __init__(self, package: str, *, extra: str, needed_for: str) -> None:
        super().__init__(
            f"{needed_for} needs {package}, which is not installed",
            fix=f'pip install "edgecnn[{extra}]"',
        )
