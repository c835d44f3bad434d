"""What a process that runs a model file may take: so much memory, so much of the processor.

A file can ask for any amount. Where the system knows no such limits (Windows; macOS takes no notice of that on
memory) there are none.
"""

from __future__ import annotations

import contextlib
import math

MOST_BYTES = 2 * 2**30
LONGEST_CPU_S = 3600
"""Of each processor: whoever started the process stops it long before, unless it is gone."""
TIMES_THE_INPUT = 6
"""What a runtime keeps of a file: its bytes, its parsed form, weights in its own layout."""


def limit_memory(n_bytes: int) -> None:
    """Private memory of this process up to MOST_BYTES and TIMES_THE_INPUT times the `n_bytes` that it reads.

    A process that is over it already gets no more. Mapped files and libraries do not count (RLIMIT_DATA).
    """
    try:
        import resource
    except ImportError:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = MOST_BYTES + TIMES_THE_INPUT * n_bytes
    _set(resource, resource.RLIMIT_DATA, wanted, hard)


def limit_processor(seconds: float) -> None:
    """Processor seconds of this process in all, over all its threads; then SIGXCPU ends it."""
    try:
        import resource
    except ImportError:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    _set(resource, resource.RLIMIT_CPU, math.ceil(seconds), hard)


def _set(resource: object, kind: int, wanted: int, hard: int) -> None:
    """The soft limit alone, so that it may be raised again for another file."""
    infinite = resource.RLIM_INFINITY  # type: ignore[attr-defined]
    if hard != infinite:
        wanted = min(wanted, hard)
    with contextlib.suppress(OSError, ValueError):  # refused where the system has no such limit
        resource.setrlimit(kind, (wanted, hard))  # type: ignore[attr-defined]
