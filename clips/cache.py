"""Clips kept between requests, as players fetch one clip by many ranges and a long clip's `moov` is costly to make.

Kept true: a clip is given again only while every chunk in its range is as it was; what is kept is bounded in bytes.
"""

from __future__ import annotations

from clips.lru import Lru
from clips.mp4 import ClipFile
from clips.plan import plan
from clips.store import ChunkStore
from index import Snapshot

_Key = tuple[object, ...]


class ClipCache:
    """Makes clips, or finds them made. Safe to use from many threads."""

    def __init__(self, store: ChunkStore, *, bytes_max: int = 128 << 20, count_max: int = 1024) -> None:
        self._store = store
        self._clips: Lru[_Key, ClipFile] = Lru(bytes_max, count_max)

    def open(self, snapshot: Snapshot, stream_id: int, start_us: int, end_us: int) -> ClipFile:
        """The clip of a stream over wall time [start_us, end_us)."""
        rows = snapshot.chunks(stream_id, start_us, end_us)
        state = tuple((row.sequence, row.size, row.sealed) for row in rows)
        gaps = len(snapshot.gaps(stream_id, start_us, end_us))
        key = (stream_id, start_us, end_us, state, gaps, self._store.damage_count)
        clip = self._clips.get(key)
        if clip is None:
            clip = ClipFile(plan(snapshot, self._store, stream_id, start_us, end_us))
            self._clips.put(key, clip, clip.nbytes)
        return clip
