"""The live HLS playlist: the newest finished segments, and the parts of the one that grows (low-latency HLS).

Kept true: what is told of a segment, its number, name and length, never changes and is the same in every process
(`clips.liveslots`); a part is one stored fragment on stable storage, so its bytes never change; nothing that is not on
stable storage is named. A slot in which nothing begins is an EXT-X-GAP; every declared gap is an EXT-X-DATERANGE.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np

from base.errors import NotFound
from base.units import US, format_time
from clips import playlist
from clips.hls import derived_lines, stream_name
from clips.liveslots import LONGEST_US, LiveSegment, Window, live_rows, live_segments, load_window
from clips.segments import SEGMENT_US, declared_damage, segment_name
from clips.store import ChunkStore
from index import ChunkRow, Snapshot

LIVE_SEGMENTS: Final = 8
TARGET_S: Final = LONGEST_US // US  # the same for every stream and reload, as RFC 8216 §6.2.1 wants
_PART_SEGMENTS: Final = 2  # finished segments whose parts are still listed
_PART_STEP_S: Final = 0.25
_GAPS_MAX: Final = 32  # declared gaps told
_GAP_US_LEAST: Final = US // 2


class LiveText(NamedTuple):
    """A live playlist and how far it goes: `parts` of the segment number `growing` are in it."""

    text: bytes
    growing: int
    parts: int


class _Entry(NamedTuple):
    """A segment as listed; `segment` is None for a gap."""

    number: int
    start_us: int
    length_us: int
    breaks: int
    segment: LiveSegment | None


class LivePlaylists:
    """Live playlists of all streams; keeps nothing between calls."""

    def __init__(self, store: ChunkStore, count: int = LIVE_SEGMENTS) -> None:
        self._store = store
        self._count = count
        self._window_us = (count + 4) * SEGMENT_US

    def rows(self, snapshot: Snapshot, stream_id: int) -> list[ChunkRow]:
        """The chunks that `text` reads."""
        return live_rows(snapshot, stream_id, self._window_us)

    def text(self, snapshot: Snapshot, stream_id: int) -> LiveText:
        """The newest finished segments of a stream, and the parts after them."""
        name = stream_name(snapshot, stream_id)
        rows = self.rows(snapshot, stream_id)
        window = load_window(self._store, name, rows, self._window_us)
        found = live_segments(window)
        if len(found) < 2:
            raise NotFound(f"{name} has no finished segment yet; ask again in a few seconds", reason="no-footage")
        growing = found[-1]
        listed = [entry for entry in _entries(window, found) if entry.number >= growing.number - self._count]
        damage = declared_damage(snapshot, stream_id, int(window.wall_us[0]), int(window.end_us[-1]))
        text = _Text(self._store, window, listed, damage)
        body = text.finished() + text.begin(growing, listed[-1].breaks) + text.parts(growing)
        part_s = max(2 * _PART_STEP_S, math.ceil(text.longest_us / US / _PART_STEP_S) * _PART_STEP_S)
        control = f"CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK={3 * part_s:.3f},HOLD-BACK={3 * TARGET_S}"
        head = [
            f"#EXT-X-SERVER-CONTROL:{control}",
            f"#EXT-X-PART-INF:PART-TARGET={part_s:.3f}",
            f"#EXT-X-MEDIA-SEQUENCE:{listed[0].number}",
            f"#EXT-X-DISCONTINUITY-SEQUENCE:{listed[0].breaks}",
            *derived_lines(snapshot, [chunk.row for chunk in window.chunks]),
            *_gap_lines(snapshot, stream_id, listed[0].start_us, int(window.end_us[-1])),
        ]
        made = playlist.document(head, body + _hint(rows), target=TARGET_S, end=False, independent=False)
        return LiveText(made, growing.number, growing.last - growing.first)


class _Text:
    """The lines of listed segments; remembers the epoch told last and the longest part."""

    def __init__(self, store: ChunkStore, window: Window, listed: list[_Entry], damage: list[tuple[int, int]]) -> None:
        self._window = window
        self._listed = listed
        self._damaged = [set(store.damaged(chunk.row)) for chunk in window.chunks]
        self._spoilt = np.zeros(len(window.at), bool)
        for start_us, end_us in damage:
            self._spoilt |= (window.wall_us < end_us) & (window.end_us > start_us)
        self._epoch = 0
        self.longest_us = 0

    def finished(self) -> bytes:
        """All entries, and the parts of the last ones."""
        lines, breaks = [], self._listed[0].breaks
        for i, entry in enumerate(self._listed):
            segment = entry.segment
            if segment is None:
                lines.append(_date_line(entry.start_us).encode())
            else:
                lines.append(self.begin(segment, breaks))
                if i >= len(self._listed) - _PART_SEGMENTS:
                    lines.append(self.parts(segment))
            lacks = segment is None or any(map(self._is_damaged, range(segment.first, segment.last)))
            uri = f"gap-{entry.number}.m4s" if segment is None else _name(self._window, segment)
            told = "#EXT-X-GAP\n" if lacks else ""
            lines.append(f"{told}#EXTINF:{entry.length_us / US:.5f},\n{uri}\n".encode())
            breaks = entry.breaks
        return b"".join(lines)

    def begin(self, segment: LiveSegment, breaks: int) -> bytes:
        """What comes before a segment and its parts: that a player starts over, another init segment, the time."""
        lines = "#EXT-X-DISCONTINUITY\n" * max(0, segment.breaks - breaks)  # RFC 8216 §4.3.3.3 counts the tags
        epoch = self._window.chunk(segment.first).row.epoch
        if epoch != self._epoch:
            lines, self._epoch = lines + playlist.map_line(epoch), epoch
        return (lines + _date_line(int(self._window.wall_us[segment.first]))).encode()

    def parts(self, segment: LiveSegment) -> bytes:
        """EXT-X-PART lines, one per fragment."""
        lines = []
        for i in range(segment.first, segment.last):
            length_us = int(self._window.end_us[i] - self._window.wall_us[i])
            self.longest_us = max(self.longest_us, length_us)
            more = ",INDEPENDENT=YES" * bool(self._window.key[i]) + ",GAP=YES" * self._is_damaged(i)
            uri = _part_name(self._window.chunk(i).row.sequence, self._window.offset(i))
            lines.append(f'#EXT-X-PART:DURATION={length_us / US:.5f},URI="{uri}"{more}\n')
        return "".join(lines).encode()

    def _is_damaged(self, i: int) -> bool:
        return bool(self._spoilt[i]) or int(self._window.index[i]) in self._damaged[int(self._window.at[i])]


def _entries(window: Window, found: list[LiveSegment]) -> Iterator[_Entry]:
    """Every number up to the growing segment, in order."""
    for segment, after in pairwise(found):
        start_us, next_us = int(window.wall_us[segment.first]), int(window.wall_us[after.first])
        end_us = int(window.end_us[segment.last - 1])
        missing = after.number - segment.number - 1
        length_us, gap_us = end_us - start_us, 0
        if missing:
            length_us, gap_us = _shared(length_us, next_us - start_us, missing)
        elif after.breaks == segment.breaks:
            length_us = next_us - start_us  # media time goes on over a short absence, which its date range tells
        yield _Entry(segment.number, start_us, length_us, segment.breaks, segment)
        for i in range(missing):
            yield _Entry(segment.number + 1 + i, next_us - (missing - i) * gap_us, gap_us, segment.breaks, None)


def _shared(length_us: int, whole_us: int, missing: int) -> tuple[int, int]:
    """(length told of a segment, length of each of the `missing` gaps after it), together `whole_us` if they can."""
    length_us = min(max(length_us, whole_us - missing * LONGEST_US), LONGEST_US)
    if whole_us - length_us < missing * _GAP_US_LEAST:  # long pictures, not an absence
        length_us = whole_us // (missing + 1)
    return length_us, min((whole_us - length_us) // missing, LONGEST_US)


def _name(window: Window, segment: LiveSegment) -> str:
    """As in VOD playlists where both hold the same fragments of one chunk, else from where to where."""
    first, last = segment.first, segment.last
    chunk, slots = window.chunk(first), window.wall_us[first:last] // SEGMENT_US
    begins_and_ends_at_keys = window.key[first] and window.key[last] and window.at[first] == window.at[last]
    if begins_and_ends_at_keys and (slots[window.key[first:last]] == slots[0]).all():
        return segment_name(chunk.row.sequence, int(slots[0]))
    end, i = window.chunk(last - 1), int(window.index[last - 1])
    stop = int(end.table.offset[i] + end.table.length[i])
    return f"cut-{chunk.row.sequence:010}-{window.offset(first):012}-{end.row.sequence:010}-{stop:012}.m4s"


def _date_line(time_us: int) -> str:
    return f"#EXT-X-PROGRAM-DATE-TIME:{playlist.date(time_us)}\n"


def _part_name(sequence: int, offset: int) -> str:
    return f"part-{sequence:010}-{offset:012}.m4s"


def _hint(rows: list[ChunkRow]) -> bytes:
    """The part that comes next, unless its chunk ends before it."""
    newest = rows[-1]
    if newest.sealed:
        return b""
    return f'#EXT-X-PRELOAD-HINT:TYPE=PART,URI="{_part_name(newest.sequence, newest.size)}"\n'.encode()


def _gap_lines(snapshot: Snapshot, stream_id: int, start_us: int, end_us: int) -> list[str]:
    """What is declared missing, and why, for people's players to show."""
    return [
        f'#EXT-X-DATERANGE:ID="gap-{gap.start_us}",CLASS="keyreel.gap",START-DATE="{format_time(gap.start_us)}",'
        f'DURATION={(gap.end_us - gap.start_us) / US:.3f},X-CAUSE="{gap.cause.word}"'
        for gap in snapshot.gaps(stream_id, start_us, end_us)[-_GAPS_MAX:]
    ]
