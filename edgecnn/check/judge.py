"""Figures x baseline x budgets -> findings. Pure: nothing is read, nothing written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from edgecnn import gate
from edgecnn.check.allowances import METRICS, Allowances
from edgecnn.check.figures import Figures, InstructionFigure, LatencyFigure
from edgecnn.check.models import Model
from edgecnn.recipe import Budget
from edgecnn.records import Verdict

Status = Literal["pass", "fail", "missing", "inconclusive", "refused", "new", "not compared"]
Against = Literal["baseline", "budget"]

# 97.5 % of a normal distribution lie below this many standard deviations.
Z_95 = 1.959964


@dataclass(frozen=True)
class Finding:
    """One figure of one model held against one limit. Sizes in bytes, times in ms, accuracies as fractions.

    `before` is the baseline's figure, `limit` the worst that is allowed; None where there is none. `said` is
    what the figures alone do not tell.
    """

    model: str
    metric: str
    against: Against
    status: Status
    before: float | None = None
    now: float | None = None
    limit: float | None = None
    said: str = ""

    def fails(self, *, allow_missing: bool) -> bool:
        """Only `pass` is green. What another machine measured is no figure to compare, and is only told."""
        if self.status in ("missing", "new"):
            return not allow_missing
        return self.status not in ("pass", "not compared")


def against_baseline(
    now: Mapping[str, Figures | None], before: Mapping[str, Figures], allowances: Allowances
) -> list[Finding]:
    """Every figure of every model that is there or was; `now` is None for a model whose file is gone."""
    findings = []
    for name in sorted({*now, *before}):
        is_now, was = now.get(name), before.get(name)
        if is_now is None:
            said = "the file is gone" if name in now else "in the baseline, and not among the paths given"
            size = was.size_bytes if was else None
            findings.append(Finding(name, "size", "baseline", "missing", before=size, said=said))
        elif was is None:
            findings.append(
                Finding(name, "size", "baseline", "new", now=is_now.size_bytes, said="not in the baseline")
            )
        else:
            findings += _of_model(name, is_now, was, allowances)
    return findings


def gone(now: Mapping[str, Figures | None]) -> list[Finding]:
    """The models of a build whose file is not there, where no baseline tells of them."""
    return [
        Finding(name, "size", "budget", "missing", said="the file is gone")
        for name, figures in now.items()
        if figures is None
    ]


def _of_model(name: str, now: Figures, was: Figures, allowances: Allowances) -> Iterable[Finding]:
    for metric in METRICS:
        if metric == "latency":
            yield from _latency(name, now.latency, was.latency, allowances)
            continue
        if metric == "instructions":
            yield from _instructions(name, now.instructions, was.instructions, allowances)
            continue
        field = "size_bytes" if metric == "size" else metric
        noise = _noise(metric, now, was)
        found = _compared(
            name, metric, getattr(now, field), getattr(was, field), allowances, noise, now.n_images
        )
        if found:
            yield found


def _compared(
    name: str,
    metric: str,
    now: float | None,
    before: float | None,
    allowances: Allowances,
    noise: float | None = None,
    n_images: int | None = None,
) -> Finding | None:
    """A figure that only one side has: gone it is `missing`, new it is only told."""
    if before is None and now is None:
        return None
    kind = metric.partition(" ")[0]  # "latency host litert" is allowed what latency is
    allowance = allowances.of(name, kind)
    if before is None or allowance.is_any:
        said = f"any {kind} is allowed" if allowance.is_any else "the baseline has no figure"
        return Finding(name, metric, "baseline", "not compared", before, now, said=said)
    sign = 1 if METRICS[kind].sign == "+" else -1
    allowed = allowance.of(before)
    limit = before + sign * allowed
    if now is None:
        said = "the baseline has this figure, and it was not measured"
        return Finding(name, metric, "baseline", "missing", before=before, limit=limit, said=said)
    status, said = _verdict(sign * (now - before), allowed, noise, n_images)
    return Finding(name, metric, "baseline", status, before, now, limit, said)


def _verdict(loss: float, allowed: float, noise: float | None, n_images: int | None) -> tuple[Status, str]:
    """Pass where the loss is within what is allowed, fail where it is beyond that by more than the noise.

    Between the two these images cannot tell. The half width of an interval shrinks with the square root of
    the number of images, so that n * (noise / (loss - allowed))^2 of them would tell a loss of this size.
    """
    excess = loss - allowed
    if excess <= gate.DUST * max(1.0, abs(allowed)):
        return "pass", ""
    if not noise or excess > noise + gate.DUST or not n_images:
        return "fail", ""
    n_needed = math.ceil(n_images * (noise / excess) ** 2 * (1 - gate.DUST))
    # Two digits: the estimate is no better, and a rounded number does not claim to be.
    step = 10 ** max(0, len(str(n_needed)) - 2)
    return "inconclusive", f"cannot tell: {math.ceil(n_needed / step) * step:,} images could tell"


def _noise(metric: str, now: Figures, was: Figures) -> float | None:
    """The 95 % half width of the difference of two accuracies, or of two drops; None where it is not known.

    Of two drops at most the sum of their half widths: the standard deviation of a difference is at most the
    sum of the two (Minkowski), however the images are shared. Where both drops are from the same dense
    network on as many images, the difference of accuracies is that of the drops, image by image: the paired
    bound holds for it, too. It is weighed against the unpaired binomial one, and the tighter is taken: on
    the same images right and wrong go together, so that the unpaired one is too wide, not too narrow.
    """
    if metric not in ("accuracy", "accuracy_drop"):
        return None
    halves = (now.accuracy_drop_half_width, was.accuracy_drop_half_width)
    paired = None if None in halves else sum(half for half in halves if half is not None)
    if metric == "accuracy_drop":
        return paired
    unpaired = _unpaired(now, was)
    is_same = now.reference_sha256 is not None and now.reference_sha256 == was.reference_sha256
    if paired is None or not is_same or now.n_images != was.n_images:
        return unpaired
    return min(paired, unpaired) if unpaired is not None else paired


def _unpaired(now: Figures, was: Figures) -> float | None:
    """1.96 standard deviations of the difference of two binomial shares."""
    if now.accuracy is None or was.accuracy is None or not now.n_images or not was.n_images:
        return None
    of_now = now.accuracy * (1 - now.accuracy) / now.n_images
    of_then = was.accuracy * (1 - was.accuracy) / was.n_images
    return Z_95 * math.sqrt(of_now + of_then)


def _instructions(
    name: str,
    now: Mapping[str, InstructionFigure],
    was: Mapping[str, InstructionFigure],
    allowances: Allowances,
) -> Iterable[Finding]:
    """Counts have no noise; those of another version of the runtime tell of the runtime, not of the file."""
    for run in sorted({*now, *was}):
        is_now, before = now.get(run), was.get(run)
        n_now = is_now.instructions if is_now else None
        n_before = before.instructions if before else None
        if is_now and before and is_now.runtime_version != before.runtime_version:
            said = f"counted with version {is_now.runtime_version}; the baseline with {before.runtime_version}"
            yield Finding(name, f"instructions {run}", "baseline", "not compared", n_before, n_now, said=said)
        elif found := _compared(name, f"instructions {run}", n_now, n_before, allowances):
            yield found


def _latency(
    name: str, now: Mapping[str, LatencyFigure], was: Mapping[str, LatencyFigure], allowances: Allowances
) -> Iterable[Finding]:
    for runtime in sorted({*now, *was}):
        found = _time(name, f"latency {runtime}", now.get(runtime), was.get(runtime), allowances)
        if found:
            yield found


def _time(
    name: str, metric: str, now: LatencyFigure | None, was: LatencyFigure | None, allowances: Allowances
) -> Finding | None:
    before, ms = was.median_ms if was else None, now.median_ms if now else None
    reason = _why_not_comparable(now, was)
    if reason:
        return Finding(name, metric, "baseline", "not compared", before, ms, said=reason)
    if now and was and now.refused and not allowances.of(name, "latency").is_any:
        return Finding(name, metric, "baseline", "refused", before, ms, said=now.refused)
    return _compared(name, metric, ms, before, allowances)


def _why_not_comparable(now: LatencyFigure | None, was: LatencyFigure | None) -> str:
    """Only times of the same machine, runtime and its version are compared; emulated ones never are."""
    if now and now.emulated:
        return gate.EMULATED
    if not now or not was or (now.machine == was.machine and now.machine):
        return ""
    return f"measured on {now.machine or 'an unknown CPU'}; the baseline on {was.machine or 'an unknown CPU'}"


def against_budgets(models: Iterable[Model], limits: Mapping[str, Budget]) -> list[Finding]:
    """Each model against the budget of its build, and against each of `limits` (by name, key or glob).

    A limit that concerns no model is `missing`.
    """
    found = list(models)
    findings = [finding for model in found if model.budget for finding in _held(model, model.budget)]
    for pattern, budget in limits.items():
        concerned = [model for model in found if _concerns(pattern, model)]
        findings += [finding for model in concerned for finding in _held(model, budget)]
        if not concerned:
            findings += [
                Finding(pattern, verdict.metric, "budget", "missing", limit=verdict.limit, said="no such model")
                for verdict in gate.judge({pattern: budget}, ())
            ]
    return list(dict.fromkeys(findings))


def _concerns(pattern: str, model: Model) -> bool:
    file = model.name.rpartition("/")[2]
    return pattern in (model.name, model.key, file) or any(
        fnmatchcase(text, pattern) for text in (model.name, file)
    )


def _held(model: Model, budget: Budget) -> list[Finding]:
    if model.artifact is None:
        return [
            _of_verdict(model.name, one, "the file is gone") for one in gate.judge({model.name: budget}, ())
        ]
    key = model.artifact.key
    return [_of_verdict(model.name, one, "") for one in gate.judge({key: budget}, [model.artifact])]


def _of_verdict(name: str, verdict: Verdict, said: str) -> Finding:
    if not said and verdict.status == "missing":
        said = "no record of this file"
    return Finding(
        name,
        verdict.metric,
        "budget",
        verdict.status,
        now=verdict.actual,
        limit=verdict.limit,
        said=said or verdict.said,
    )
