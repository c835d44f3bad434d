"""What many tests share."""

from __future__ import annotations

import os
import signal
from pathlib import Path

# Before any library starts its thread pool: tests run on small, shared machines.
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# A shell starts background jobs deaf to Ctrl-C, and children inherit that: tests that interrupt would wait.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
from recipes_for_tests import MINIMAL_RECIPE


@pytest.fixture
def recipe_path(tmp_path: Path) -> Path:
    """A small valid recipe, to be changed by the test that asks for it."""
    path = tmp_path / "recipe.yaml"
    path.write_text(MINIMAL_RECIPE)
    return path
