"""The results as text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from converters.comparison import Ratio, Result
from converters.networks import NETWORKS

HEAD = ("", "file", "bytes", "ms", "ops", "T", "sig", "error", "top-1", "litert", "tflite-rt", "tflm")
LEGEND = """\
ms: median, warm process, imports excluded, reading the source included. ops, T: operators, TRANSPOSEs of them.
sig: has a signature. error: largest difference from onnxruntime's float32 outputs over the largest of them.
top-1: share of pictures with the same top class as there. litert, tflite-rt, tflm: loads, runs, is right."""


def render(results: Sequence[Result], ratios: Sequence[Ratio]) -> str:
    parts = []
    for network, about in NETWORKS.items():
        here = [result for result in results if result.network == network]
        if here:
            parts.append(f"{about.title}\n{aligned([HEAD, *map(row, here)])}")
    return "\n\n".join([*parts, LEGEND, *notes(results), *verdicts(ratios)])


def row(result: Result) -> tuple[str, ...]:
    if result.contents is None:
        return (result.contestant, result.precision, "failed", *[""] * (len(HEAD) - 3))
    checked = result.checks["litert"]
    states = (
        result.checks[r].state if r in result.checks else "-" for r in ("litert", "tflite-runtime", "tflm")
    )
    return (
        result.contestant,
        result.precision,
        f"{result.n_bytes:,}",
        f"{result.median_s * 1000:,.1f}",
        str(len(result.contents.operators)),
        str(result.contents.n_transposes),
        "yes" if result.contents.has_signature else "no",
        "-" if checked.error is None else f"{checked.error:.1e}",
        "-" if checked.top1_equal is None else f"{checked.top1_equal:.1%}",
        *states,
    )


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns under each other: text to the left, figures to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    figures = range(2, 9)
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i in figures else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()
        for cells in rows
    )


def notes(results: Sequence[Result]) -> list[str]:
    """Every failure with its reason, and the operators of each file."""
    failures = [line for result in results for line in faults(result)]
    parts = [("Failures", failures), ("Operators and their versions", operators(results))]
    return ["\n  ".join([f"{title}:", *lines]) for title, lines in parts if lines]


def faults(result: Result) -> list[str]:
    """What is wrong with a file: it is not there, not what it should be, or does not run everywhere."""
    about = f"{result.network}, {result.contestant}, {result.precision}"
    found = [f"{about}: {result.reason}"] if result.reason else []
    if result.contents and result.precision == "int8" and not result.contents.is_integer:
        found.append(f"{about}: not full int8, has {', '.join(result.contents.dtypes)}")
    for runtime, check in result.checks.items():
        if check.state == "no":
            found.append(f"{about}: {runtime}: {check.reason}")
        elif check.state == "wrong":
            found.append(f"{about}: {runtime}: error {check.error:.1e}, top-1 {check.top1_equal:.1%}")
    return found


def operators(results: Sequence[Result]) -> list[str]:
    """A line for each list of operators, with all the files that have it."""
    having = defaultdict(list)
    for result in results:
        if result.contents:
            key = (result.network, result.precision, result.contents.operator_list)
            having[key].append(result.contestant)
    return [
        f"{network}, {precision}: {' | '.join(contestants)}\n    {listed}"
        for (network, precision, listed), contestants in having.items()
    ]


def verdicts(ratios: Sequence[Ratio]) -> list[str]:
    if not ratios:
        return []
    rows = [("network", "ours", "", "best other", "bound", "")]
    for ratio in ratios:
        is_size = "bytes" in ratio.what
        limit = "" if ratio.limit is None else f"{'<=' if is_size else '>='} {ratio.limit:g}"
        if is_size and ratio.limit == 1:
            limit = "< 1"
        value = f"{ratio.value:.3f}" if is_size else f"{ratio.value:,.0f}"
        met = "" if ratio.limit is None else "met" if ratio.is_met else "MISSED"
        rows.append((ratio.network, ratio.what, value, ratio.other, limit, met))
    return [
        "Ours over the best other (bytes), and how many times as fast as the fastest other:\n" + plain(rows)
    ]


def plain(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
        for cells in rows
    )
