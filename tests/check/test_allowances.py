"""How much worse a figure may get: the texts, and which of several counts."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn.check import allowances
from edgecnn.check.allowances import METRICS, Allowances, parse, parse_options
from edgecnn.errors import UsageError


@pytest.mark.parametrize(
    ("metric", "text", "before", "allowed"),
    [
        ("size", "+2 %", 10_000, 200),
        ("size", "+500 B", 10_000, 500),
        ("size", " + 1 kB ", 10_000, 1000),
        ("size", "+150%", 100, 150),
        ("accuracy", "-0.1 pt", 0.99, 0.001),
        ("accuracy_drop", "+0 pt", 0.99, 0),
        ("top1_equal", "-1 pt", 1.0, 0.01),
        ("max_lsb", "+1 LSB", 3, 1),
        ("latency", "+10 %", 2.0, 0.2),
        ("latency", "+80 us", 2.0, 0.08),
        ("latency", "any", 2.0, math.inf),
        ("accuracy", " any ", 0.99, math.inf),
    ],
)
def test_what_a_text_allows(metric: str, text: str, before: float, allowed: float) -> None:
    assert parse(metric, text).of(before) == pytest.approx(allowed)


@pytest.mark.parametrize(
    ("metric", "text", "said"),
    [
        ("size", "-2 %", "with +, as size gets worse when it grows"),
        ("size", "2 %", "expected +2 % or +500 B"),
        ("size", "+2 pt", "expected a number with its unit (B, kB"),
        ("size", "+-5 B", "expected +2 % or +500 B"),
        ("size", "+", "expected a number with its unit"),
        ("size", "", "expected +2 % or +500 B"),
        ("size", 5, "expected +2 % or +500 B, or any"),
        ("size", "+any", "expected a number with its unit"),
        ("size", "+" + "9" * 400 + " %", "the number is too large"),
        ("accuracy", "+0.1 pt", "with -, as accuracy gets worse when it falls"),
        ("accuracy", "-1 %", "expected -0.1 pt"),
        ("max_lsb", "+0.5 LSB", "expected a whole number of LSB"),
        ("latency", "+3 B", "(us, µs, ms, s)"),
    ],
)
def test_bad_amounts_say_what_is_expected(metric: str, text: object, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse(metric, text)
    assert said in str(caught.value)


@given(hundredths=st.integers(0, 10**7), before=st.floats(0, 1e9))
def test_a_share_is_read_back(hundredths: int, before: float) -> None:
    for metric in ("size", "latency"):
        allowance = parse(metric, f"+{hundredths / 100:.2f} %")
        assert allowance.of(before) == pytest.approx(before * hundredths / 10_000)
        assert parse(metric, allowance.text) == allowance


@given(n_bytes=st.integers(0, 10**12))
def test_bytes_are_read_back(n_bytes: int) -> None:
    assert parse("size", f"+{n_bytes} B").of(1) == n_bytes


@given(metric=st.sampled_from(sorted(METRICS)), text=st.text(max_size=20))
def test_any_text_is_an_allowance_or_told(metric: str, text: str) -> None:
    try:
        allowance = parse(metric, text)
    except ValueError as fault:
        assert "expected" in str(fault) or "too large" in str(fault)
    else:
        assert allowance.amount >= 0


def test_every_default_is_valid() -> None:
    for metric, known in METRICS.items():
        assert parse(metric, known.default).amount >= 0


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("size", "--allow size: expected METRIC=AMOUNT"),
        ("siez=+2 %", "there is no metric 'siez' (did you mean 'size'?)"),
        ("size=2", "--allow size=2: size: not '2': expected +2 % or +500 B"),
    ],
)
def test_bad_options_are_told(option: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_options([option])
    assert said in str(caught.value)


def test_the_last_option_of_a_metric_counts() -> None:
    assert parse_options(["size=+2 %", "size=+1 B"])["size"].of(1000) == 1


def test_the_most_particular_counts() -> None:
    def section(text: str) -> dict[str, allowances.Allowance]:
        return allowances.parse_section({"size": text}, "x")

    allowed = Allowances(
        by_model={"*": section("+1 B"), "m/*": section("+2 B"), "m/a": section("+3 B")},
        default=section("+9 B"),
    )
    assert [allowed.of(name, "size").of(0) for name in ("z", "m/b", "m/a")] == [1, 2, 3]
    assert Allowances(default=section("+9 B")).of("z", "size").of(0) == 9
    assert Allowances().of("z", "size").text == "+1 %"
    over = Allowances(options=section("+7 B"), by_model=allowed.by_model, default=allowed.default)
    assert over.of("m/a", "size").of(0) == 7
    assert over.of("m/a", "accuracy").text == "-0.1 pt"


def test_brackets_in_a_name_are_no_glob() -> None:
    section = allowances.parse_section({"size": "+3 B"}, "x")
    assert Allowances(by_model={"m[1].tflite": section}).of("m[1].tflite", "size").of(0) == 3
