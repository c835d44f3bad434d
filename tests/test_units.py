import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn import units


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("20 kB", 20_000),
        ("16KiB", 16_384),
        ("12.5 kB", 12_500),
        ("800 B", 800),
        ("1 MB", 1_000_000),
        ("2 MiB", 2_097_152),
        ("0 B", 0),
    ],
)
def test_sizes_are_bytes_with_kb_of_1000(text: str, n_bytes: int) -> None:
    assert units.parse_size(text) == n_bytes


@given(st.integers(1, 10**9))
def test_a_size_in_kb_is_exact(n_bytes: int) -> None:
    assert units.parse_size(f"{n_bytes / 1000:.3f} kB") == n_bytes


def test_points_and_shares_are_fractions() -> None:
    assert units.parse_points("0.3 pt") == 0.003
    assert units.parse_share("99.2 %") == 0.992
    assert units.parse_ms("80 us") == pytest.approx(0.08)
    assert units.parse_ms("2 s") == 2000


@pytest.mark.parametrize("bad", ["20", 20, "20 KB/s", "kB", "", None, "1e", "20 pt"])
def test_a_size_without_its_unit_is_refused_with_an_example(bad: object) -> None:
    with pytest.raises(ValueError, match=r"expected a number with its unit .* such as 20 kB"):
        units.parse_size(bad)


def test_limits_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be negative"):
        units.parse_points("-0.3 pt")
    with pytest.raises(ValueError, match="at most 100 %"):
        units.parse_share("101 %")


@given(st.integers(0, 10**9))
def test_a_printed_size_reads_back_within_its_last_digit(n_bytes: int) -> None:
    # Bytes, tenths of kB, hundredths of MB: half a last digit is off at the most.
    half = 0 if n_bytes < 1000 else 50 if n_bytes < 10**6 else 5000
    assert abs(units.parse_size(units.format_size(n_bytes)) - n_bytes) <= half


def test_figures_for_people() -> None:
    assert units.format_size(10_743) == "10.7 kB"
    assert units.format_ms(0.0132) == "13 us"
    assert units.format_ms(0.0042) == "4.2 us"
    assert units.format_ms(5.25) == "5.2 ms"
    assert units.format_points(0.0016) == "0.16"
    assert units.format_points(-0.0000001, signed=True) == "+0.00"
    assert units.format_points(0.0016, signed=True) == "+0.16"
    assert units.format_ms(99.96) == "100.0 ms" and units.format_ms(100) == "100 ms"
    assert units.format_ms(0.01) == "10 us" and units.format_ms(1) == "1.0 ms"
    assert units.format_size(999) == "999 B" and units.format_size(1_000_000) == "1.00 MB"
    assert units.format_size(1_500_000) == "1.50 MB"
    assert units.format_share(0.9912) == "99.12 %" and units.format_share(None) == "-"


def test_what_a_search_minimizes_has_its_unit() -> None:
    assert units.format_cost("size", 10_743) == "10.7 kB"
    assert units.format_cost("macs", 416_520) == "416,520 MACs"
    assert units.format_cost("latency", 5.25) == "5.2 ms"


def test_numbers_too_large_are_refused() -> None:
    with pytest.raises(ValueError, match="too large"):
        units.parse_ms("1e400 s")
