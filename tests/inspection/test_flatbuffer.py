"""Marked ranges of bytes: each byte has one kind, however the ranges overlap."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn.errors import UsageError
from edgecnn.inspection.flatbuffer import PADDING, UNREFERENCED, FlatReader

PLACES = st.integers(0, 80)


@given(st.lists(st.tuples(PLACES, PLACES, st.sampled_from("abc"))), st.binary(min_size=80, max_size=80))
def test_each_byte_has_one_kind(marks, data):
    reader = FlatReader(data)
    reader.ranges = {(min(a, b), max(a, b)): kind for a, b, kind in marks if a != b}
    painted = [""] * len(data)
    for (start, end), kind in sorted(reader.ranges.items()):
        for place in range(start, end):
            painted[place] = painted[place] or kind
    found = reader.bytes_by_kind()
    assert {kind: found[kind] for kind in "abc"} == {kind: Counter(painted)[kind] for kind in "abc"}
    assert found.total() == len(data)


def test_gaps_of_zeros_are_padding_and_others_are_not():
    reader = FlatReader(b"head" + bytes(6) + b"mid" + b"\0lost" + b"tail")
    for start, end in ((0, 4), (10, 13), (18, 22)):
        reader.mark(start, end, "marked")
    assert reader.bytes_by_kind() == {"marked": 11, PADDING: 6, UNREFERENCED: 5}
    many_zeros = FlatReader(bytes(200))
    many_zeros.mark(0, 8, "marked")
    assert many_zeros.bytes_by_kind() == {"marked": 8, UNREFERENCED: 192}


def test_what_is_shared_is_counted_once_and_what_overlaps_too_much_is_refused():
    reader = FlatReader(bytes(100))
    for _ in range(1000):
        reader.mark(0, 50, "shared")
    assert reader.bytes_by_kind()["shared"] == 50
    with pytest.raises(UsageError, match="overlap"):
        for start in range(50):
            reader.mark(start, start + 50, "overlapping")


@pytest.mark.parametrize(("start", "end"), [(-1, 4), (4, 101), (8, 4)])
def test_ranges_outside_of_the_file_are_refused(start, end):
    with pytest.raises(UsageError, match="outside"):
        FlatReader(bytes(100)).mark(start, end, "any")
