"""A plot as it stands on the page, and the colours that say what a network is."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from edgecnn.records import Artifact

PRECISION_COLOR = {"dense": "dense", "fp32": "series-1", "int8": "series-2"}


@dataclass(frozen=True)
class Figure:
    """A plot with its caption."""

    title: str
    caption: str
    svg: Markup


def color_of(artifact: Artifact) -> str:
    return PRECISION_COLOR["dense" if artifact.variant == "dense" else _plain_precision(artifact)]


def _plain_precision(artifact: Artifact) -> str:
    return "fp32" if artifact.precision.startswith("fp") else "int8"


def shown_name(artifact: Artifact) -> str:
    return "dense" if artifact.variant == "dense" else artifact.key
