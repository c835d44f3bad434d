"""A plot as it stands on the page, and the colours that say what a network is."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from edgecnn.records import Artifact

FLOAT, QUANTIZED = "series-1", "series-2"


@dataclass(frozen=True)
class Figure:
    """A plot with its caption."""

    title: str
    caption: str
    svg: Markup


def color_of(artifact: Artifact) -> str:
    if artifact.variant == "dense":
        return "dense"
    return FLOAT if artifact.precision.startswith("fp") else QUANTIZED


def shown_name(artifact: Artifact) -> str:
    return "dense" if artifact.variant == "dense" else artifact.key
