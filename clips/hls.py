"""HLS (RFC 8216) over the stored fragments: VOD and key-frame playlists, and the files that playlists name.

Kept true: a VOD playlist is made from the index and what is in memory; a file's bytes never change once it can be had;
what is damaged is an error and never wrong bytes. Segments are defined in `clips.segments`, live playlists in
`clips.hlslive`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

from base.errors import DamageError, IndexDamage, KeyreelError, NotFound
from base.media import StreamConfig
from base.units import US, format_time
from clips import playlist
from clips.fmp4 import KEY_FRAGMENT_HEAD, FragmentServer, derived_tracks, key_fragment, served_init
from clips.segments import SEGMENT_US, Segments, declared_damage, find_segments, find_spoilt, locate
from clips.store import ChunkStore, KeyColumns, OpenChunk
from clips.tables import Int64s
from index import ChunkRow, Snapshot

__all__ = ["SEGMENT_US", "KeyFile", "file", "key_file", "key_playlist", "vod_playlist"]
_NAME: Final = re.compile(
    r"init-(?P<epoch>\d{1,10})(?P<alone>-video)?\.mp4|(?P<kind>seg|part)-(?P<chunk>\d{10})-(?P<place>\d{10,12})\.m4s"
    r"|cut-(?P<first>\d{10})-(?P<offset>\d{12})-(?P<last>\d{10})-(?P<stop>\d{12})\.m4s",
    re.ASCII,
)
_CUT_CHUNKS_MAX: Final = 16  # a live segment spans two, but for a camera that flaps
_CUT_US_MAX: Final = 4 * SEGMENT_US
_SEQUENCE_MAX: Final = 2**32 - 1


def vod_playlist(
    snapshot: Snapshot, stream_id: int, start_us: int, end_us: int, store: ChunkStore | None = None
) -> bytes:
    """All finished segments that overlap [start_us, end_us); of `store` only the damage it has met is asked."""
    found = find_segments(snapshot, stream_id, start_us, end_us)
    if not len(found):
        raise nothing_finished(stream_name(snapshot, stream_id), start_us, end_us)
    offset_s = max(0, start_us - int(found.start_us[0])) / US
    head = ["#EXT-X-PLAYLIST-TYPE:VOD", f"#EXT-X-START:TIME-OFFSET={offset_s:.3f},PRECISE=YES"]
    target = playlist.target_s(found.end_us - found.start_us)
    damage = _damage(snapshot, store, stream_id, found.rows, (int(found.start_us[0]), int(found.end_us[-1])))
    body = playlist.entries(found, find_spoilt(found, damage))
    head += derived_lines(snapshot, found.rows)
    return playlist.document([*head, "#EXT-X-MEDIA-SEQUENCE:0"], body, target=target, end=True)


def key_playlist(snapshot: Snapshot, store: ChunkStore, stream_id: int, start_us: int, end_us: int) -> bytes:
    """Every key frame of [start_us, end_us) as a byte range of its chunk's key-frame file; for scrubbing."""
    name = stream_name(snapshot, stream_id)
    rows = snapshot.chunks(stream_id, start_us, end_us)
    read = [(row, keys) for row in rows if (keys := _key_frames(store, name, row)) is not None]
    rows, columns = [row for row, _ in read], [keys for _, keys in read]
    if not rows:
        raise nothing_finished(name, start_us, end_us)
    sizes = [keys.size + KEY_FRAGMENT_HEAD for keys in columns]
    size, first = np.concatenate(sizes), np.concatenate([np.cumsum(each) - each for each in sizes])
    none = np.zeros(len(size), np.int64)
    at = np.repeat(np.arange(len(rows)), [len(keys.size) for keys in columns])
    starts = np.concatenate([keys.wall_us for keys in columns])
    ends = np.concatenate([_lasting(keys.wall_us, row) for keys, row in zip(columns, rows, strict=True)])
    found = Segments(rows, at, none, starts, np.maximum(ends, starts + 1), none, none)
    chosen = np.flatnonzero((ends > start_us) & (starts < end_us))
    if not len(chosen):
        raise nothing_finished(name, start_us, end_us)
    found = found.chosen(chosen)
    head = ["#EXT-X-PLAYLIST-TYPE:VOD", "#EXT-X-I-FRAMES-ONLY", "#EXT-X-MEDIA-SEQUENCE:0"]
    damage = _damage(snapshot, store, stream_id, rows, (int(found.start_us[0]), int(found.end_us[-1])))
    spoilt = [i for start, end in damage for i in range(*np.searchsorted(found.start_us, [start, end]).tolist())]
    body = playlist.key_entries(found, first[chosen], size[chosen], np.array(spoilt, np.int64))
    return playlist.document(head, body, target=playlist.target_s(found.end_us - found.start_us), end=True)


def _key_frames(store: ChunkStore, name: str, row: ChunkRow) -> KeyColumns | None:
    """A chunk's key frames; None when it is damaged as a whole."""
    try:
        return store.key_frames(name, row)
    except IndexDamage:
        raise
    except DamageError:
        return None


def _damage(
    snapshot: Snapshot, store: ChunkStore | None, stream_id: int, rows: list[ChunkRow], span_us: tuple[int, int]
) -> list[tuple[int, int]]:
    """Wall times of damage: what the index declares, and what this process has met."""
    met = [times for row in rows for times in store.damaged_times(row)] if store is not None else []
    return declared_damage(snapshot, stream_id, *span_us) + met


def chunks_named(name: str) -> range:
    """The chunks that a file's name tells; none for an init segment and what is no name."""
    match = _NAME.fullmatch(name)
    if match is None or match["epoch"]:
        return range(0)
    first = int(match["chunk"] or match["first"])
    return range(first, min(int(match["last"] or first), first + _CUT_CHUNKS_MAX, _SEQUENCE_MAX) + 1)


def is_to_come(snapshot: Snapshot, stream_id: int, name: str) -> bool:
    """Whether the file is the part that a growing chunk stores next, as a live playlist hints."""
    match = _NAME.fullmatch(name)
    if match is None or match["kind"] != "part":
        return False
    row = chunk_row(snapshot, stream_id, int(match["chunk"]))
    return not row.sealed and int(match["place"]) == row.size


def file(snapshot: Snapshot, store: ChunkStore, stream_id: int, name: str) -> bytes:
    """The bytes of an init segment, a segment or a part that a playlist names; they never change."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise NotFound(f"{name[:80]!r} is no segment's name; take names from a playlist")
    if match["epoch"]:
        config = snapshot.config(stream_id, int(match["epoch"]))
        return served_init(StreamConfig(config.video) if match["alone"] else config)
    if match["first"]:
        return _cut(snapshot, store, stream_id, name, int(match["offset"]), int(match["stop"]))
    row, place = chunk_row(snapshot, stream_id, int(match["chunk"])), int(match["place"])
    offset, stop = locate(snapshot, row, place) if match["kind"] == "seg" else (place, place + 1)
    return _served(snapshot, store, *_fragments(snapshot, store, row, offset, stop))


def _cut(snapshot: Snapshot, store: ChunkStore, stream_id: int, name: str, offset: int, stop: int) -> bytes:
    """A live segment that no VOD playlist has: from `offset` of one chunk to `stop` of that or a later one."""
    sequences = chunks_named(name)
    wanted = NotFound(f"{name} is no segment of a playlist; take names from a fresh one")
    if not sequences:
        raise wanted
    parts, lasts_us = [], 0
    for sequence in sequences:
        row = snapshot.chunk(stream_id, sequence)
        if row is None or not row.fragments:
            continue
        end = stop if sequence == sequences[-1] else row.size
        chunk, some = _fragments(snapshot, store, row, offset if sequence == sequences[0] else None, end)
        lasts_us += int(chunk.table.end_us[some[-1]] - chunk.table.wall_us[some[0]])
        parts.append((chunk, some))
        if end > row.size or lasts_us > _CUT_US_MAX:
            raise wanted
    if not parts or (parts[0][0].row.sequence, parts[-1][0].row.sequence) != (sequences[0], sequences[-1]):
        raise wanted
    return b"".join(_served(snapshot, store, chunk, some) for chunk, some in parts)


def _fragments(
    snapshot: Snapshot, store: ChunkStore, row: ChunkRow, offset: int | None, stop: int
) -> tuple[OpenChunk, range]:
    """The fragments of a chunk that begin in file bytes [offset, stop), the first one at `offset` or the chunk's."""
    chunk = store.open(stream_name(snapshot, row.stream_id), row)
    offsets = chunk.table.offset
    some = range(int(np.searchsorted(offsets, offset or 0)), int(np.searchsorted(offsets, stop)))
    if not some or offset not in (None, int(offsets[some.start])):
        raise NotFound(f"chunk {row.sequence} has no fragment at {offset}; take names from a fresh playlist")
    return chunk, some


def _served(snapshot: Snapshot, store: ChunkStore, chunk: OpenChunk, fragments: range) -> bytes:
    config = chunk.config(snapshot)
    served, before = FragmentServer(config), _before(snapshot, store, chunk)
    return _checked(store, chunk.row, fragments, lambda i: served.fragment(chunk, i, before))


def _before(snapshot: Snapshot, store: ChunkStore, chunk: OpenChunk) -> OpenChunk | None:
    """The chunk that this one goes on from, when its sound is needed and both are of one run."""
    row, config = chunk.row, chunk.config(snapshot)
    earlier = snapshot.chunk(row.stream_id, row.sequence - 1) if derived_tracks(config) else None
    if earlier is None or (earlier.run, earlier.epoch) != (row.run, row.epoch) or not earlier.sealed:
        return None
    try:
        return store.open(stream_name(snapshot, row.stream_id), earlier)
    except KeyreelError:  # its own segments will say what is wrong with it
        return None


def derived_lines(snapshot: Snapshot, rows: list[ChunkRow]) -> list[str]:
    """A comment where sound is not the recorded one."""
    epochs = dict.fromkeys((row.stream_id, row.epoch) for row in rows)
    configs = [snapshot.config(*epoch) for epoch in epochs]
    codecs = dict.fromkeys(config.audio.codec for config in configs if config.audio and derived_tracks(config))
    return [f"# derived: audio, AAC made from {codec}; clip.mp4 has the original" for codec in codecs]


def chunk_row(snapshot: Snapshot, stream_id: int, sequence: int) -> ChunkRow:
    """The chunk that a file's name tells; `NotFound` when it is no more."""
    row = snapshot.chunk(stream_id, sequence) if sequence <= _SEQUENCE_MAX else None
    if row is None:
        raise NotFound(f"there is no chunk {sequence}; it may have expired, take names from a fresh playlist")
    return row


def stream_name(snapshot: Snapshot, stream_id: int) -> str:
    """The name of a stream."""
    stream = snapshot.stream_by_id(stream_id)
    if stream is None:
        raise NotFound(f"there is no stream {stream_id}; see the list of streams")
    return stream.name


def _lasting(walls: Int64s, row: ChunkRow) -> Int64s:
    """Until when each key frame is shown: to the next one of its chunk."""
    return np.append(walls[1:], row.end_us) if len(walls) else walls


def nothing_finished(name: str, start_us: int, end_us: int) -> NotFound:
    """What to say of a range without a segment."""
    return NotFound(
        f"{name} has no finished segment from {format_time(start_us)} to {format_time(end_us)}; its timeline says what "
        "there is",
        reason="no-footage",
    )


def _checked(store: ChunkStore, row: ChunkRow, fragments: range, read: Callable[[int], bytes]) -> bytes:
    """The fragments' bytes; a damaged one is remembered, and refused without a read the next time."""
    bad = set(store.damaged(row)).intersection(fragments)
    if bad:
        where = f"fragment {min(bad)} of chunk {row.sequence}"
        raise DamageError(f"{where} is damaged; fresh playlists tell this segment as a gap")
    parts = []
    for i in fragments:
        try:
            parts.append(read(i))
        except DamageError as error:
            store.note_damage(row, i, error)
            raise
    return b"".join(parts)


class KeyFile:
    """All key frames of one chunk as one file of single-picture fragments, read by byte range.

    It only ever grows with its chunk: what lies before its end never changes.
    """

    def __init__(self, store: ChunkStore, chunk: OpenChunk) -> None:
        self._store = store
        self._chunk = chunk
        self.final = chunk.row.sealed
        self._fragments = np.flatnonzero(chunk.table.key)
        sizes = chunk.table.video_size[chunk.table.video_first[self._fragments]].astype(np.int64)
        self._bounds = np.concatenate(([0], np.cumsum(sizes + KEY_FRAGMENT_HEAD)))
        self.size = int(self._bounds[-1])
        self.etag = f'"keys-{chunk.file.head.opening.hex()}-{self.size}"'

    @property
    def nbytes(self) -> int:
        """Memory this object holds, less the shared table."""
        return self._fragments.nbytes + self._bounds.nbytes

    def read(self, start: int, end: int) -> Iterator[bytes]:
        """Bytes [start, end) of the file, each key frame's fragment checked before."""
        start, end = max(0, start), min(end, self.size)
        i = int(np.searchsorted(self._bounds, start, "right")) - 1
        while start < end:
            begin, stop = int(self._bounds[i]), min(int(self._bounds[i + 1]), end)
            try:
                data = key_fragment(self._chunk, int(self._fragments[i]))
            except DamageError as error:
                self._store.note_damage(self._chunk.row, int(self._fragments[i]), error)
                raise
            yield data[start - begin : stop - begin]
            start, i = stop, i + 1


def key_file(snapshot: Snapshot, store: ChunkStore, stream_id: int, sequence: int) -> KeyFile:
    """The key frames of one chunk as a file."""
    row = chunk_row(snapshot, stream_id, sequence)
    return KeyFile(store, store.open(stream_name(snapshot, stream_id), row))
