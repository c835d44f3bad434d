"""How much worse a figure may get against the baseline: "+2 %", "+500 B", "any"; by metric and by model."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from edgecnn import units
from edgecnn.errors import UsageError

_SHARE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*")
_WHOLE = re.compile(r"\s*(\d{1,20})\s*")
ANY = "any"
"""For figures that nobody judges: the milliseconds of a machine that is shared with others."""

_LSB = re.compile(r"\s*(\d+)\s*LSB\s*")


def _parse_lsb(text: object) -> float:
    match = _LSB.fullmatch(text) if isinstance(text, str) else None
    if not match:
        raise ValueError("expected a whole number of LSB")
    return float(match[1])


def _parse_instructions(text: object) -> float:
    match = _WHOLE.fullmatch(text) if isinstance(text, str) else None
    if not match:
        raise ValueError("expected a whole number of instructions")
    return float(match[1])


@dataclass(frozen=True)
class Metric:
    """A figure that is compared. `sign` is the direction that is worse; `default` is what may be lost.

    `parse` reads the absolute form; a relative one, in %, is taken where `takes_share`.
    """

    sign: str
    default: str
    parse: Callable[[object], float]
    takes_share: bool
    example: str


METRICS: dict[str, Metric] = {
    "size": Metric("+", "+1 %", units.parse_size, True, "+2 % or +500 B"),
    "accuracy": Metric("-", "-0.1 pt", units.parse_points, False, "-0.1 pt"),
    "accuracy_drop": Metric("+", "+0.1 pt", units.parse_points, False, "+0.1 pt"),
    "top1_equal": Metric("-", "-0.1 pt", units.parse_points, False, "-0.1 pt"),
    "max_lsb": Metric("+", "+0 LSB", _parse_lsb, False, "+1 LSB"),
    "instructions": Metric("+", "+0.5 %", _parse_instructions, True, "+0.5 % or +1000"),
    "latency": Metric("+", "+10 %", units.parse_ms, True, "+10 % or +0.2 ms"),
}


@dataclass(frozen=True)
class Allowance:
    """`amount` is a share of the figure before where `is_share`, else in the metric's unit; never negative.

    Infinite where any loss is allowed.
    """

    amount: float
    is_share: bool
    text: str

    @property
    def is_any(self) -> bool:
        return math.isinf(self.amount)

    def of(self, before: float) -> float:
        """What may be lost from a figure of `before`."""
        return before * self.amount if self.is_share else self.amount


def parse(metric: str, text: object) -> Allowance:
    """The allowance in `text`, such as "+2 %" for size. Raises ValueError that says what is expected."""
    known = METRICS[metric]
    expected = f"expected {known.example}, or {ANY}"
    if not isinstance(text, str):
        raise ValueError(expected)
    stripped = text.strip()
    if stripped == ANY:
        return Allowance(math.inf, False, ANY)
    if stripped[:1] != known.sign:
        worse = "grows" if known.sign == "+" else "falls"
        raise ValueError(f"{expected}: with {known.sign}, as {metric} gets worse when it {worse}")
    share = _SHARE.fullmatch(stripped[1:])
    if share and known.takes_share:
        amount = float(share[1]) / 100
        if math.isinf(amount):
            raise ValueError("the number is too large")
        return Allowance(amount, True, stripped)
    # A second sign is no number here: "+-5 B".
    if stripped[1:].lstrip()[:1] in ("+", "-"):
        raise ValueError(expected)
    try:
        return Allowance(known.parse(stripped[1:]), False, stripped)
    except ValueError as fault:
        raise ValueError(f"{expected}: {fault}") from fault


def check_metric(name: str, where: str) -> None:
    """Raises UsageError where nothing of that name is compared."""
    if name in METRICS:
        return
    near = difflib.get_close_matches(name, METRICS, n=1, cutoff=0.5)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise UsageError(f"there is no metric {name!r}{hint}", where=where, fix=f"use one of: {', '.join(METRICS)}")


def parse_section(texts: Mapping[str, object], where: str) -> dict[str, Allowance]:
    """Allowances by metric. Raises UsageError that names `where` and the metric."""
    found = {}
    for metric, text in texts.items():
        check_metric(metric, where)
        try:
            found[metric] = parse(metric, text)
        except ValueError as fault:
            raise UsageError(f"{metric}: not {text!r}: {fault}", where=where) from fault
    return found


def parse_options(options: Iterable[str]) -> dict[str, Allowance]:
    """The values of --allow, each "METRIC=AMOUNT"; the last one of a metric counts."""
    found: dict[str, Allowance] = {}
    for option in options:
        metric, equals, text = option.partition("=")
        where = f"--allow {option}"
        if not equals:
            raise UsageError("expected METRIC=AMOUNT", where=where, fix="for example: --allow 'size=+2 %'")
        found |= parse_section({metric.strip(): text}, where)
    return found


@dataclass(frozen=True)
class Allowances:
    """What may be lost. An option says it first, then a model's name or a glob of it, then the default."""

    options: Mapping[str, Allowance] = field(default_factory=dict)
    by_model: Mapping[str, Mapping[str, Allowance]] = field(default_factory=dict)
    default: Mapping[str, Allowance] = field(default_factory=dict)

    def of(self, model: str, metric: str) -> Allowance:
        # The name itself before globs, the longest glob before shorter ones.
        fitting = sorted(
            (glob for glob in self.by_model if glob == model or fnmatchcase(model, glob)),
            key=lambda glob: (glob != model, -len(glob), glob),
        )
        for section in (self.options, *(self.by_model[glob] for glob in fitting), self.default):
            if metric in section:
                return section[metric]
        return parse(metric, METRICS[metric].default)
