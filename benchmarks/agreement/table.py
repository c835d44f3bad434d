"""The rows as a table for the terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Iterable

from agreement.measure import Distance, Row

HEADER = (
    "network", "runtime", "inputs", "from", "0", "1", "2", "3", "4+", "largest", "within 1", "top-1 equal",
    "accuracy", "as float",
)  # fmt: skip
N_BINS = 4


def render(rows: Iterable[Row]) -> str:
    """A Markdown table, one line for each runtime and reference: shares of output values by their distance."""
    lines = [HEADER, *(line for row in rows for line in _lines(row))]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADER))]
    padded = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in lines
    ]
    padded.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(padded)


def _lines(row: Row) -> list[tuple[str, ...]]:
    if row.failure:
        return [(row.case, row.runtime, "-", row.failure, *[""] * (len(HEADER) - 4))]
    ends = (_percent(row.accuracy), _percent(row.float_top1))
    start = (row.case, row.runtime, str(row.n_inputs))
    if not row.distances:
        return [(*start, *["-"] * (len(HEADER) - 5), *ends)]
    return [(*start, name, *_cells(distance), *ends) for name, distance in row.distances.items()]


def _cells(distance: Distance) -> tuple[str, ...]:
    counts = {int(steps): n for steps, n in distance.histogram.items()}
    total = sum(counts.values())
    bins = [counts.get(steps, 0) for steps in range(N_BINS)]
    bins.append(total - sum(bins))
    shares = [_percent(n / total) if n else "-" for n in bins]
    return (*shares, str(distance.largest), _percent(distance.within_one), _percent(distance.top1_equal))


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.3%}"
