"""Exact places: which picture is shown at a wall time, and which wall time a media time is.

Kept true: what is told was read from the chunk's frame table, not only from the index; a media time counts on the
stream's media clock, as served fragments do (90 kHz).
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from base.errors import IndexDamage, NotFound
from base.units import US
from clips.plan import picture_walls
from clips.store import ChunkStore, OpenChunk
from index import KeyFrame, Snapshot
from index.suspect import PROVEN

_DRIFT_US: Final = 900 * US  # a camera's clock may have drifted so far from the wall within a run


class Position(NamedTuple):
    """A picture: its wall time and its presentation time on the stream's media clock."""

    time_us: int
    media_90k: int


def key_fragment_of(chunk: OpenChunk, key: KeyFrame) -> int:
    """The fragment of a key frame; `IndexDamage` when the chunk has no key frame there."""
    table = chunk.table
    first = int(np.searchsorted(table.offset, key.offset))
    if first >= len(table) or int(table.offset[first]) != key.offset or not table.key[first]:
        raise IndexDamage(
            f"{chunk.file.path} has no key frame at {key.offset} as the index says; the recorder makes it again",
            reason=PROVEN if chunk.file.end is not None else IndexDamage.reason,
        )
    return first


def position_at(snapshot: Snapshot, store: ChunkStore, stream_id: int, at_us: int) -> Position | None:
    """The last picture at or before a wall time; None when there is none."""
    key, stream = snapshot.seek(stream_id, at_us), snapshot.stream_by_id(stream_id)
    row = snapshot.chunk(stream_id, key.sequence) if key else None
    if key is None or row is None or stream is None:
        return None
    chunk = store.open(stream.name, row)
    table, first = chunk.table, key_fragment_of(chunk, key)
    later = np.flatnonzero(table.key[first + 1 :])
    stop = first + 1 + int(later[0]) if len(later) else len(table)
    pts, walls = picture_walls(chunk, first, stop)
    shown = np.flatnonzero((walls <= at_us) & (pts >= pts[0]))
    at = int(shown[np.argmax(pts[shown])]) if len(shown) else 0
    return Position(int(walls[at]), int(pts[at]) + row.origin_90k)


def time_of_media(snapshot: Snapshot, store: ChunkStore, stream_id: int, media_90k: int) -> int:
    """Wall time of a media time; `NotFound` where nothing is recorded."""
    stream = snapshot.stream_by_id(stream_id)
    near_us = media_90k * 100 // 9
    rows = snapshot.chunks(stream_id, near_us - _DRIFT_US, near_us + _DRIFT_US)
    for row in sorted(rows, key=lambda row: row.origin_90k, reverse=True):
        if stream is None or row.origin_90k > media_90k:
            continue
        chunk = store.open(stream.name, row)
        table, within = chunk.table, media_90k - row.origin_90k
        i = int(np.searchsorted(table.tfdt_90k, within, "right")) - 1
        if i < 0:
            continue
        start_us, end_us = int(table.wall_us[i]), int(table.end_us[i])
        past_us = (within - int(table.tfdt_90k[i]) - int(table.video_cts[0])) * 100 // 9
        if past_us < (end_us - start_us) * 10 // 9:  # stored time that is ahead runs a tenth slower than media time
            return min(start_us + past_us, end_us - 1)
        break
    raise NotFound(
        f"nothing is recorded at media time {media_90k}; it counts 1/90000 s as tfdt of served fragments does",
        reason="no-footage",
    )
