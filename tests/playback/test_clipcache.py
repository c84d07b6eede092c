from __future__ import annotations

from typing import Any, cast

from playback.clipcache import ClipCache, Laid


class _Sized:
    """Stands for a clip: the cache asks nothing but its size."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes


def laid(nbytes: int) -> Laid:
    return Laid(cast(Any, _Sized(nbytes)), "disk")


def test_the_least_used_goes_when_the_bytes_are_full() -> None:
    cache = ClipCache(bytes_max=100)
    clips = [laid(40), laid(40), laid(40)]
    cache.put(("s", 0, 1, "all"), clips[0])
    cache.put(("s", 1, 2, "all"), clips[1])
    assert cache.get(("s", 0, 1, "all")) is clips[0]
    cache.put(("s", 2, 3, "all"), clips[2])
    assert cache.get(("s", 1, 2, "all")) is None
    assert cache.get(("s", 0, 1, "all")) is clips[0]
    assert cache.held_bytes == 80


def test_a_huge_clip_is_not_kept() -> None:
    cache = ClipCache(bytes_max=100)
    cache.put(("s", 0, 1, "all"), laid(51))
    assert cache.get(("s", 0, 1, "all")) is None


def test_a_clip_goes_with_time_and_when_dropped() -> None:
    cache = ClipCache(kept_s=-1)
    cache.put(("s", 0, 1, "all"), laid(1))
    assert cache.get(("s", 0, 1, "all")) is None
    cache = ClipCache()
    cache.put(("s", 0, 1, "all"), laid(1))
    cache.drop(("s", 0, 1, "all"))
    cache.drop(("s", 0, 1, "all"))
    assert cache.get(("s", 0, 1, "all")) is None
    assert cache.held_bytes == 0
