"""A build as it was read from its folder: what a page or a card tells of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgecnn.analysis.records import Analysis
from edgecnn.records import Report


@dataclass(frozen=True)
class Build:
    """`analysis` is None where it cannot be had; then `lacks` says why.

    `recipe_text` is the recipe file as it lies in the folder, empty where it is gone.
    """

    folder: str
    report: Report
    analysis: Analysis | None = None
    lacks: str = ""
    recipe_text: str = ""
    tool_versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.report.recipe.get("name", "?"))

    @property
    def verdict(self) -> str:
        """ "pass", "fail", or "no budget" where the recipe sets no limits."""
        if not self.report.verdicts:
            return "no budget"
        return "pass" if self.report.passed else "fail"
