"""`budget:` and `reject:` of a recipe."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from edgecnn.recipe.spec import Spec, limit
from edgecnn.units import parse_ms, parse_points, parse_share, parse_size

_size, _points, _share, _ms = (
    limit(parse_size, "20 kB"),
    limit(parse_points, "0.3 pt"),
    limit(parse_share, "99 %"),
    limit(parse_ms, "5 ms"),
)


class Budget(Spec):
    """What one artifact may cost. Any miss ends the build with exit code 1, after everything is written."""

    max_size_bytes: Annotated[int, *_size] | None = Field(None, alias="max_size")
    max_accuracy_drop: Annotated[float, *_points] | None = None
    min_accuracy: Annotated[float, *_share] | None = None
    max_median_ms: Annotated[float, *_ms] | None = Field(None, alias="max_median")
    max_peak_rss_bytes: Annotated[int, *_size] | None = Field(None, alias="max_peak_rss")


class RejectSpec(Spec):
    """When a model answers "none of these" instead of a class."""

    keep: Annotated[float, *_share] = Field(
        description="share of the validation images that are answered; what is less sure is none of these"
    )

    @model_validator(mode="after")
    def _answers_something(self) -> RejectSpec:
        if self.keep == 0:
            raise ValueError("reject: keep must be more than 0 %, or nothing is ever answered")
        return self
