"""Key-frame blocks of an index that a disk spoilt."""

from __future__ import annotations

import bisect
import itertools

import numpy as np

from native import keyblock as block_of
from tests.fuzz.feed import Feed

_MAX = 2**63 - 1


class Rows:
    """A cursor over rows in memory, as LMDB's."""

    def __init__(self, rows: list[tuple[bytes, bytes]]) -> None:
        self._rows = sorted(dict(rows).items())
        self._at = 0

    def set_range(self, key: bytes, /) -> bool:
        self._at = bisect.bisect_left(self._rows, (key, b""))
        return self._at < len(self._rows)

    def prev(self) -> bool:
        self._at -= 1
        return self._at >= 0

    def last(self) -> bool:
        self._at = len(self._rows) - 1
        return self._at >= 0

    def key(self) -> bytes:
        return self._rows[self._at][0]

    def item(self) -> tuple[bytes, bytes]:
        return self._rows[self._at]


def _decoded(block: bytes, start_us: int) -> list[tuple[int, int, int]] | None:
    try:
        size = block_of.count(block)
        times, sequences, offsets = np.empty(size, np.int64), np.empty(size, np.uint32), np.empty(size, np.int64)
        assert block_of.decode_into(block, start_us, times, sequences, offsets, 0) == size
    except ValueError:
        return None
    return list(zip(times.tolist(), sequences.tolist(), offsets.tolist(), strict=True))


def keyblock(data: bytes) -> None:
    """Any bytes as a block and as rows; a sound block answers as its own list of key frames does."""
    feed = Feed(data)
    start_us, time_us, step = feed.s(8), feed.s(8), feed.u(4)
    rows = [(feed.blob(), feed.blob()) for _ in range(feed.u(1) % 4)]
    skip = feed.u(1)
    block = feed.rest()
    for question in (block_of.floor, block_of.ceiling):
        try:
            question(block, start_us, time_us)
        except ValueError:
            continue
    if found := _decoded(block, start_us):
        _check_answers(found, block, start_us, time_us, step)
    rows.append((b"\0\0\0\1" + start_us.to_bytes(8, "big", signed=True), block))
    for limit in (time_us, start_us, _MAX):
        try:
            block_of.seek_floor(Rows(rows), Rows(rows), skip, 1, limit)
        except ValueError:
            continue


def _check_answers(found: list[tuple[int, int, int]], block: bytes, start_us: int, time_us: int, step: int) -> None:
    times = [row[0] for row in found]
    assert all(a < b for a, b in itertools.pairwise(times))
    for wanted in (time_us, start_us, found[-1][0], found[len(found) // 2][0] - 1):
        before, after = bisect.bisect_right(times, wanted), bisect.bisect_left(times, wanted)
        assert block_of.floor(block, start_us, wanted) == (found[before - 1] if before else None)
        assert block_of.ceiling(block, start_us, wanted) == (found[after] if after < len(found) else None)
    frames = [(time, offset) for time, _, offset in found]
    again = block_of.extend(found[0][1], 0, b"", frames)
    assert len(again) == 1
    assert _decoded(again[0][1], start_us) == found
    more = [(times[-1] + (step + 1) * i, frames[-1][1] + i) for i in range(1, 70)]
    try:
        grown = block_of.extend(found[0][1], start_us, block, more)
    except (ValueError, OverflowError):
        assert more[-1][0] > _MAX or more[-1][1] > _MAX or len(block) > len(again[0][1])
        return
    assert [(t, o) for at, part in grown for t, _, o in _decoded(part, at) or []] == frames + more
