"""HLS segments: which key frames are their borders, and what they are called; from the index alone, no file is opened.

Kept true: a segment is whole GOPs of one chunk, from the first key frame at or after floor(time / SEGMENT_US) ×
SEGMENT_US to the first key frame of a later slot or the chunk's end. So identity and bytes depend on the recording
alone, never on who asks or when, and `seg-<chunk>-<slot>.m4s` may be cached for ever. What still grows is no segment.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from base.errors import NotFound
from base.units import US
from chunks.records import GapCause
from clips.tables import Int64s
from index import ChunkRow, Snapshot

SEGMENT_US: Final = 4 * US
_MARGIN_US: Final = US  # a chunk's first key frame may be stamped a little before the chunk


@dataclass(frozen=True, slots=True)
class Segments:
    """Finished segments in time order, as columns. `at` is the index of each one's chunk in `rows`.

    Their fragments lie in file bytes [offset, stop); `end_us` is where their footage ends, which is earlier than the
    next one's start when an absence lies between.
    """

    rows: list[ChunkRow]
    at: Int64s
    slot: Int64s
    start_us: Int64s
    end_us: Int64s
    offset: Int64s
    stop: Int64s

    def __len__(self) -> int:
        return len(self.at)

    def row(self, i: int) -> ChunkRow:
        """The chunk of the i-th segment."""
        return self.rows[int(self.at[i])]

    def name(self, i: int) -> str:
        """Its file name."""
        return segment_name(self.row(i).sequence, int(self.slot[i]))

    def chosen(self, which: slice | Int64s) -> Segments:
        """Some of them."""
        columns = (self.at, self.slot, self.start_us, self.end_us, self.offset, self.stop)
        return Segments(self.rows, *(column[which] for column in columns))

    def breaks(self) -> Int64s:
        """Indices where a player must start over: another configuration, or another media clock, than just before."""
        clocks = np.array([(row.epoch, row.run) for row in self.rows], np.int64).reshape(-1, 2)[self.at]
        return np.flatnonzero(np.any(clocks[1:] != clocks[:-1], axis=1)) + 1


def segment_name(sequence: int, slot: int) -> str:
    """The name of a segment, by chunk and slot; all names are of one length."""
    return f"seg-{sequence:010}-{slot:010}.m4s"


def find_segments(snapshot: Snapshot, stream_id: int, start_us: int, end_us: int) -> Segments:
    """The finished segments of [start_us, end_us) of wall time."""
    rows = snapshot.chunks(stream_id, start_us, end_us)
    if not rows:
        none = np.zeros(0, np.int64)
        return Segments([], none, none, none, none, none, none)
    first_us, last_us = rows[0].start_us - _MARGIN_US, max(row.end_us for row in rows)
    keys = snapshot.key_frames(stream_id, first_us, last_us)
    numbers = np.array([row.sequence for row in rows], np.int64)
    sequence = keys["sequence"].astype(np.int64)
    at = np.minimum(np.searchsorted(numbers, sequence), len(rows) - 1)
    ours = numbers[at] == sequence
    at, times, offsets = at[ours], keys["time_us"][ours], keys["offset"][ours].astype(np.int64)
    found = _cut(rows, at, times, offsets, _absences(snapshot, stream_id, first_us, last_us))
    return found.chosen(np.flatnonzero((found.end_us > start_us) & (found.start_us < end_us)))


def _cut(rows: list[ChunkRow], at: Int64s, times: Int64s, offsets: Int64s, absences: tuple[Int64s, Int64s]) -> Segments:
    """Segments from the key frames of `rows`; those that still grow are left out."""
    slots = times // SEGMENT_US
    borders = np.flatnonzero((np.diff(at, prepend=-1) != 0) | (np.diff(slots, prepend=-1) != 0))
    at, slots, starts, offset = at[borders], slots[borders], times[borders], offsets[borders]
    is_last = np.diff(at, append=-1) != 0
    ends = np.where(is_last, np.array([row.end_us for row in rows])[at], np.append(starts[1:], 0))
    stop = np.where(is_last, np.array([row.size for row in rows])[at], np.append(offset[1:], 0))
    from_us, to_us = absences
    if len(from_us) and len(starts):
        home = np.searchsorted(starts, from_us, "right") - 1
        cut = (home >= 0) & (to_us >= ends[home]) & (from_us < ends[home])  # an absence that lasts to the next one
        np.minimum.at(ends, home[cut], from_us[cut])
    finished = ~is_last | np.array([row.sealed for row in rows])[at]
    return Segments(rows, at, slots, starts, np.maximum(ends, starts + 1), offset, stop).chosen(
        np.flatnonzero(finished)
    )


def find_spoilt(found: Segments, damage: Iterable[tuple[int, int]]) -> Int64s:
    """Indices of the segments that hold damage, told as wall times [start, end)."""
    spoilt = np.zeros(len(found), bool)
    for start_us, end_us in damage:
        first = int(np.searchsorted(found.end_us, start_us, "right"))
        spoilt[first : int(np.searchsorted(found.start_us, end_us, "left"))] = True
    return np.flatnonzero(spoilt)


def declared_damage(snapshot: Snapshot, stream_id: int, start_us: int, end_us: int) -> list[tuple[int, int]]:
    """Wall times of what was found damaged in a range, by the index."""
    gaps = snapshot.gaps(stream_id, start_us, end_us)
    return [(gap.start_us, gap.end_us) for gap in gaps if gap.cause is GapCause.DAMAGE]


def _absences(snapshot: Snapshot, stream_id: int, start_us: int, end_us: int) -> tuple[Int64s, Int64s]:
    """Starts and ends of the declared gaps of a range, less damage: that is inside segments, and spoils them."""
    gaps = [gap for gap in snapshot.gaps(stream_id, start_us, end_us) if gap.cause is not GapCause.DAMAGE]
    return np.array([gap.start_us for gap in gaps], np.int64), np.array([gap.end_us for gap in gaps], np.int64)


def locate(snapshot: Snapshot, row: ChunkRow, slot: int) -> tuple[int, int]:
    """File bytes [offset, stop) of the segment `slot` of a chunk; `NotFound` when there is none, or it still grows."""
    begin_us = slot * SEGMENT_US
    keys = snapshot.key_frames(row.stream_id, begin_us, begin_us + SEGMENT_US)
    ours = keys["offset"][keys["sequence"] == row.sequence]
    if not len(ours):
        raise NotFound(f"chunk {row.sequence} has no segment {slot}; take names from a playlist")
    after = snapshot.seek_next(row.stream_id, begin_us + SEGMENT_US)
    if after is not None and after.sequence == row.sequence:
        return int(ours[0]), after.offset
    if not row.sealed:
        raise NotFound(f"segment {slot} of chunk {row.sequence} still grows; ask again when a playlist lists it")
    return int(ours[0]), row.size
