"""Sizes, accuracies and times as people write them: parsed with their unit, printed with it.

Inside and in JSON, sizes are bytes, accuracies fractions 0..1, times milliseconds.
kB = 1000 bytes, KiB = 1024 bytes.
"""

from __future__ import annotations

import math
import re

_NUMBER = re.compile(r"\s*([+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*(\S*)\s*")
_SIZES = {"B": 1, "kB": 1000, "KB": 1000, "MB": 1000**2, "KiB": 1024, "MiB": 1024**2}
_SHARES = {"pt": 0.01, "%": 0.01}
_TIMES_MS = {"us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3}


def _parse(text: object, units: dict[str, float], example: str) -> float:
    match = _NUMBER.fullmatch(text) if isinstance(text, str) else None
    if not match or match[2] not in units:
        raise ValueError(f"expected a number with its unit ({', '.join(units)}), such as {example}")
    value = float(match[1]) * units[match[2]]
    if value < 0:
        raise ValueError("a limit cannot be negative")
    if math.isinf(value):
        raise ValueError("the number is too large")
    return value


def parse_size(text: object) -> int:
    """Bytes of a text such as "20 kB" or "16 KiB". Raises ValueError for anything else."""
    return round(_parse(text, {unit: float(factor) for unit, factor in _SIZES.items()}, "20 kB"))


def parse_points(text: object) -> float:
    """The fraction 0..1 of percentage points: "0.3 pt" -> 0.003. Raises ValueError for anything else."""
    return round(_parse(text, {"pt": _SHARES["pt"]}, "0.3 pt"), 10)


def parse_share(text: object) -> float:
    """The fraction 0..1 of a percentage: "99 %" -> 0.99. Raises ValueError for anything else."""
    share = round(_parse(text, {"%": _SHARES["%"]}, "99 %"), 10)
    if share > 1:
        raise ValueError("an accuracy is at most 100 %")
    return share


def parse_ms(text: object) -> float:
    """Milliseconds of a text such as "5 ms" or "80 us". Raises ValueError for anything else."""
    return _parse(text, _TIMES_MS, "5 ms")


def format_size(n_bytes: float) -> str:
    """Bytes for people, in powers of 1000: 10743 -> "10.7 kB"."""
    if n_bytes < 1000:
        return f"{n_bytes:.0f} B"
    return f"{n_bytes / 1000:.1f} kB" if n_bytes < 1e6 else f"{n_bytes / 1e6:.2f} MB"


def format_ms(ms: float) -> str:
    """A latency for people, three digits at the most: 0.0132 -> "13 us"."""
    if ms < 1:
        return f"{ms * 1000:.0f} us" if ms >= 0.01 else f"{ms * 1000:.1f} us"
    return f"{ms:.1f} ms" if ms < 100 else f"{ms:.0f} ms"


def format_share(share: float | None) -> str:
    """A fraction as a percentage: 0.9912 -> "99.12 %"; "-" where there is none."""
    return "-" if share is None else f"{share * 100:.2f} %"


def format_points(fraction: float, *, signed: bool = False) -> str:
    """A difference of fractions in percentage points, without the unit: 0.0016 -> "0.16"."""
    points = round(fraction * 100, 2) + 0.0  # no "-0.00"
    return f"{points:+.2f}" if signed else f"{points:.2f}"


def format_cost(minimized: str, cost: float) -> str:
    """What a search minimizes ("size", "macs", "latency"), with its unit."""
    if minimized == "macs":
        return f"{cost:,.0f} MACs"
    return format_size(cost) if minimized == "size" else format_ms(cost)
