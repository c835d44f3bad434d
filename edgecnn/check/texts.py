"""Findings as words and figures with units: one source for every form of output."""

from __future__ import annotations

from collections.abc import Callable

from edgecnn.check import Check, Finding, Update
from edgecnn.report import tables
from edgecnn.report.tables import NONE, Table
from edgecnn.units import format_ms, format_points, format_share, format_size

_FORMATS: dict[str, Callable[[float], str]] = {
    "size": format_size,
    "accuracy": format_share,
    "accuracy_drop": lambda drop: f"{format_points(drop)} pt",
    "top1_equal": format_share,
    "max_lsb": lambda lsb: f"{lsb:.0f} LSB",
    "instructions": lambda n: f"{n:,.0f}",
    "latency": format_ms,
}
_IN_POINTS = ("accuracy", "accuracy_drop", "top1_equal")
_FLOORS = ("accuracy", "top1_equal", "min_accuracy")


def figure(metric: str, value: float | None) -> str:
    """A figure with the unit of its metric, "-" where there is none."""
    if value is None:
        return NONE
    kind = metric.partition(" ")[0]
    return _FORMATS[kind](value) if kind in _FORMATS else tables.limit_text(metric, value)


def pair(finding: Finding) -> tuple[str, str]:
    """Figures before and now; sizes that look alike and are not are written to the byte."""
    before, now = figure(finding.metric, finding.before), figure(finding.metric, finding.now)
    if finding.metric == "size" and before == now != NONE and finding.before != finding.now:
        return f"{finding.before:,.0f} B", f"{finding.now:,.0f} B"
    return before, now


def change(finding: Finding) -> str:
    """How far the figure went, with an arrow: "▲ 1.2 kB (+10.3 %)"; "=" where it did not move."""
    if finding.before is None or finding.now is None or finding.against == "budget":
        return NONE
    moved = finding.now - finding.before
    if not moved:
        return "="
    arrow, size = "▲" if moved > 0 else "▼", abs(moved)
    kind = finding.metric.partition(" ")[0]
    if kind in _IN_POINTS:
        return f"{arrow} {format_points(size)} pt"
    share = f" ({moved / finding.before:+.1%})".replace("%", " %") if finding.before else ""
    return f"{arrow} {figure(finding.metric, size)}{share if kind != 'max_lsb' else ''}"


def limit(finding: Finding) -> str:
    if finding.limit is None:
        return NONE
    bound = "at least" if finding.metric.partition(" ")[0] in _FLOORS else "at most"
    text = figure(finding.metric, finding.limit)
    # Rounded to the same three digits, a figure beyond its limit looks like one that holds.
    if finding.metric in ("size", "max_size_bytes") and text == figure(finding.metric, finding.now):
        text = f"{int(finding.limit):,} B"
    return f"{bound} {text}"


def is_quiet(finding: Finding) -> bool:
    """Whether there is nothing to see: it holds, and did not move."""
    return finding.status == "pass" and change(finding) in ("=", NONE)


def sentence(finding: Finding) -> str:
    """What a finding says, in one line."""
    before, now = pair(finding)
    parts = [f"{finding.metric} {finding.status}"]
    if finding.now is not None and finding.before is not None:
        parts.append(f"{before} -> {now}")
        if finding.now != finding.before:
            parts.append(change(finding))
    elif finding.now is not None:
        parts.append(f"is {now}")
    elif finding.before is not None:
        parts.append(f"was {before}")
    if finding.limit is not None:
        parts.append(f"{limit(finding)} by the {finding.against}")
    if finding.said:
        parts.append(finding.said)
    return (
        f"{finding.model}: {parts[0]}: {', '.join(parts[1:])}" if parts[1:] else f"{finding.model}: {parts[0]}"
    )


def message(check: Check, finding: Finding) -> str:
    """What a finding says, and for a size that changed, why."""
    is_size = finding.metric == "size" and finding.against == "baseline"
    reason = check.why.get(finding.model) if is_size else None
    return f"{sentence(finding)}; {reason}" if reason else sentence(finding)


def verdict(check: Check) -> str:
    """The line that says it all."""
    models = f"{check.n_models:,} {'model' if check.n_models == 1 else 'models'}"
    against = check.baseline or "budgets alone"
    held_against = f"({models}, against {against})"
    n_failed = len(check.failures)
    if n_failed:
        verb = "does" if n_failed == 1 else "do"
        return f"fail: {n_failed:,} of {_figures(len(check.findings))} {verb} not hold {held_against}"
    n_told = sum(one.status != "pass" for one in check.findings)
    told = f", {n_told:,} told and not judged" if n_told else ""
    n_held = len(check.findings) - n_told
    return f"pass: {_figures(n_held)} {'holds' if n_held == 1 else 'hold'}{told} {held_against}"


def _figures(n: int) -> str:
    return f"{n:,} {'figure' if n == 1 else 'figures'}"


def table(check: Check, findings: tuple[Finding, ...]) -> Table:
    header = ("model", "figure", "before", "now", "change", "allowed", "verdict")
    rows = tuple((one.model, one.metric, *pair(one), change(one), limit(one), one.status) for one in findings)
    return Table(verdict(check), header, rows, frozenset({2, 3, 4, 5}))


def updated(update: Update) -> str:
    """What a baseline holds now, and what went."""
    n = len(update.written)
    lines = [f"wrote {update.path}: {n:,} {'model' if n == 1 else 'models'} of these paths"]
    if update.kept:
        lines.append(f"  kept, not among these paths: {', '.join(update.kept)}")
    if update.dropped:
        lines.append(f"  dropped, their files are gone: {', '.join(update.dropped)}")
    lines += [f"  left out: {one}" for one in update.left_out]
    return "\n".join(lines)
