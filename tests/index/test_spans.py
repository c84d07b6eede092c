from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from chunks.records import Gap, GapCause
from index.rows import Timeline
from index.spans import join_gaps, join_spans, subtract

Span = tuple[int, int]


@st.composite
def disjoint(draw: st.DrawFn) -> list[Span]:
    edges = sorted(draw(st.sets(st.integers(0, 60), max_size=20)))
    return [(edges[i], edges[i + 1]) for i in range(0, len(edges) - 1, 2)]


def seconds(spans: list[Span]) -> set[int]:
    return {at for start, end in spans for at in range(start, end)}


def gap(start_us: int, end_us: int, cause: GapCause = GapCause.OFFLINE, packets: int = 0) -> Gap:
    return Gap(1, start_us, end_us, cause, packets)


@given(disjoint(), disjoint())
def test_subtracting_leaves_what_is_in_no_gap(spans: list[Span], holes: list[Span]) -> None:
    rest = subtract(spans, [gap(*hole) for hole in holes])
    assert seconds(rest) == seconds(spans) - seconds(holes)
    assert all(start < end for start, end in rest)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 9))), st.integers(0, 5))
def test_joining_closes_holes_up_to_the_given_size_only(raw: list[Span], hole: int) -> None:
    spans = sorted((start, start + length) for start, length in raw)
    flat = np.array(spans, np.int64).reshape(-1, 2)
    joined = join_spans(flat[:, 0], flat[:, 1], hole)
    union = seconds(spans)
    covered = seconds(joined)
    assert union <= covered
    assert all(b[0] - a[1] > hole for a, b in itertools.pairwise(joined))
    for start, end in joined:
        assert start in union
        assert end - 1 in union
        missing = [at for at in range(start, end) if at not in union]
        assert all(not set(range(at, at + hole + 1)) <= set(missing) for at in missing)


def test_a_joined_gap_has_the_longest_parts_cause_and_all_packets() -> None:
    gaps = [
        gap(0, 2, GapCause.PACKET_LOSS, 3),
        gap(3, 9, GapCause.OVERLOAD),
        gap(10, 12, GapCause.PACKET_LOSS, 4),
        gap(40, 41, GapCause.CRASH),
    ]
    assert join_gaps(gaps, 1) == [gap(0, 12, GapCause.OVERLOAD, 7), gap(40, 41, GapCause.CRASH)]
    assert join_gaps(gaps, 0) == gaps
    assert join_gaps([], 5) == []


@given(disjoint(), disjoint(), st.integers(0, 5), st.integers(0, 5))
def test_a_timeline_made_coarser_twice_is_one_made_coarser_at_once(
    spans: list[Span], holes: list[Span], fine: int, more: int
) -> None:
    line = Timeline(spans, [gap(*hole) for hole in holes], 60)
    assert line.coarser(fine).coarser(fine + more) == line.coarser(fine + more)
