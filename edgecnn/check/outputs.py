"""A check in the form that was asked for."""

from __future__ import annotations

import json

from edgecnn.check import Check, github, junit, markdown

FORMS = ("table", "markdown", "junit", "github", "json")


def render(check: Check, form: str) -> str:
    """The text of every form but the table, which is drawn for its terminal."""
    if form == "json":
        return json.dumps(check.to_json(), indent=2) + "\n"
    result: str = {"markdown": markdown, "junit": junit, "github": github}[form].render(check)
    return result
