"""torch made ready for work that can be repeated."""

from __future__ import annotations

import torch


def prepare(threads: int) -> torch.device:
    """Sets the CPU threads and deterministic algorithms; CUDA where there is one, else the CPU."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
