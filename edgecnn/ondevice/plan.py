"""How long a benchmark takes."""

from __future__ import annotations

from dataclasses import dataclass

# A clock that is still rising, and pages that are still being read, make one window slower than the next.
STEADY_WINDOWS = 3
STEADY_WITHIN = 0.05


@dataclass(frozen=True)
class Plan:
    """How long to warm up and to measure.

    A window of the warm-up, and the timed phase, end when their time *and* their count are reached.
    """

    window_s: float = 0.05
    window_runs: int = 4
    most_warmup_s: float = 3.0
    """When warming up is given up; STEADY_WINDOWS are run in any case."""
    min_s: float = 1.0
    min_samples: int = 50
    samples_per_s: int = 2000
    """At most about so many inferences a second are timed by themselves, so that all samples can be kept."""

    @property
    def warmup_rule(self) -> str:
        """What ends the warm-up, for the record."""
        return (
            f"steady: medians of {STEADY_WINDOWS} successive windows within {STEADY_WITHIN:.0%},"
            f" each of {self.window_s:g} s and {self.window_runs} inferences at least;"
            f" given up after {self.most_warmup_s:g} s"
        )
