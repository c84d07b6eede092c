"""The live HLS playlist: the newest finished segments, and the parts of the one that grows (low-latency HLS).

Kept true: media sequence numbers go up by one per segment across reloads and chunk borders; a part is one stored
fragment on stable storage, so its bytes never change; nothing that is not on stable storage is named.
"""

from __future__ import annotations

import math
import threading
from typing import Final, NamedTuple

import numpy as np

from base.errors import NotFound
from base.units import US
from clips import playlist
from clips.hls import derived_lines, stream_name
from clips.segments import SEGMENT_US, Segments, find_segments
from clips.store import ChunkStore, OpenChunk
from index import ChunkRow, Snapshot

LIVE_SEGMENTS: Final = 6
_WINDOW_US: Final = 150 * US  # looked back for segments; GOPs of 20 s still give six
_PART_SEGMENTS: Final = 2  # finished segments whose parts are still listed
_PART_STEP_S: Final = 0.25
_Told = list[tuple[str, int, int]]  # (name, number, breaks before it)


class LiveText(NamedTuple):
    """A live playlist and how far it goes: `parts` of the segment number `growing` are in it."""

    text: bytes
    growing: int
    parts: int


class LivePlaylists:
    """Live playlists of all streams; keeps the number of each listed segment, as players tell them apart by it."""

    def __init__(self, store: ChunkStore, count: int = LIVE_SEGMENTS) -> None:
        self._store = store
        self._count = count
        self._told: dict[int, _Told] = {}
        self._lock = threading.Lock()

    def text(self, snapshot: Snapshot, stream_id: int) -> LiveText:
        """The newest finished segments of a stream, and the parts after them."""
        name = stream_name(snapshot, stream_id)
        last = snapshot.last_chunk(stream_id)
        until_us = last.end_us if last is not None and last.fragments else snapshot.durable_until(stream_id)
        found = find_segments(snapshot, stream_id, until_us - _WINDOW_US, until_us + 1)
        found = found.chosen(slice(max(0, len(found) - self._count), None))
        if not len(found):
            raise NotFound(f"{name} has no finished segment yet; ask again in a few seconds", reason="no-footage")
        with self._lock:
            number, breaks = self._number(stream_id, found)
        parts = _Parts(self._store, name)
        before = {
            i: parts.of(found.row(i), int(found.offset[i]), int(found.stop[i]))
            for i in range(max(0, len(found) - _PART_SEGMENTS), len(found))
        }
        tail, count = b"", 0
        if last is not None and last.fragments:
            tail, count = parts.tail(found, last)
        target = playlist.target_s(found.end_us - found.start_us)
        part_s = max(2 * _PART_STEP_S, math.ceil(parts.longest_us / US / _PART_STEP_S) * _PART_STEP_S)
        head = [
            f"#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK={3 * part_s:.3f},HOLD-BACK={3 * target}",
            f"#EXT-X-PART-INF:PART-TARGET={part_s:.3f}",
            f"#EXT-X-MEDIA-SEQUENCE:{number}",
            f"#EXT-X-DISCONTINUITY-SEQUENCE:{breaks}",
            *derived_lines(snapshot, found),
        ]
        body = playlist.entries(found, gaps=False, before=before) + tail
        return LiveText(playlist.document(head, body, target=target, end=False), number + len(found), count)

    def _number(self, stream_id: int, found: Segments) -> tuple[int, int]:
        """(number of the first segment, breaks before it), going on from what was told last."""
        told = {name: (number, breaks) for name, number, breaks in self._told.get(stream_id, [])}
        number, breaks = told.get(found.name(0)) or (0, 0)
        if not number:
            last = max(told.values(), default=(int(found.start_us[0]) // SEGMENT_US - 1, 0))
            number, breaks = last[0] + 1, last[1] + bool(told)
        broken = set(found.breaks().tolist())
        kept, at = [], breaks
        for i in range(len(found)):
            at += i in broken
            kept.append((found.name(i), number + i, at))
        self._told[stream_id] = kept
        return number, breaks


class _Parts:
    """EXT-X-PART lines, one per fragment."""

    def __init__(self, store: ChunkStore, name: str) -> None:
        self._store = store
        self._name = name
        self.longest_us = 0

    def of(self, row: ChunkRow, offset: int, stop: int) -> bytes:
        """The parts of one chunk's fragments in file bytes [offset, stop)."""
        chunk = self._store.open(self._name, row)
        low, high = (int(i) for i in np.searchsorted(chunk.table.offset, [offset, stop]))
        return b"".join(self._line(chunk, i) for i in range(low, high))

    def tail(self, found: Segments, last: ChunkRow) -> tuple[bytes, int]:
        """What comes after the last finished segment: lines, and how many parts."""
        before, stop = found.row(-1), int(found.stop[-1])
        if last.sealed or last.sequence < before.sequence:
            return b"", 0
        lines = self.of(last, stop if last.sequence == before.sequence else 0, last.size)
        count = lines.count(b"\n")
        if count and (last.epoch, last.run) != (before.epoch, before.run):
            changed = playlist.map_line(last.epoch).encode() if last.epoch != before.epoch else b""
            lines = b"#EXT-X-DISCONTINUITY\n" + changed + lines
        return lines, count

    def _line(self, chunk: OpenChunk, i: int) -> bytes:
        table = chunk.table
        length_us = int(table.end_us[i] - table.wall_us[i])
        self.longest_us = max(self.longest_us, length_us)
        free = ",INDEPENDENT=YES" if table.key[i] else ""
        uri = f"part-{chunk.row.sequence:010}-{int(table.offset[i]):012}.m4s"
        return f'#EXT-X-PART:DURATION={length_us / US:.5f},URI="{uri}"{free}\n'.encode()
