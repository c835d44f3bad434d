"""A check as workflow commands of GitHub Actions: what fails is an error, the rest a warning.

GitHub shows ten errors and ten warnings of a step: the verdict comes first, then what fails.
"""

from __future__ import annotations

import posixpath
from pathlib import Path

from edgecnn.check import Check, Finding, texts

# https://docs.github.com/actions/reference/workflow-commands-for-github-actions
_DATA = {"%": "%25", "\r": "%0D", "\n": "%0A"}
_PROPERTY = {**_DATA, ":": "%3A", ",": "%2C"}


def render(check: Check) -> str:
    level = "notice" if check.passed else "error"
    lines = [f"::{level} title=edgecnn check::{_escaped(texts.verdict(check), _DATA)}"]
    told = [one for one in check.findings if one.status != "pass" and not check.fails(one)]
    lines += [_annotation("error", check, one) for one in check.failures]
    lines += [_annotation("warning", check, one) for one in told]
    lines += [f"::warning title=edgecnn::{_escaped(note, _DATA)}" for note in check.notes]
    return "\n".join(lines) + "\n"


def _annotation(level: str, check: Check, finding: Finding) -> str:
    title = _escaped(f"edgecnn: {finding.metric} {finding.status}", _PROPERTY)
    file = _escaped(_file(check, finding), _PROPERTY)
    return f"::{level} file={file},title={title}::{_escaped(texts.message(check, finding), _DATA)}"


def _file(check: Check, finding: Finding) -> str:
    """The model's path from where the check ran: its name is seen from the folder of the baseline."""
    return posixpath.normpath(posixpath.join(*Path(check.baseline or ".").parent.parts, finding.model))


def _escaped(text: str, table: dict[str, str]) -> str:
    return "".join(table.get(character, character) for character in text)
