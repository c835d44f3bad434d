"""What cannot be converted: a reason for each node, all of them in one error."""

from __future__ import annotations

from edgecnn.errors import ConversionError


class Unsupported(Exception):  # noqa: N818  (a reason, gathered into one ConversionError)
    """Why one node cannot be converted."""


def raise_problems(problems: list[str]) -> None:
    """Raises one ConversionError that lists them all."""
    if problems:
        n = len(problems)
        what = f"{n} node{'s' if n > 1 else ''} cannot be converted to TFLite:\n  " + "\n  ".join(problems)
        raise ConversionError(what, fix="replace these operations in the model, or keep the ONNX file")
