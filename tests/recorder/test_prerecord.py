"""The ring of a stream that stands by: how long, how much, and that it begins with a key frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from recorder.prerecord import Ring, RingBudget

SECOND = 1_000_000


@dataclass
class Piece:
    """What a ring asks of a fragment."""

    first_arrival_us: int
    key: bool
    media_bytes: int = 1000


def fill(ring: Any, count: int, gop: int, step_us: int = SECOND // 2) -> list[Piece]:
    pieces = [Piece(i * step_us, i % gop == 0) for i in range(count)]
    for piece in pieces:
        ring.hold(piece)
    return pieces


def test_it_keeps_the_length_asked_for_and_the_gop_that_covers_it() -> None:
    ring = Ring(3 * SECOND, RingBudget(1 << 30))
    pieces = fill(ring, 41, gop=4)  # GOPs of 2 s, the last fragment begins at 20 s
    held = ring.take()
    assert held[0].key
    assert held == pieces[32:]  # from 16 s: the GOP of 18 s would leave only 2 s
    assert len(ring) == 0


def test_without_length_it_keeps_the_gop_under_way() -> None:
    ring = Ring(0, RingBudget(1 << 30))
    pieces = fill(ring, 11, gop=4)
    assert ring.take() == pieces[8:]


def test_rings_share_one_bound_and_each_gives_up_its_own() -> None:
    budget = RingBudget(20_000)
    first, second = Ring(60 * SECOND, budget), Ring(60 * SECOND, budget)
    fill(first, 12, gop=4)
    fill(second, 12, gop=4)
    assert budget.used_bytes <= 20_000
    assert len(first) == 12
    assert second.take()[0].key
    first.clear()
    assert budget.used_bytes == 0


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 9000)), max_size=200), st.integers(0, 20))
def test_whatever_comes_the_bound_holds_and_a_key_frame_leads(pieces: list[tuple[bool, int]], seconds: int) -> None:
    budget = RingBudget(30_000)
    ring: Any = Ring(seconds * SECOND, budget)
    for i, (key, size) in enumerate(pieces):
        ring.hold(Piece(i * SECOND // 2, key, size))
        assert budget.used_bytes <= 30_000
    held = ring.take()
    assert not held or held[0].key
    assert budget.used_bytes == 0
