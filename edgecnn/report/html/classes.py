"""What is taken for what, and the pictures on which int8 and float disagree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgecnn.analysis.records import Disagreement, Disagreements
from edgecnn.records import Measurement, Report
from edgecnn.report import model_card
from edgecnn.report.html.figures import shown_name
from edgecnn.report.remarks import shown_measurement

# A larger matrix is not read on a page; then the table of the classes has to do.
LARGEST_MATRIX = 20
N_GUESSES = 3


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix: row is the truth. Each cell is (count, shade 0..1)."""

    title: str
    names: tuple[str, ...]
    rows: tuple[tuple[tuple[int, float], ...], ...]
    n_wrong: int


@dataclass(frozen=True)
class Guess:
    name: str
    share: float


@dataclass(frozen=True)
class Picture:
    """A picture on which int8 and float disagree; `right` says who is right: "float", "int8" or "neither"."""

    src: str
    image: int
    label: str
    right: str
    float_guesses: tuple[Guess, ...]
    int8_guesses: tuple[Guess, ...]

    @property
    def alternative(self) -> str:
        by_float, by_int8 = self.float_guesses[0].name, self.int8_guesses[0].name
        return f"test image {self.image}, a {self.label}: float says {by_float}, int8 says {by_int8}"


def matrices(report: Report) -> tuple[Matrix, ...]:
    """The dense network's, and that of the smallest file."""
    dense = next((one for one in report.artifacts if one.variant == "dense"), None)
    wanted = [one for one in (model_card.smallest(report), dense) if one is not None]
    found = []
    for artifact in dict.fromkeys(wanted):
        shown = shown_measurement(artifact)
        if shown is not None and 0 < len(shown.confusion) <= LARGEST_MATRIX:
            found.append(matrix(f"{shown_name(artifact)} on {shown.runtime}", shown))
    return tuple(found)


def matrix(title: str, measurement: Measurement) -> Matrix:
    """A mistake's shade is the root of its share of the most frequent one: few are to be seen, too."""
    counts = np.array(measurement.confusion)
    mistakes = counts - np.diag(np.diag(counts))
    shades = np.sqrt(mistakes / max(1, mistakes.max()))
    rows = tuple(
        tuple((int(n), round(float(shade), 3)) for n, shade in zip(row, of_row, strict=True))
        for row, of_row in zip(counts, shades, strict=True)
    )
    names = tuple(one.name for one in measurement.per_class) or tuple(map(str, range(len(counts))))
    return Matrix(title, names, rows, int(mistakes.sum()))


def class_names(report: Report) -> tuple[str, ...]:
    measured = next((m for artifact in report.artifacts for m in artifact.measurements if m.per_class), None)
    return tuple(one.name for one in measured.per_class) if measured else ()


def disagreements_text(found: Disagreements | None) -> str:
    if found is None:
        return ""
    said = (
        f"{found.int8_run} and {found.float_run} put {found.n_different:,} of {found.n_images:,} test images"
        f" in different classes: on {found.n_only_float_right:,} only float is right, on "
        f"{found.n_only_int8_right:,} only int8, on {found.n_both_wrong:,} neither."
    )
    return said if len(found.shown) == found.n_different else f"{said} {len(found.shown)} of them are shown."


def pictures(found: Disagreements | None, names: Sequence[str]) -> tuple[Picture, ...]:
    return tuple(_picture(one, names) for one in found.shown) if found else ()


def _picture(one: Disagreement, names: Sequence[str]) -> Picture:
    right = {one.float_class: "float", one.int8_class: "int8"}.get(one.label, "neither")
    return Picture(
        src=f"data:image/png;base64,{one.png}",
        image=one.image,
        label=_class_name(names, one.label),
        right=right,
        float_guesses=guesses(one.float_outputs, names),
        int8_guesses=guesses(one.int8_outputs, names),
    )


def _class_name(names: Sequence[str], index: int) -> str:
    return names[index] if index < len(names) else str(index)


def guesses(logits: Sequence[float], names: Sequence[str]) -> tuple[Guess, ...]:
    """The best classes with their softmax, the best first."""
    values = np.exp(np.array(logits) - max(logits))
    shares = values / values.sum()
    best = np.argsort(-shares, kind="stable")[:N_GUESSES]
    return tuple(Guess(_class_name(names, int(i)), float(shares[i])) for i in best)
