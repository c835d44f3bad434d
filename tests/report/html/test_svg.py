"""matplotlib's SVG made fit to stand in the page."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from report.html.builds import a_report

from edgecnn.report.html import timing
from edgecnn.report.html.plots import accuracy, bars
from edgecnn.report.html.svg import THEME


def test_it_is_an_element_with_a_name_and_a_description() -> None:
    svg = bars.bars("size", "Sizes", [bars.Bar("a", (("weights", 5.0),))], {"weights": "series-1"})
    root = ElementTree.fromstring(svg)
    assert root.tag == "svg"
    assert root.get("aria-labelledby") == "size-title size-desc"
    assert [child.get("id") for child in root[:2]] == ["size-title", "size-desc"]
    assert root[0].text == "Sizes"
    assert root.get("width") is None, "the page decides how wide it is"
    assert float((root.get("viewBox") or "").split()[2]) > 300
    assert "<style" not in svg, "it would hold for the whole page"
    assert "ns0:" not in svg


def test_colours_are_those_of_the_page() -> None:
    svg = timing.latency_figures(a_report())[0].svg
    assert not [color for color in THEME if color in svg]
    colors = set(re.findall(r"(?:fill|stroke): ([^;\"]+)", svg))
    assert {"var(--series-1)", "var(--series-2)", "var(--dense)", "var(--ink)"} <= colors
    assert all(color.startswith("var(") or color == "none" for color in colors), colors


def test_references_point_to_ids_of_the_same_plot() -> None:
    svg = timing.latency_figures(a_report())[1].svg
    ids = set(re.findall(r' id="([^"]+)"', svg))
    used = set(re.findall(r"url\(#([^)]+)\)", svg)) | set(re.findall(r'href="#([^"]+)"', svg))
    assert used
    assert used <= ids
    assert all(one.startswith("latency-1-") for one in ids)


def test_a_mark_tells_its_figures() -> None:
    point = accuracy.Point("a <b> & c", 11_000, 0.99, 0.98, 1.0, "series-2", True)
    svg = accuracy.accuracy_against_size("x", "T", [point])
    assert 'data-tip="a &lt;b&gt; &amp; c: 11.0 kB, 99.00 %"' in svg
    assert "<b>" not in svg
