"""The policy as a pure function, over states made at random: what must never go, and what goes first."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from index import ChunkRow
from index.expire import Rule, covers
from index.holds import joined
from recorder.policy import DAY_US, Choice, Group, Limits, Line, Need, choose

NOW_US = 100 * DAY_US
VOLUME = bytes(16)


def chunk(stream_id: int, sequence: int, start_us: int, end_us: int, size: int, *, sealed: bool = True) -> ChunkRow:
    return ChunkRow(stream_id, sequence, 1, 1, VOLUME, start_us, end_us, size, sealed, 0, 1, 1, size, size)


def days(*ages: float, stream_id: int = 1, size: int = 10) -> list[ChunkRow]:
    """Chunks of an hour, by age, the oldest first."""
    starts = [NOW_US - round(age * DAY_US) for age in ages]
    return [chunk(stream_id, i + 1, at, at + DAY_US // 24, size) for i, at in enumerate(starts)]


@st.composite
def lines(draw: st.DrawFn) -> list[Line]:
    found = []
    for stream_id in range(1, draw(st.integers(1, 4)) + 1):
        at, rows = NOW_US - draw(st.integers(1, 60)) * DAY_US, []
        for sequence in range(1, draw(st.integers(0, 12)) + 1):
            length = draw(st.integers(1, 4 * DAY_US))
            sealed = draw(st.integers(0, 9)) > 0
            rows.append(chunk(stream_id, sequence, at, at + length, draw(st.integers(1, 100)), sealed=sealed))
            at += length + draw(st.integers(0, DAY_US))
        starts = st.integers(NOW_US - 60 * DAY_US, NOW_US)
        kept = draw(st.lists(st.builds(lambda a, n: (a, a + n), starts, st.integers(1, 5 * DAY_US)), max_size=3))
        days_min = draw(st.sampled_from([0.0, 5.0, 20.0]))
        days_max = draw(st.sampled_from([0.0, days_min + 10]))
        found.append(
            Line(
                stream_id, Limits(days_min, days_max), rows, rows[-1].sequence if rows else 0,
                draw(st.integers(0, 2)), joined(kept), draw(st.integers(0, 300)),
            )
        )  # fmt: skip
    return found


NEEDS = st.builds(Need, st.integers(0, 800), st.integers(0, 6))


@settings(max_examples=400, deadline=None)
@given(lines(), NEEDS, st.booleans(), st.booleans(), st.sampled_from([None, 0, 50]), st.integers(1, 64))
def test_what_must_never_go_never_goes(
    state: list[Line], need: Need, below_min: bool, ages_known: bool, aged_max: int | None, most: int
) -> None:
    choice = choose(
        state, now_us=NOW_US, need=need, below_min=below_min, ages_known=ages_known, aged_max=aged_max, most=most,
        groups=[Group(100, frozenset({1, 2}))],
    )  # fmt: skip
    by_id = {line.stream_id: line for line in state}
    assert len(choice.victims) <= most
    assert len({(one.chunk.stream_id, one.chunk.sequence) for one in choice.victims}) == len(choice.victims)
    for row, rule in choice.victims:
        line = by_id[row.stream_id]
        age_us = NOW_US - row.end_us
        assert row.sealed
        assert not covers(line.kept, row.start_us, row.end_us), "what is held or leased"
        assert row.sequence != line.newest or rule is Rule.DAYS_MAX, "the newest"
        if rule is Rule.DAYS_MAX:
            assert ages_known
            assert line.limits.days_max * DAY_US <= age_us
        elif rule is Rule.BELOW_MIN:
            assert below_min
        elif line.limits.days_min:
            assert ages_known
            assert age_us >= line.limits.days_min * DAY_US, "guaranteed days"


@settings(max_examples=300, deadline=None)
@given(lines(), NEEDS, st.booleans())
def test_room_is_made_when_anything_may_go_and_oldest_first(state: list[Line], need: Need, below_min: bool) -> None:
    choice = choose(state, now_us=NOW_US, need=need, below_min=below_min)
    by_id = {line.stream_id: line for line in state}
    gone = {(one.chunk.stream_id, one.chunk.sequence) for one in choice.victims}
    space = [one for one in choice.victims if one.rule is Rule.SPACE]
    order = [(by_id[one.chunk.stream_id].rank, one.chunk.start_us) for one in space]
    assert [key[0] for key in order] == sorted(key[0] for key in order), "lowest rank first"
    for stream_id in by_id:
        mine = [one.chunk.start_us for one in space if one.chunk.stream_id == stream_id]
        assert mine == sorted(mine), "a stream's oldest first"
    if choice.short != Need():
        for line in state:
            for row in line.chunks:
                may_go = row.sealed and not covers(line.kept, row.start_us, row.end_us) and row.sequence != line.newest
                aged = not line.limits.days_min or NOW_US - row.end_us >= line.limits.days_min * DAY_US
                if may_go and (aged or below_min):
                    assert (row.stream_id, row.sequence) in gone, "short, although this one may go"
    elif made := [one for one in choice.victims if one.rule in (Rule.SPACE, Rule.BELOW_MIN)]:
        last = made[-1].chunk.size  # with the guarantee given up, the last one is one of those
        freed = sum(one.chunk.size for one in choice.victims)
        assert freed - last < need.bytes or len(choice.victims) - 1 < need.files, "no more than asked for"


def rules(choice: Choice) -> list[tuple[int, Rule]]:
    return [(one.chunk.sequence, one.rule) for one in choice.victims]


def test_too_old_goes_before_room_is_made_and_counts_as_room() -> None:
    line = Line(1, Limits(days_min=2, days_max=30), days(40, 35, 20, 10, 1), newest=5)
    assert rules(choose([line], now_us=NOW_US, need=Need(30))) == [
        (1, Rule.DAYS_MAX), (2, Rule.DAYS_MAX), (3, Rule.SPACE),
    ]  # fmt: skip
    short = choose([line], now_us=NOW_US, need=Need(100))
    assert rules(short)[-1] == (4, Rule.SPACE)
    assert short.short == Need(60)
    assert rules(choose([line], now_us=NOW_US, need=Need(50), below_min=True))[-1] == (4, Rule.SPACE)


def test_below_the_minimum_only_when_declared_and_never_the_newest() -> None:
    line = Line(1, Limits(days_min=30), days(20, 10, 1), newest=3)
    assert rules(choose([line], now_us=NOW_US, need=Need(99))) == []
    assert rules(choose([line], now_us=NOW_US, need=Need(99), below_min=True)) == [
        (1, Rule.BELOW_MIN), (2, Rule.BELOW_MIN),
    ]  # fmt: skip


def test_an_old_newest_chunk_goes_for_its_age() -> None:
    line = Line(1, Limits(days_max=30), days(40), newest=1)
    assert rules(choose([line], now_us=NOW_US)) == [(1, Rule.DAYS_MAX)]


def test_age_is_held_back_to_its_bound_and_says_so() -> None:
    old = [Line(i, Limits(days_max=1), days(50, 40, 30, stream_id=i), newest=3) for i in (1, 2)]
    choice = choose(old, now_us=NOW_US, aged_max=25)
    assert choice.held_back
    assert [(one.chunk.stream_id, one.chunk.sequence) for one in choice.victims] == [(1, 1), (2, 1), (1, 2)]


def test_without_a_trusted_clock_only_streams_without_guaranteed_days_make_room() -> None:
    state = [
        Line(1, Limits(days_min=1, days_max=2), days(50, 40, stream_id=1), newest=2),
        Line(2, Limits(), days(30, 20, stream_id=2), newest=2),
    ]
    choice = choose(state, now_us=NOW_US, need=Need(99), ages_known=False)
    assert [(one.chunk.stream_id, one.rule) for one in choice.victims] == [(2, Rule.SPACE)]


@settings(max_examples=200, deadline=None)
@given(lines(), NEEDS)
def test_a_clock_that_is_not_trusted_lets_nothing_go_that_another_could_not(state: list[Line], need: Need) -> None:
    """Whatever the time is, each chunk that makes room might go at any time, and is the oldest of its stream."""
    state = [replace(line, excess_bytes=0) for line in state]
    unknown = choose(state, now_us=NOW_US, need=need, ages_known=False)
    at_any_time = choose(state, now_us=0, need=Need(1 << 40))
    assert {(one.stream_id, one.sequence) for one, _ in unknown.victims} <= {
        (one.stream_id, one.sequence) for one, _ in at_any_time.victims
    }
    for line in state:
        gone = [one.sequence for one, _ in unknown.victims if one.stream_id == line.stream_id]
        first = [one.sequence for one, _ in at_any_time.victims if one.stream_id == line.stream_id]
        assert gone == first[: len(gone)]


def test_limits_of_bytes_are_of_streams_and_of_groups() -> None:
    state = [
        Line(1, Limits(), days(9, 8, 7, stream_id=1), newest=3, excess_bytes=15),
        Line(2, Limits(), days(6, 5, 4, stream_id=2), newest=3),
    ]
    alone = choose(state, now_us=NOW_US)
    assert [(one.chunk.stream_id, one.chunk.sequence) for one in alone.victims] == [(1, 1), (1, 2)]
    both = choose(state, now_us=NOW_US, groups=[Group(30, frozenset({1, 2}))])
    assert [(one.chunk.stream_id, one.chunk.sequence) for one in both.victims] == [(1, 1), (1, 2), (2, 1)]
    assert {one.rule for one in both.victims} == {Rule.BYTES_MAX}
