"""HLS (RFC 8216) over the stored fragments: VOD, live and key-frame playlists, and the files they name.

Kept true: a segment is whole GOPs of one chunk; its borders are the first key frames after each multiple of
SEGMENT_US of wall time, so they never change, whoever asks and whenever; its name says chunk, first fragment and
count, so it needs no playlist to be understood. A segment that still grows is never listed. Absences are listed as GAP.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np

from base.errors import DamageError, NotFound, UserError
from base.units import MEDIA_HZ, US, format_time
from clips.fmp4 import key_fragment, served_fragment, served_init
from clips.store import ChunkStore, OpenChunk
from clips.tables import Int64s
from index import ChunkRow, Snapshot

SEGMENT_US: Final = 4 * US
LIVE_SEGMENTS: Final = 6
GAP_US_MIN: Final = US // 2  # shorter absences are the normal distance of two pictures
SEGMENT_FRAGMENTS_MAX: Final = 4096
_NAME: Final = re.compile(r"(?:init-(\d{1,10})\.mp4|(key|seg)-(\d{1,10})-(\d{1,6})-(\d{1,4})\.m4s)", re.ASCII)


class Segment(NamedTuple):
    """Fragments [first, first + fragments) of one chunk."""

    row: ChunkRow
    first: int
    fragments: int
    start_us: int
    end_us: int
    duration_s: float
    kind: str

    @property
    def name(self) -> str:
        """Its file name in playlists."""
        return f"{self.kind}-{self.row.sequence}-{self.first}-{self.fragments}.m4s"


def vod_playlist(snapshot: Snapshot, store: ChunkStore, stream_id: int, start_us: int, end_us: int) -> str:
    """All finished segments that overlap [start_us, end_us)."""
    rows = _rows(snapshot, stream_id, start_us, end_us)
    name = _name(snapshot, stream_id)
    found = [
        segment
        for row in rows
        for segment in segments(store.open(name, row))
        if segment.end_us > start_us and segment.start_us < end_us
    ]
    if not found:
        raise _nothing(name, start_us, end_us)
    offset_s = max(0, start_us - found[0].start_us) / US
    head = ["#EXT-X-PLAYLIST-TYPE:VOD", f"#EXT-X-START:TIME-OFFSET={offset_s:.3f},PRECISE=YES"]
    return _text([*head, "#EXT-X-MEDIA-SEQUENCE:0"], found, _entries(found), end=True)


class LivePlaylists:
    """Live playlists of all streams; keeps the number of each listed segment, as players tell them apart by it."""

    def __init__(self, store: ChunkStore, count: int = LIVE_SEGMENTS) -> None:
        self._store = store
        self._count = count
        self._told: dict[int, list[tuple[str, int, int]]] = {}  # stream: (name, number, breaks before it)
        self._lock = threading.Lock()

    def text(self, snapshot: Snapshot, stream_id: int) -> str:
        """The newest finished segments of a stream."""
        found = self._newest(snapshot, stream_id)
        if not found:
            name = _name(snapshot, stream_id)
            raise NotFound(f"{name} has no finished segment yet; ask again in a few seconds", reason="no-footage")
        with self._lock:
            number, breaks = self._number(stream_id, found)
        head = [f"#EXT-X-MEDIA-SEQUENCE:{number}", f"#EXT-X-DISCONTINUITY-SEQUENCE:{breaks}"]
        return _text(head, found, _entries(found, gaps=False), end=False)

    def _newest(self, snapshot: Snapshot, stream_id: int) -> list[Segment]:
        name, last = _name(snapshot, stream_id), snapshot.last_chunk(stream_id)
        found: list[Segment] = []
        for sequence in range(last.sequence if last else 0, 0, -1):
            row = snapshot.chunk(stream_id, sequence)
            if row is None or len(found) >= self._count:
                break
            if row.fragments:
                found = [*segments(self._store.open(name, row)), *found]
        return found[-self._count :]

    def _number(self, stream_id: int, found: list[Segment]) -> tuple[int, int]:
        """(number of the first segment, breaks before it), going on from what was told last."""
        told = {name: (number, breaks) for name, number, breaks in self._told.get(stream_id, [])}
        number, breaks = told.get(found[0].name) or (0, 0)
        if not number:
            last = max(told.values(), default=(found[0].start_us // SEGMENT_US - 1, 0))
            number, breaks = last[0] + 1, last[1] + bool(told)
        kept, at = [], breaks
        for i, segment in enumerate(found):
            at += i > 0 and _is_break(found[i - 1], segment)
            kept.append((segment.name, number + i, at))
        self._told[stream_id] = kept
        return number, breaks


def key_playlist(snapshot: Snapshot, store: ChunkStore, stream_id: int, start_us: int, end_us: int) -> str:
    """Every key frame of [start_us, end_us) as a segment of its own; for scrubbing."""
    name = _name(snapshot, stream_id)
    found = [
        key
        for row in _rows(snapshot, stream_id, start_us, end_us)
        for key in _keys(store.open(name, row))
        if key.end_us > start_us and key.start_us < end_us
    ]
    if not found:
        raise _nothing(name, start_us, end_us)
    head = ["#EXT-X-PLAYLIST-TYPE:VOD", "#EXT-X-I-FRAMES-ONLY", "#EXT-X-MEDIA-SEQUENCE:0"]
    return _text(head, found, _entries(found, gaps=False), end=True)


def file(snapshot: Snapshot, store: ChunkStore, stream_id: int, name: str) -> bytes:
    """The bytes of a file that a playlist names; they never change."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise NotFound(f"{name[:80]!r} is no segment's name; take names from a playlist")
    epoch, kind, sequence, first, count = match.groups()
    if epoch is not None:
        return served_init(snapshot.config(stream_id, int(epoch)))
    row = snapshot.chunk(stream_id, int(sequence)) if int(sequence) < 1 << 32 else None
    if row is None:
        raise NotFound(f"there is no chunk {sequence}; it may have expired, take names from a fresh playlist")
    chunk = store.open(_name(snapshot, stream_id), row)
    fragments = range(int(first), int(first) + int(count))
    if not 0 < len(fragments) <= SEGMENT_FRAGMENTS_MAX or fragments.stop > len(chunk.table):
        raise NotFound(f"chunk {sequence} has no fragments {first} to {fragments.stop - 1}; take names from a playlist")
    config = snapshot.config(stream_id, row.epoch)
    bad = set(store.damaged(row)).intersection(fragments)
    if bad:
        raise DamageError(f"fragment {min(bad)} of chunk {sequence} is damaged; this segment is a gap")
    if kind == "key":
        return _checked(store, row, fragments[:1], lambda i: key_fragment(chunk, i))
    return _checked(store, row, fragments, lambda i: served_fragment(chunk, i, config))


def segments(chunk: OpenChunk) -> list[Segment]:
    """The finished segments of one chunk."""
    table, row = chunk.table, chunk.row
    keys = np.flatnonzero(table.key)
    if not len(keys):
        return []
    slots = table.wall_us[keys] // SEGMENT_US
    starts = keys[np.flatnonzero(np.diff(slots, prepend=slots[0] - 1))]
    if row.sealed:
        starts = np.append(starts, len(table))
    return _segments(chunk, starts[:-1], starts[1:], "seg")


def _keys(chunk: OpenChunk) -> list[Segment]:
    """The key frames of one chunk, each lasting to the next."""
    table = chunk.table
    keys = np.flatnonzero(table.key)
    if not len(keys):
        return []
    return _segments(chunk, keys, np.append(keys[1:], len(table)), "key")


def _segments(chunk: OpenChunk, starts: Int64s, stops: Int64s, kind: str) -> list[Segment]:
    """A segment for fragments [start, stop) each; one lasts until the next fragment's decode time."""
    table = chunk.table
    last = stops - 1
    tail_90k = (table.end_us[last] - table.wall_us[last]) * 9 // 100
    ends_90k = table.tfdt_90k[last] + tail_90k
    inside = stops < len(table)
    ends_90k[inside] = table.tfdt_90k[stops[inside]]
    seconds = np.maximum(ends_90k - table.tfdt_90k[starts], 90) / MEDIA_HZ
    counts = np.ones_like(starts) if kind == "key" else stops - starts
    columns = (starts, counts, table.wall_us[starts], table.end_us[last], seconds)
    row = chunk.row
    return [
        Segment(row, first, count, start_us, end_us, duration_s, kind)
        for first, count, start_us, end_us, duration_s in zip(*(column.tolist() for column in columns), strict=True)
    ]


def _is_break(before: Segment, after: Segment) -> bool:
    """A player must start over: another configuration, or another media clock."""
    return (before.row.epoch, before.row.run) != (after.row.epoch, after.row.run)


def _entries(found: list[Segment], *, gaps: bool = True) -> Iterator[str]:
    """Map, discontinuity, time and name of each segment, and the absences between them."""
    longest_us = _longest_s(found) * US
    before: Segment | None = None
    for segment in found:
        broken = before is not None and _is_break(before, segment)
        if gaps and before is not None and segment.start_us - before.end_us >= GAP_US_MIN:
            yield from _gap(before.end_us, segment.start_us, longest_us)
            broken = True
        if broken:
            yield "#EXT-X-DISCONTINUITY"
        if before is None or before.row.epoch != segment.row.epoch:
            yield f'#EXT-X-MAP:URI="init-{segment.row.epoch}.mp4"'
        yield f"#EXT-X-PROGRAM-DATE-TIME:{_date(segment.start_us)}\n#EXTINF:{segment.duration_s:.5f},\n{segment.name}"
        before = segment


def _gap(start_us: int, end_us: int, longest_us: int) -> Iterator[str]:
    """An absence as GAP segments no longer than the playlist's target."""
    yield "#EXT-X-DISCONTINUITY"
    at = start_us
    while at < end_us:
        stop = min(at + longest_us, end_us)
        yield "#EXT-X-GAP"
        yield f"#EXT-X-PROGRAM-DATE-TIME:{_date(at)}"
        yield f"#EXTINF:{(stop - at) / US:.5f},"
        yield f"gap-{at // 1000}.m4s"
        at = stop


def _text(head: list[str], found: list[Segment], entries: Iterable[str], *, end: bool) -> str:
    lines = ["#EXTM3U", "#EXT-X-VERSION:8", f"#EXT-X-TARGETDURATION:{_longest_s(found)}"]
    lines += ["#EXT-X-INDEPENDENT-SEGMENTS", *head, *entries]
    if end:
        lines.append("#EXT-X-ENDLIST")
    return "\n".join(lines) + "\n"


def _longest_s(found: list[Segment]) -> int:
    return max(SEGMENT_US // US, math.ceil(max(segment.duration_s for segment in found)))


def _date(time_us: int) -> str:
    """RFC 3339 to the millisecond; a day's playlist has twenty thousand of them."""
    second, part_us = divmod(time_us, US)
    minute, second = divmod(second, 60)
    return f"{_minute(minute)}:{second:02d}.{part_us // 1000:03d}Z"


@lru_cache(maxsize=4096)
def _minute(minute: int) -> str:
    return format_time(minute * 60 * US)[:16]


def _rows(snapshot: Snapshot, stream_id: int, start_us: int, end_us: int) -> list[ChunkRow]:
    if end_us <= start_us:
        raise UserError("end is not after start; swap them or ask for a later end", reason="bad-range")
    return snapshot.chunks(stream_id, start_us, end_us)


def _name(snapshot: Snapshot, stream_id: int) -> str:
    stream = snapshot.stream_by_id(stream_id)
    if stream is None:
        raise NotFound(f"there is no stream {stream_id}; see the list of streams")
    return stream.name


def _nothing(name: str, start_us: int, end_us: int) -> NotFound:
    return NotFound(
        f"{name} has no finished segment from {format_time(start_us)} to {format_time(end_us)}; its timeline says what "
        "there is",
        reason="no-footage",
    )


def _checked(store: ChunkStore, row: ChunkRow, fragments: range, read: Callable[[int], bytes]) -> bytes:
    """The fragments' bytes; a damaged one is remembered."""
    parts = []
    for i in fragments:
        try:
            parts.append(read(i))
        except DamageError:
            store.mark_damaged(row, i)
            raise
    return b"".join(parts)
