"""A check as JUnit XML: one test case for each figure of each model."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from edgecnn.check import Check, Finding, texts

# What XML 1.0 cannot hold, escaped or not.
_ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(check: Check) -> str:
    suites = ElementTree.Element("testsuites")
    skipped = sum(_is_skipped(check, one) for one in check.findings)
    suite = ElementTree.SubElement(
        suites,
        "testsuite",
        name="edgecnn check",
        tests=str(len(check.findings)),
        failures=str(len(check.failures)),
        errors="0",
        skipped=str(skipped),
    )
    for finding in check.findings:
        _add_case(suite, check, finding)
    ElementTree.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(suites, encoding="unicode") + "\n"


def _add_case(suite: ElementTree.Element, check: Check, finding: Finding) -> None:
    name = f"{finding.metric} ({finding.against})"
    case = ElementTree.SubElement(suite, "testcase", classname=_legal(finding.model), name=_legal(name))
    said = _legal(texts.message(check, finding))
    if check.fails(finding):
        failure = ElementTree.SubElement(case, "failure", type=finding.status, message=said)
        failure.text = said
    elif _is_skipped(check, finding):
        ElementTree.SubElement(case, "skipped", message=said)


def _is_skipped(check: Check, finding: Finding) -> bool:
    return finding.status != "pass" and not check.fails(finding)


def _legal(text: str) -> str:
    return _ILLEGAL.sub("\ufffd", text)
