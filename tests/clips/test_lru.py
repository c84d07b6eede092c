from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from clips.lru import Lru


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 60)), max_size=80))
def test_bounds_hold_and_the_newest_stays(puts: list[tuple[int, int]]) -> None:
    lru: Lru[int, int] = Lru(100, 5)
    for key, size in puts:
        lru.put(key, size, size)
        assert lru.get(key) == size
        held = [value for value in map(lru.get, range(10)) if value is not None]
        assert len(held) <= 5
        assert sum(held) == lru.held_bytes
        assert lru.held_bytes <= 100


def test_least_recently_used_goes_first() -> None:
    lru: Lru[str, int] = Lru(1000, 2)
    lru.put("a", 1, 1)
    lru.put("b", 2, 1)
    assert lru.get("a") == 1
    lru.put("c", 3, 1)
    assert lru.get("b") is None
    assert lru.get("a") == 1
    lru.clear()
    assert lru.get("a") is None
    assert lru.held_bytes == 0
