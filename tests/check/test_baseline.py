"""The baseline file: what it looks like, that it is read back, and what is told of a bad one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn.check import baseline
from edgecnn.check.baseline import AllowSection, Baseline
from edgecnn.check.figures import Figures, LatencyFigure
from edgecnn.errors import UsageError

shares = st.none() | st.floats(0, 1)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
latencies = st.dictionaries(
    names,
    st.builds(LatencyFigure, median_ms=st.floats(0, 1e6), machine=st.none() | names, emulated=st.just(False)),
    max_size=2,
)
figures = st.builds(
    Figures,
    size_bytes=st.integers(0, 10**12),
    accuracy=shares,
    accuracy_drop=st.none() | st.floats(-1, 1),
    accuracy_drop_half_width=shares,
    n_images=st.none() | st.integers(1, 10**9),
    reference_sha256=st.none() | names,
    top1_equal=shares,
    max_lsb=st.none() | st.integers(0, 255),
    latency=latencies,
)
allowed = st.builds(
    AllowSection,
    default=st.just({}) | st.just({"size": "+2 %"}),
    models=st.dictionaries(names, st.just({"accuracy": "-1 pt"}), max_size=2),
)


@given(st.builds(Baseline, allow=allowed, models=st.dictionaries(names, figures, max_size=3)))
def test_it_is_read_back_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, one: Baseline) -> None:
    path = tmp_path_factory.mktemp("b") / "b.json"
    baseline.write(path, one)
    assert baseline.read(path) == one
    assert baseline.render(baseline.read(path)) == path.read_text(encoding="utf-8")


def test_one_key_a_line_sorted_without_what_is_not_known() -> None:
    models = {"b.tflite": Figures(size_bytes=2), "a.tflite": Figures(size_bytes=1, accuracy=0.5)}
    assert baseline.render(Baseline(models=models)) == (
        '{\n  "models": {\n    "a.tflite": {\n      "accuracy": 0.5,\n      "size_bytes": 1\n    },\n'
        '    "b.tflite": {\n      "size_bytes": 2\n    }\n  },\n  "schema_version": 1\n}\n'
    )


def test_emulated_times_are_not_kept() -> None:
    times = {
        "qemu litert": LatencyFigure(median_ms=9, machine="m", emulated=True),
        "host litert": LatencyFigure(median_ms=1, machine="m"),
    }
    text = baseline.render(Baseline(models={"a": Figures(size_bytes=1, latency=times)}))
    assert json.loads(text)["models"]["a"]["latency"] == {"host litert": {"machine": "m", "median_ms": 1}}


GOOD: dict[str, Any] = {"schema_version": 1, "models": {"a": {"size_bytes": 1}}}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not a baseline of edgecnn: Expecting property name"),
        ("", "not a baseline of edgecnn"),
        ("[]", "schema_version is missing"),
        ("\udcff", "not a baseline of edgecnn"),
        ("[" * 100_000, "not a baseline of edgecnn"),
        (json.dumps({**GOOD, "schema_version": 2}), "schema version 2; this edgecnn reads up to 1"),
        (json.dumps({**GOOD, "schema_version": 2}), "fix: pip install -U edgecnn"),
        (json.dumps({**GOOD, "schema_version": "x"}), "schema_version: Input should be 1"),
        (json.dumps({**GOOD, "more": 1}), "more: Extra inputs are not permitted"),
        (json.dumps({**GOOD, "models": {"a": {}}}), "models.a.size_bytes: Field required"),
        (json.dumps({**GOOD, "models": {"a": {"size_bytes": -1}}}), "models.a.size_bytes: Input should be"),
        (json.dumps({**GOOD, "models": {"a": {"size_bytes": 1.5}}}), "models.a.size_bytes"),
        (
            json.dumps({**GOOD, "models": {"a": {"size_bytes": 1, "accuracy": float("nan")}}}),
            "models.a.accuracy",
        ),
        (json.dumps({**GOOD, "allow": {"default": {"size": "-2 %"}}}), "allow.default: size: not '-2 %'"),
        (json.dumps({**GOOD, "allow": {"default": {"siz": "+2 %"}}}), "there is no metric 'siz'"),
        (json.dumps({**GOOD, "allow": {"models": {"a*": {"size": "2"}}}}), "allow.models.a*: size: not '2'"),
        (json.dumps({**GOOD, "allow": {"size": "+2 %"}}), "allow.size: Extra inputs are not permitted"),
    ],
)
def test_a_bad_file_is_told_with_its_name(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "b.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError) as caught:
        baseline.read(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "fix:" in str(caught.value) or "expected" in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no baseline can be read here: No such file") as caught:
        baseline.read(tmp_path / "none.json")
    assert "edgecnn baseline update" in str(caught.value)


def test_our_own_baseline_judges_no_milliseconds_of_a_shared_machine() -> None:
    own = baseline.read(Path(__file__).parents[2] / baseline.DEFAULT_PATH)
    assert own.allow.default["latency"] == "any"
    assert not [name for name, figures in own.models.items() if figures.latency]
