"""One build, or several side by side, as a self-contained HTML page: no network, no other file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from edgecnn.report.build import Build
from edgecnn.report.html import comparison, page

TEMPLATES = Path(__file__).parent / "templates"


def render(builds: Sequence[Build]) -> str:
    """The page about one build, or the one that compares several, in their order. It can be written as UTF-8.

    Raises MissingExtraError where matplotlib, which draws the plots, is not installed.
    """
    name, shown = ("report", page.of(builds[0])) if len(builds) == 1 else ("comparison", comparison.of(builds))
    written = _environment().get_template(f"{name}.html.j2").render(page=shown, **_inlined())
    # Half of a surrogate pair, which JSON can hold and UTF-8 cannot.
    return written.encode("utf-8", "replace").decode("utf-8")


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _inlined() -> dict[str, Any]:
    """Style and script as they stand in the page, and the hash by which the page lets this script run alone."""
    script = (TEMPLATES / "script.js").read_text(encoding="utf-8").strip()
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return {
        "style": Markup((TEMPLATES / "style.css").read_text(encoding="utf-8").strip()),  # noqa: S704
        "script": Markup(script),  # noqa: S704
        "script_hash": base64.b64encode(digest).decode("ascii"),
    }
