"""torch made ready for work that can be repeated."""

from __future__ import annotations

import ctypes
import os

import torch
import torch.utils.deterministic

# Of glibc's malloc.h, and what each is set to by `keep_freed_memory`.
MALLOC_OPTIONS = {"M_MMAP_MAX": (-4, 0), "M_ARENA_MAX": (-8, 1), "M_TRIM_THRESHOLD": (-1, 2**31 - 1)}


def prepare(threads: int) -> torch.device:
    """Sets the CPU threads and deterministic algorithms; CUDA where there is one, else the CPU."""
    # cuBLAS reads it at its first call; without it, its sums differ from run to run.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    keep_freed_memory()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Filling each new tensor with NaN takes a fifth of a step; what is read here was written before.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def keep_freed_memory() -> None:
    """What a step frees, the process keeps for the next one; where its allocator is not glibc's, no change.

    A step of SqueezeNet makes and frees gigabytes of activations. glibc gives each large block back to the
    system at once and fetches it anew, zeroed page by page.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        for option, value in MALLOC_OPTIONS.values():
            mallopt(option, value)
