"""Chunk rows → starts and ends, against a twin in plain Python."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.schema import CHUNK, CHUNK_SEALED, TIME_KEY
from native.extents import extents

Row = tuple[bytes, bytes]
times = st.integers(0, 2**63 - 2)
chunks = st.lists(st.tuples(times, times, st.booleans()), max_size=2000, unique_by=lambda one: one[0])


def rows_of(stream_id: int, found: list[tuple[int, int, bool]]) -> list[Row]:
    return [
        (
            TIME_KEY.pack(stream_id, start_us),
            CHUNK.pack(1, 1, 1, CHUNK_SEALED if is_sealed else 0, bytes(16), end_us, 0, -5, 0, 0, 0, 0),
        )
        for start_us, end_us, is_sealed in sorted(found)
    ]


@given(chunks, times)
def test_rows_before_the_stop_are_taken(found: list[tuple[int, int, bool]], stop_us: int) -> None:
    later: Row = (b"\xff" * 5, b"the head of a page")
    starts, ends, unsealed = extents(iter([*rows_of(7, found), later]), TIME_KEY.pack(7, stop_us))
    wanted = [one for one in sorted(found) if one[0] < stop_us]
    assert starts.tolist() == [start_us for start_us, _, _ in wanted]
    assert ends.tolist() == [end_us for _, end_us, _ in wanted]
    rows = rows_of(7, wanted)
    assert unsealed == [(i, *rows[i]) for i, (_, _, is_sealed) in enumerate(wanted) if not is_sealed]


@pytest.mark.parametrize("cut", range(37))
def test_a_row_that_is_too_short_is_refused(cut: int) -> None:
    [(key, value)] = rows_of(7, [(1, 2, True)])
    with pytest.raises(ValueError, match="damaged"):
        extents(iter([(key, value[:cut])]), TIME_KEY.pack(7, 5))


def test_a_key_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="damaged"):
        extents(iter([(bytes(5), bytes(77))]), TIME_KEY.pack(7, 5))
