"""torch made ready for work that can be repeated."""

from __future__ import annotations

import os

import torch


def prepare(threads: int) -> torch.device:
    """Sets the CPU threads and deterministic algorithms; CUDA where there is one, else the CPU."""
    # cuBLAS reads it at its first call; without it, its sums differ from run to run.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
