"""Times are read with an offset or not at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.errors import UserError
from base.units import format_time, parse_time, ticks_to_us, us_to_90k


@given(st.integers(0, 253_402_300_799_999_999))
def test_what_is_printed_is_read(time_us: int) -> None:
    assert parse_time(format_time(time_us)) == time_us


def test_offsets_count() -> None:
    assert parse_time("2026-03-01T08:30:00+07:00") == parse_time("2026-03-01T01:30:00Z")
    assert parse_time("2026-03-01t01:30:00.1234567z") - parse_time("2026-03-01T01:30:00Z") == 123_456


@pytest.mark.parametrize(
    "text", ["", "2026-03-01", "2026-03-01T08:30:00", "2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z", "1700000000",
             "2026-03-01T08:30Z", "2026-03-01T08:30:00+0700", "２０２６-03-01T08:30:00Z"]
)  # fmt: skip
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(UserError):
        parse_time(text)


@given(st.integers(-(2**60), 2**60))
def test_media_ticks(duration_us: int) -> None:
    assert 0 <= duration_us - ticks_to_us(us_to_90k(duration_us)) <= 12
