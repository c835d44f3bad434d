"""The situations that a gate meets: a folder for each, and the exact output as files in `golden/situations`.

EDGECNN_WRITE_GOLDEN=1 writes these anew, to be read as a diff.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from check.builds import ENVIRONMENT, build
from cli.commands import run, told
from recipes_for_tests import MINIMAL_RECIPE

from edgecnn.records import Doubt

GOLDEN = Path(__file__).parent / "golden" / "situations"
SUFFIXES = {"table": "table", "markdown": "md", "github": "txt"}
BUILD, BASELINE = Path("b"), Path("edgecnn-baseline.json")
THROTTLED = Doubt(
    kind="throttled", text="the board slowed its clock down (throttle flags 0x4)", advice="cool it"
)
SWAPPED = Doubt(kind="swapped", text="7 pages were read from disk while measuring", advice="free some memory")
BUSY = Doubt(
    kind="busy", text="the machine was busy: the process had a core only 60% of the time", advice="wait"
)
MEDIAN_LIMIT = MINIMAL_RECIPE.replace("max_size: 20 kB", "max_median: 5 ms")
EMULATED = {**ENVIRONMENT, "target": "qemu", "emulated": True}

# What has happened since the baseline, and the exit code.
SITUATIONS: dict[str, tuple[Callable[[], object], int]] = {
    "unchanged": (lambda: None, 0),
    "grew": (lambda: build(BUILD, size_bytes=11_000), 1),
    "shrank": (lambda: build(BUILD, size_bytes=9_000), 0),
    "accuracy-within-noise": (lambda: build(BUILD, accuracy=0.988, accuracy_drop=0.004), 1),
    "accuracy-beyond-noise": (lambda: build(BUILD, accuracy=0.96, accuracy_drop=0.032), 1),
    "missing": (lambda: (BUILD / "tiny.int8.tflite").unlink(), 1),
    "new": (lambda: (BUILD / "new.tflite").write_bytes(b"n" * 5_000), 1),
    "other-machine": (
        lambda: build(BUILD, environment={**ENVIRONMENT, "cpu_model": "Cortex-A53"}, median=50.0),
        0,
    ),
    "emulated": (lambda: build(BUILD, environment=EMULATED, emulated=True, median=50.0), 0),
    "throttled": (lambda: build(BUILD, warnings=(THROTTLED,), median=1.05), 1),
    "swapped": (lambda: build(BUILD, warnings=(SWAPPED,), median=1.05), 1),
    "shared-core": (lambda: build(BUILD, warnings=(BUSY,), median=1.05), 1),
    "refused-by-a-budget": (
        lambda: build(BUILD, recipe=MEDIAN_LIMIT, warnings=(THROTTLED, BUSY), median=1.05),
        1,
    ),
    "corrupt-baseline": (lambda: BASELINE.write_text('{"schema_version": 1, "models": [}\n'), 2),
    "newer-schema": (lambda: BASELINE.write_text('{"schema_version": 2, "models": {}}\n'), 2),
}


@pytest.fixture(autouse=True)
def accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build whose figures are the baseline."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    build(BUILD)
    assert run("baseline", "update", str(BUILD)).exit_code == 0


@pytest.mark.parametrize("form", SUFFIXES)
@pytest.mark.parametrize("name", SITUATIONS)
def test_the_output_is_exactly_this(name: str, form: str) -> None:
    happened, code = SITUATIONS[name]
    happened()
    result = run("check", str(BUILD), "--format", form)
    assert result.exit_code == code, told(result)
    said = result.stdout if code < 2 else result.stderr
    path = GOLDEN / f"{name}.{SUFFIXES[form]}"
    if os.environ.get("EDGECNN_WRITE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(said, encoding="utf-8")
    assert said == path.read_text(encoding="utf-8")


def test_no_golden_file_is_left_over() -> None:
    named = {f"{name}.{suffix}" for name in SITUATIONS for suffix in SUFFIXES.values()}
    assert {path.name for path in GOLDEN.iterdir()} == named
