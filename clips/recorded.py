"""The pictures of a range as they were stored, one after another, for who judges them.

Kept true: bytes of a fragment are given out only after its check; one that fails it is left out and counted; where
something is known to be missing there is a GAP; what is held in memory is one fragment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np

from base.errors import DamageError, IndexDamage, VolumeError
from base.media import VideoCodec
from base.units import US
from clips.plan import picture_walls
from clips.store import ChunkStore, OpenChunk
from index import ChunkRow, Snapshot

CONNECTION_US_MAX: Final = 31 * 86_400 * US  # so far back its beginning is looked for
GAP: Final = memoryview(b"")
Picture = tuple[int, memoryview]  # stored time, and the sample with NAL lengths of 4 bytes, or GAP


class Recorded:
    """The chunks `rows` of a stream, from the key frame at or before `start_us` up to `end_us`."""

    def __init__(
        self, store: ChunkStore, stream: str, rows: Sequence[ChunkRow], start_us: int, end_us: int,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:  # fmt: skip
        self.lost = 0  # fragments or chunks that could not be read
        self._store, self._stream = store, stream
        self._start_us, self._end_us = start_us, end_us
        self._rows = list(rows)
        self._progress = progress
        self._done = 0
        self._total = sum(row.media_bytes for row in self._rows)
        self._run = -1
        self._next = self._opened()

    def by_codec(self) -> Iterator[tuple[VideoCodec, Iterator[Picture]]]:
        """Stretches of one codec; each is to be read before the next one is asked for."""
        while self._next is not None:
            codec = self._next.file.config.video.codec
            yield codec, self._of(codec)

    def _of(self, codec: VideoCodec) -> Iterator[Picture]:
        while self._next is not None and self._next.file.config.video.codec == codec:
            if self._next.row.run != self._run or self._next.file.head.gap_start_us:
                yield self._next.row.start_us, GAP
            self._run = self._next.row.run
            yield from self._pictures(self._next)
            self._done += self._next.row.media_bytes
            self._next = self._opened()

    def _opened(self) -> OpenChunk | None:
        """The next chunk that can be opened."""
        while self._rows:
            row = self._rows.pop(0)
            try:
                return self._store.open(self._stream, row)
            except IndexDamage:
                raise
            except (DamageError, VolumeError):
                self.lost += 1
        return None

    def _pictures(self, chunk: OpenChunk) -> Iterator[Picture]:
        table = chunk.table
        keys = np.flatnonzero(table.key & (table.wall_us <= self._start_us))
        first = int(keys[-1]) if len(keys) else 0
        for i in range(first, int(np.searchsorted(table.wall_us, self._end_us))):
            try:
                data = self._store.fragment(chunk, i)
            except DamageError:
                self.lost += 1
                yield int(table.wall_us[i]), GAP
                continue
            yield from pictures_of(chunk, i, data)
            self._progress(self._done + int(table.offset[i]), self._total)


def pictures_of(chunk: OpenChunk, i: int, data: bytes | memoryview) -> Iterator[Picture]:
    """The pictures of the i-th fragment, whose bytes `data` are; an empty one before them where it declares a gap."""
    table, view = chunk.table, memoryview(data)
    if table.gap_end_us[i] > table.gap_start_us[i]:
        yield int(table.wall_us[i]), GAP
    at = int(table.video_at[i] - table.offset[i])
    rows = slice(int(table.video_first[i]), int(table.video_first[i] + table.video_count[i]))
    _, walls = picture_walls(chunk, i, i + 1)
    for wall_us, size in zip(walls.tolist(), table.video_size[rows].tolist(), strict=True):
        yield wall_us, view[at : at + size]
        at += size


def connection_of(snapshot: Snapshot, rows: Sequence[ChunkRow]) -> ChunkRow | None:
    """The first chunk of the connection that `rows` begin in: cameras may send their certificate only there."""
    if not rows:
        return None
    first = rows[0]
    before = snapshot.chunks(first.stream_id, first.start_us - CONNECTION_US_MAX, first.start_us + 1)
    return next((row for row in before if row.run == first.run), None)
