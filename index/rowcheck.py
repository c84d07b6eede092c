"""Rows of the index among themselves: what no transaction ever leaves behind, and what chunk files can cause.

Kept true: only the index is read, and no snapshot is held for longer than one stream takes. `check_rows` finds what
only damage explains; chunks that overlap, or whose order in time is not that of their numbers, may lie so on the disks,
and are `check_order`'s.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from base.errors import KeyreelError
from index import schema
from index.environment import Index
from index.expire import count_usage
from index.rows import ChunkRow, StreamRow
from index.schema import SEQUENCE_KEY, START, STREAM_KEY, TIME_KEY, TIME_MAX_US, USAGE_KEY
from index.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be: where, and what."""

    where: str
    what: str


def check_rows(index: Index) -> Iterator[Finding]:
    """Every row of the index."""
    with index.read() as snapshot:
        streams = snapshot.streams()
        findings = list(check_names(snapshot, streams))
    yield from findings
    for stream in streams:
        with index.read() as snapshot:
            findings = list(check_stream(snapshot, stream, chunk_rows(snapshot, stream.id)))
        yield from findings


def at(stream: StreamRow, row: ChunkRow, what: str) -> Finding:
    """A finding about one chunk's row."""
    return Finding(f"stream {stream.name}, chunk {row.sequence}", what)


def chunk_rows(snapshot: Snapshot, stream_id: int) -> list[ChunkRow]:
    """All chunks of a stream, also those in which nothing is stored yet."""
    rows = snapshot._time_rows(snapshot._db.chunks, stream_id, 0, TIME_MAX_US)
    return [snapshot._chunk_row(*row) for row in rows]


def check_names(snapshot: Snapshot, streams: list[StreamRow]) -> Iterator[Finding]:
    """Streams and their names say the same; rows of no stream do not exist."""
    ids = {STREAM_KEY.pack(row.id) for row in streams}
    with snapshot._txn.cursor(snapshot._db.streams) as cursor:
        by_id = {key: value.decode() for key, value in cursor.iternext()}
    if by_id != {STREAM_KEY.pack(row.id): row.name for row in streams}:
        yield Finding("streams", "ids and names of streams contradict each other")
    for name in ("chunks", "sequences", "key_frames", "open", "gaps", "epochs", "garbage", "usage", "ends"):
        with snapshot._txn.cursor(getattr(snapshot._db, name)) as cursor:
            strays = [key for key in _first_keys(cursor) if key not in ids]
        for key in strays:
            yield Finding(f"database {name}", f"has rows of stream {int.from_bytes(key, 'big')}, which does not exist")
    for camera in snapshot.cameras():
        for missing in set(camera.stream_names()) - {row.name for row in streams}:
            yield Finding(f"camera {camera.id}", f"its stream {missing} does not exist")


def _first_keys(cursor: schema.Cursor[bytes]) -> Iterator[bytes]:
    """Stream part of the keys in a database, each once."""
    found = cursor.first()
    while found:
        key = cursor.key()[:4]
        yield key
        found = key != b"\xff" * 4 and cursor.set_range((int.from_bytes(key, "big") + 1).to_bytes(4, "big"))


def _check_usage(snapshot: Snapshot, stream: StreamRow, rows: list[ChunkRow]) -> Iterator[Finding]:
    """What is counted is what the rows add up to."""
    prefix = STREAM_KEY.pack(stream.id)
    counted: dict[bytes, bytes] = {}
    real: dict[bytes, bytes] = {}
    with snapshot._txn.cursor(snapshot._db.usage) as cursor:
        for key, value in cursor.iternext() if cursor.set_range(prefix) else ():
            if not key.startswith(prefix):
                break
            if any(value):
                counted[key] = value
    for row in rows:
        if row.sealed:
            key = USAGE_KEY.pack(stream.id, row.volume)
            real[key] = count_usage(real.get(key), row, 1)
    if counted != real:
        yield Finding(f"usage of stream {stream.name}", "is not what its chunks add up to; run keyreel rebuild")


def check_order(stream: StreamRow, rows: list[ChunkRow]) -> Iterator[Finding]:
    """Chunks ascend and do not overlap."""
    last: ChunkRow | None = None
    for row in rows:
        if last is not None and row.sequence <= last.sequence:
            yield at(stream, row, f"comes after chunk {last.sequence} in time")
        if last is not None and row.start_us < last.end_us:
            yield at(stream, row, f"begins {last.end_us - row.start_us} µs before chunk {last.sequence} ends")
        last = row


def check_stream(snapshot: Snapshot, stream: StreamRow, rows: list[ChunkRow]) -> Iterator[Finding]:
    """Every row is possible, and has the others it needs."""
    for row in rows:
        start = snapshot._txn.get(SEQUENCE_KEY.pack(stream.id, row.sequence), db=snapshot._db.sequences)
        if start != START.pack(row.start_us):
            yield at(stream, row, "is not found by its sequence number")
        try:
            snapshot.config(stream.id, row.epoch)
        except KeyreelError as error:
            yield at(stream, row, str(error))
        if row.sealed and not row.fragments <= row.samples <= row.media_bytes < row.table_offset < row.size:
            yield at(stream, row, "has counts that no sealed chunk can have")
    sequences = {row.sequence for row in rows}
    with snapshot._txn.cursor(snapshot._db.sequences) as cursor:
        numbers = _numbers(cursor, stream.id)
    for sequence in sorted(numbers - sequences):
        yield Finding(f"stream {stream.name}, chunk {sequence}", "has a sequence number and no row")
    unsealed = {row.sequence for row in rows if not row.sealed}
    for sequence in set(snapshot._open_sequences(stream.id)) - unsealed:
        yield Finding(f"stream {stream.name}, chunk {sequence}", "has the state of an open chunk and is not one")
    yield from _check_key_frames(snapshot, stream, rows)
    yield from _check_gaps(snapshot, stream)
    yield from _check_usage(snapshot, stream, rows)


def _numbers(cursor: schema.Cursor[bytes], stream_id: int) -> set[int]:
    found = set()
    prefix = STREAM_KEY.pack(stream_id)
    if cursor.set_range(SEQUENCE_KEY.pack(stream_id, 0)):
        for key in cursor.iternext(values=False):
            if not key.startswith(prefix):
                break
            found.add(int(SEQUENCE_KEY.unpack(key)[1]))
    return found


def _check_key_frames(snapshot: Snapshot, stream: StreamRow, rows: list[ChunkRow]) -> Iterator[Finding]:
    """Every key frame lies in its chunk, in time and in bytes; a block is among the rows or grows, in one order."""
    frames = snapshot.key_frames(stream.id, 0, TIME_MAX_US)
    if (frames["time_us"][1:] <= frames["time_us"][:-1]).any():
        yield Finding(f"stream {stream.name}", "blocks of key frames overlap in time")
    known = {row.sequence: row for row in rows}
    for sequence in sorted(set(frames["sequence"].tolist())):
        mine = frames[frames["sequence"] == sequence]
        row = known.get(sequence)
        if row is None:
            yield Finding(f"stream {stream.name}, chunk {sequence}", f"has {len(mine)} key frames and no row")
            continue
        end = row.table_offset if row.sealed else row.size
        times, offsets = mine["time_us"], mine["offset"]
        outside = (times < row.start_us) | (times >= row.end_us) | (offsets >= end)
        if outside.any() or (offsets[1:] <= offsets[:-1]).any():
            yield at(stream, row, f"{max(int(outside.sum()), 1)} key frames are not where a key frame can be")


def _check_gaps(snapshot: Snapshot, stream: StreamRow) -> Iterator[Finding]:
    last_us = 0
    for key, value in snapshot._time_rows(snapshot._db.gaps, stream.id, 0, TIME_MAX_US):
        start_us, end_us = TIME_KEY.unpack(key)[1], schema.GAP.unpack(value)[0]
        if not last_us <= start_us < end_us:
            yield Finding(f"stream {stream.name}, gap at {start_us}", "is empty or overlaps the gap before it")
        last_us = end_us
