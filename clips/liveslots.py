"""Live HLS segments: which stored fragments each one holds, and its number, from the recording alone.

Kept true: a segment's number is the slot of wall time that it begins in (`floor(time / SEGMENT_US)`), so numbers and
contents are the same in every process and after every restart, and go up by one a segment across chunk borders. A
segment begins at the slot's first key frame, or, where a slot has none, with its last fragment, which is known as soon
as that is stored. Numbers between two segments are slots in which nothing begins. Only where a run or an epoch ends
in the slot that it began in, the next one takes the number after, and the slot after that brings both together again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from base.errors import DamageError, VolumeError
from base.units import US
from clips.playlist import GAP_US_MIN
from clips.segments import SEGMENT_US
from clips.store import ChunkStore, OpenChunk
from clips.tables import Int64s
from index import ChunkRow, Snapshot

LONGEST_US: Final = 2 * SEGMENT_US  # no live segment lasts longer: from a slot's begin to the end of the next
_BEFORE_US: Final = 2 * SEGMENT_US  # of the footage before an absence that fills the window


class LiveSegment(NamedTuple):
    """Fragments [first, last) of a window; `breaks` counts runs and epochs, so it grows where a player starts over."""

    number: int
    first: int
    last: int
    breaks: int


@dataclass(frozen=True, slots=True)
class Window:
    """The newest stored fragments of a stream, in time order, as columns; `at` is the index of a fragment's chunk."""

    chunks: list[OpenChunk]
    at: Int64s
    index: Int64s  # the fragment's place in its chunk
    wall_us: Int64s
    end_us: Int64s
    key: npt.NDArray[np.bool_]

    def chunk(self, i: int) -> OpenChunk:
        """The chunk of the i-th fragment."""
        return self.chunks[int(self.at[i])]

    def offset(self, i: int) -> int:
        """Where the i-th fragment begins in its chunk's file."""
        return int(self.chunk(i).table.offset[int(self.index[i])])


def live_rows(snapshot: Snapshot, stream_id: int, window_us: int) -> list[ChunkRow]:
    """The chunks that hold the newest `window_us` of a stream, and the one before an absence that fills its begin."""
    last = snapshot.last_chunk(stream_id)
    until_us = last.end_us if last is not None and last.fragments else snapshot.durable_until(stream_id)
    from_us = (until_us - window_us) // SEGMENT_US * SEGMENT_US
    rows = snapshot.chunks(stream_id, from_us, until_us + 1)
    if not rows or rows[0].start_us > from_us:
        earlier = snapshot.seek(stream_id, min(from_us, rows[0].start_us - 1 if rows else from_us))
        row = snapshot.chunk(stream_id, earlier.sequence) if earlier is not None else None
        rows = [row, *rows] if row is not None and row.sequence not in {row.sequence for row in rows} else rows
    return rows


def load_window(store: ChunkStore, name: str, rows: list[ChunkRow], window_us: int) -> Window:
    """The fragments of `rows` as far as the window goes back; a chunk that cannot be read is an absence."""
    from_us = (max((row.end_us for row in rows), default=0) - window_us) // SEGMENT_US * SEGMENT_US
    chunks: list[OpenChunk] = []
    at, index = [], []
    for row in rows:
        try:
            chunk = store.open(name, row)
        except (DamageError, VolumeError):
            if row is rows[-1]:
                raise
            continue
        since_us = min(from_us, (row.end_us - _BEFORE_US) // SEGMENT_US * SEGMENT_US)
        some = np.flatnonzero(chunk.table.wall_us >= since_us)
        index.append(some)
        at.append(np.full(len(some), len(chunks), np.int64))
        chunks.append(chunk)
    none = np.zeros(0, np.int64)
    tables = [(chunk.table, some) for chunk, some in zip(chunks, index, strict=True)]
    return Window(
        chunks,
        np.concatenate([none, *at]),
        np.concatenate([none, *index]),
        np.concatenate([none, *(table.wall_us[some] for table, some in tables)]),
        np.concatenate([none, *(table.end_us[some] for table, some in tables)]),
        np.concatenate([none.astype(bool), *(table.key[some] for table, some in tables)]),
    )


def live_segments(window: Window) -> list[LiveSegment]:
    """The segments of a window, in order; the last one still grows."""
    if not len(window.at):
        return []
    slots = window.wall_us // SEGMENT_US
    breaks = np.array([chunk.row.run + chunk.row.epoch for chunk in window.chunks], np.int64)[window.at]
    broken = np.diff(breaks, prepend=breaks[0]) != 0
    absent = np.diff(window.wall_us, prepend=window.wall_us[0]) - np.append(0, (window.end_us - window.wall_us)[:-1])
    opens = window.key | (window.end_us // SEGMENT_US > slots) | (absent >= GAP_US_MIN)
    found: list[LiveSegment] = []
    number = began = int(slots[0]) - 1
    began_us = int(window.wall_us[0])
    for i, slot in enumerate(slots.tolist()):
        if broken[i]:
            number = max(slot, number + 1)
        elif slot > number and (opens[i] or (number > began and window.wall_us[i] - began_us >= LONGEST_US - US)):
            number = slot
        else:
            continue
        began, began_us = slot, int(window.wall_us[i])
        if found:
            found[-1] = found[-1]._replace(last=i)
        found.append(LiveSegment(number, i, len(slots), int(breaks[i])))
    return found
