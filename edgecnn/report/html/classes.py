"""What is taken for what, and the pictures on which the quantized and the float network disagree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgecnn.analysis.records import Disagreement, Disagreements
from edgecnn.ondevice.predict import softmax
from edgecnn.records import Measurement, Report
from edgecnn.report import tables
from edgecnn.report.html.figures import shown_name
from edgecnn.report.remarks import shown_measurement

# A larger matrix is not read on a page; then the table of the classes has to do.
LARGEST_MATRIX = 20
N_GUESSES = 3


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix: row is the truth, or the dense network's answer. Each cell is (count, shade 0..1)."""

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
    """A picture on which the quantized network, called `quantized` ("int8"), and the float one disagree.

    `right` says who is right: "float", "quantized" or "neither". Without labels it and `label` are empty.
    """

    src: str
    image: int
    label: str
    right: str
    quantized: str
    float_guesses: tuple[Guess, ...]
    quantized_guesses: tuple[Guess, ...]

    @property
    def alternative(self) -> str:
        shown = f"test image {self.image}, a {self.label}" if self.label else f"test image {self.image}"
        by_float, by_quantized = self.float_guesses[0].name, self.quantized_guesses[0].name
        return f"{shown}: float says {by_float}, {self.quantized} says {by_quantized}"


def matrices(report: Report) -> tuple[Matrix, ...]:
    """That of the smallest file, and the dense network's; not the latter where it is held against itself."""
    dense = report.dense if report.is_labelled else None
    wanted = {one.key: one for one in (report.smallest, dense) if one is not None}
    found = []
    for artifact in wanted.values():
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


def quantized_name(found: Disagreements | None) -> str:
    """ "int8" where the quantized network ran from "int8.tflite on litert"."""
    return tables.precision_of(found.int8_run.partition(" on ")[0]) if found else "int8"


def disagreements_text(found: Disagreements | None, *, is_labelled: bool = True) -> str:
    if found is None:
        return ""
    said = (
        f"{found.int8_run} and {found.float_run} put {found.n_different:,} of {found.n_images:,} test images"
        " in different classes"
    )
    if is_labelled:
        said += (
            f": on {found.n_only_float_right:,} only float is right, on {found.n_only_int8_right:,} only "
            f"{quantized_name(found)}, on {found.n_both_wrong:,} neither."
        )
    else:
        said += "; the images have no labels, so that it is not known which of the two is right."
    n_shown = len(found.shown)
    if n_shown == found.n_different:
        return said
    return f"{said} {n_shown} of them {'is' if n_shown == 1 else 'are'} shown."


def pictures(
    found: Disagreements | None, names: Sequence[str], *, is_labelled: bool = True
) -> tuple[Picture, ...]:
    if found is None:
        return ()
    quantized = quantized_name(found)
    return tuple(_picture(one, names, quantized, is_labelled) for one in found.shown)


def _picture(one: Disagreement, names: Sequence[str], quantized: str, is_labelled: bool) -> Picture:
    right = {one.float_class: "float", one.int8_class: "quantized"}.get(one.label, "neither")
    return Picture(
        src=f"data:image/png;base64,{one.png}",
        image=one.image,
        label=_class_name(names, one.label) if is_labelled else "",
        right=right if is_labelled else "",
        quantized=quantized,
        float_guesses=guesses(one.float_outputs, names),
        quantized_guesses=guesses(one.int8_outputs, names),
    )


def _class_name(names: Sequence[str], index: int) -> str:
    return names[index] if index < len(names) else str(index)


def guesses(logits: Sequence[float], names: Sequence[str]) -> tuple[Guess, ...]:
    """The best classes with their softmax, the best first."""
    shares = softmax(np.array(logits))
    best = np.argsort(-shares, kind="stable")[:N_GUESSES]
    return tuple(Guess(_class_name(names, int(i)), float(shares[i])) for i in best)
