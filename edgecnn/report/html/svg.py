"""A matplotlib figure as SVG that stands inside an HTML page: its colours are those of the page's theme."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from markupsafe import Markup

from edgecnn.report.letters import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SVG = "{http://www.w3.org/2000/svg}"
HREF = "{http://www.w3.org/1999/xlink}href"
# What is drawn in one of these colours gets the variable of the style sheet, which knows light and dark.
THEME = {
    "#0a0b01": "--ink",
    "#0a0b02": "--muted",
    "#0a0b03": "--line",
    "#0a0b04": "--surface",
    "#0a0b10": "--dense",
    "#0a0b11": "--series-1",
    "#0a0b12": "--series-2",
    "#0a0b13": "--series-3",
    "#0a0b14": "--series-4",
    "#0a0b15": "--series-5",
    "#0a0b16": "--series-6",
}
COLOR = {variable.removeprefix("--"): color for color, variable in THEME.items()}
# An artist with this gid shows the text of the same number when it is pointed at.
TIP = "tip-"
_NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
_FONT = re.compile(r"font: ([^;]*?)(\d+(?:\.\d+)?px) [^;]+")


def embedded(figure: Figure, name: str, title: str, description: str, tips: Mapping[str, str]) -> Markup:
    """`figure` as an <svg> element. `name` is unique in the page; `tips` are texts by the gid of an artist."""
    written = io.BytesIO()
    figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    root = ElementTree.fromstring(written.getvalue())  # noqa: S314
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    for part in [child for child in root if child.tag != f"{SVG}g" and not _is_wanted(child)]:
        root.remove(part)
    _own_ids(root, name, tips)
    for element in root.iter():
        _clean(element)
    root.attrib.update(
        {"role": "img", "aria-labelledby": f"{name}-title {name}-desc"},
    )
    root.attrib["style"] = "stroke-linejoin: round; stroke-linecap: butt"
    for position, (tag, text) in enumerate((("title", title), ("desc", description))):
        said = ElementTree.Element(f"{SVG}{tag}", {"id": f"{name}-{tag}"})
        said.text = printable(text)
        root.insert(position, said)
    # Registered names would be global: the prefixes that ElementTree makes are taken off by hand.
    text = ElementTree.tostring(root, encoding="unicode")
    text = re.sub(r' xmlns:ns\d+="[^"]*"', "", text)
    return Markup(re.sub(r"(</?|\s)ns\d+:", r"\1", text))  # noqa: S704


def _is_wanted(part: ElementTree.Element) -> bool:
    """Shapes that are used by reference are; the style sheet, which would hold for the whole page, is not."""
    for style in part.findall(f"{SVG}style"):
        part.remove(style)
    return part.tag == f"{SVG}defs" and len(part) > 0


def _own_ids(root: ElementTree.Element, name: str, tips: Mapping[str, str]) -> None:
    """Keeps the ids that something refers to, with `name` before them; a tip's becomes its text."""
    text = ElementTree.tostring(root, encoding="unicode")
    used = set(re.findall(r"url\(#([^)]+)\)", text)) | set(re.findall(r'href="#([^"]+)"', text))
    for element in root.iter():
        known = element.attrib.pop("id", None)
        if known in tips:
            element.set("data-tip", tips[str(known)])
        elif known in used:
            element.set("id", f"{name}-{known}")
        if HREF in element.attrib:
            element.set("href", f"#{name}-{element.attrib.pop(HREF).removeprefix('#')}")
        for attribute in ("clip-path", "style"):
            if attribute in element.attrib:
                element.set(attribute, re.sub(r"url\(#", f"url(#{name}-", element.get(attribute, "")))


def _clean(element: ElementTree.Element) -> None:
    """Theme colours, the page's font, coordinates of a tenth of a pixel."""
    if "d" in element.attrib:
        element.set("d", _path(element.get("d", "")))
    for attribute in ("x", "y", "width", "height", "transform"):
        if attribute in element.attrib:
            element.set(attribute, _NUMBER.sub(_rounded, element.get(attribute, "")))
    style = element.get("style")
    if style:
        for color, variable in THEME.items():
            style = style.replace(color, f"var({variable})")
        element.set("style", _FONT.sub(r"font-size: \2", style) if "font:" in style else style)
    # matplotlib names each glyph that it draws as text in a comment; whitespace between elements is its own.
    element.text = element.text if element.text and element.text.strip() else None
    element.tail = None


def _path(path: str) -> str:
    joined = " ".join(_NUMBER.sub(_rounded, path).split())
    # A dot: a line that goes nowhere, with round ends.
    joined = re.sub(r"M ([\d.-]+) ([\d.-]+) L \1 \2(?= |$)", r"M\1 \2h0", joined)
    return re.sub(r" ?([MLCQZz]) ?", r"\1", joined)


def _rounded(number: re.Match[str]) -> str:
    return f"{float(number[0]):.1f}".removesuffix(".0").replace("-0.", "-.") if number[0] != "-0.0" else "0"
