"""Is the index right: its rows among themselves, and against the chunk files.

Kept true: nothing is changed; no snapshot is held while chunk files are read; a finding says where and what. What the
recorder is doing at this moment is no finding: files may be ahead of the index by the last minute.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from base.errors import DamageError, KeyreelError
from chunks.path import chunk_path
from chunks.records import ChunkSealed, FragmentStored
from chunks.recover import scan
from chunks.volume import Volume
from index import schema
from index.environment import Index
from index.expire import count_all, garbage
from index.rebuild import Finding, chunk_files
from index.rows import ChunkRow, StreamRow
from index.schema import SEQUENCE_KEY, START, STREAM_KEY, TIME_KEY, TIME_MAX_US
from index.snapshot import Snapshot

RECENT_S: Final = 60.0  # a file changed since may not be in the index yet

__all__ = ["Finding", "check"]


def check(index: Index, volumes: Iterable[Volume], deep: bool = False) -> list[Finding]:
    """Every broken invariant; `deep` also reads each chunk's own table and every page of the index file."""
    if deep:
        with index.read():  # as long as it lasts, no page that is live now is written again
            damaged = list(_check_pages(index.path))
        if damaged:
            return damaged  # nothing that its rows say can be trusted
    by_id = {volume.id: volume for volume in volumes}
    try:
        with index.read() as snapshot:
            streams = snapshot.streams()
            findings = list(_check_names(snapshot, streams))
    except (KeyreelError, ValueError) as error:
        return [Finding(str(index.path), str(error))]
    expected: set[Path] = set()
    for stream in streams:
        try:
            with index.read() as snapshot:
                rows = _rows(snapshot, stream.id)
                findings += _check_rows(snapshot, stream, rows)
                condemned = [one.chunk for one in garbage(snapshot, stream.id)]
        except (KeyreelError, ValueError) as error:
            findings.append(Finding(f"stream {stream.name}", str(error)))
            continue
        for row in rows:
            findings += _check_chunk(index, stream, row, by_id, expected, deep)
        for row in condemned:
            if row.volume in by_id:
                expected.add(chunk_path(by_id[row.volume].root, stream.name, row.start_us, row.sequence))
    findings += _check_usage(index)
    findings += _check_unknown(by_id, expected)
    return findings


def _check_chunk(
    index: Index, stream: StreamRow, row: ChunkRow, volumes: Mapping[bytes, Volume], expected: set[Path], deep: bool
) -> Iterator[Finding]:
    volume = volumes.get(row.volume)
    if volume is None:
        yield _at(stream, row, f"lies on volume {row.volume.hex()}, which is not there")
        return
    path = chunk_path(volume.root, stream.name, row.start_us, row.sequence)
    expected.add(path)
    yield from _check_file(row, path)
    if deep:
        yield from _check_deep(index, row, path)


def _at(stream: StreamRow, row: ChunkRow, what: str) -> Finding:
    return Finding(f"stream {stream.name}, chunk {row.sequence}", what)


def _rows(snapshot: Snapshot, stream_id: int) -> list[ChunkRow]:
    rows = snapshot._time_rows(snapshot._db.chunks, stream_id, 0, TIME_MAX_US)
    return [snapshot._chunk_row(*row) for row in rows]


def _check_usage(index: Index) -> Iterator[Finding]:
    """What is counted is what the rows add up to."""
    with index.read() as snapshot:
        with snapshot._txn.cursor(snapshot._db.usage) as cursor:
            counted = {key: value for key, value in cursor.iternext() if any(value)}
        if counted != count_all(snapshot):
            yield Finding("usage", "is not what the chunks add up to; run keyreel rebuild")


def _check_names(snapshot: Snapshot, streams: list[StreamRow]) -> Iterator[Finding]:
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


def _check_rows(snapshot: Snapshot, stream: StreamRow, rows: list[ChunkRow]) -> Iterator[Finding]:
    """Chunks ascend and do not overlap; every row has the others it needs."""
    last: ChunkRow | None = None
    for row in rows:
        if last is not None and row.sequence <= last.sequence:
            yield _at(stream, row, f"comes after chunk {last.sequence} in time")
        if last is not None and row.start_us < last.end_us:
            yield _at(stream, row, f"begins {last.end_us - row.start_us} µs before chunk {last.sequence} ends")
        start = snapshot._txn.get(SEQUENCE_KEY.pack(stream.id, row.sequence), db=snapshot._db.sequences)
        if start != START.pack(row.start_us):
            yield _at(stream, row, "is not found by its sequence number")
        try:
            snapshot.config(stream.id, row.epoch)
        except KeyreelError as error:
            yield _at(stream, row, str(error))
        last = row
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
            yield _at(stream, row, f"{max(int(outside.sum()), 1)} key frames are not where a key frame can be")


def _check_gaps(snapshot: Snapshot, stream: StreamRow) -> Iterator[Finding]:
    last_us = 0
    for key, value in snapshot._time_rows(snapshot._db.gaps, stream.id, 0, TIME_MAX_US):
        start_us, end_us = TIME_KEY.unpack(key)[1], schema.GAP.unpack(value)[0]
        if not last_us <= start_us < end_us:
            yield Finding(f"stream {stream.name}, gap at {start_us}", "is empty or overlaps the gap before it")
        last_us = end_us


def _check_file(row: ChunkRow, path: Path) -> Iterator[Finding]:
    try:
        size = path.stat().st_size
    except OSError as error:
        yield Finding(str(path), f"the chunk's file cannot be reached: {error.strerror}")
        return
    if size < row.size:
        yield Finding(str(path), f"has {size} bytes, {row.size} of them are on record")
    elif row.sealed and size > row.size:
        yield Finding(str(path), f"has {size} bytes, but was sealed with {row.size}")


def _check_deep(index: Index, row: ChunkRow, path: Path) -> Iterator[Finding]:
    """What the file itself says, up to what the index knows of it."""
    try:
        records = scan(path)
    except (KeyreelError, OSError) as error:
        yield Finding(str(path), str(error))
        return
    stored = [
        record for record in records if isinstance(record, FragmentStored) and record.offset + record.length <= row.size
    ]
    if row.sealed and not isinstance(records[-1], ChunkSealed):
        yield Finding(str(path), "was sealed, but its frame table cannot be read")
    counts = (len(stored), sum(record.samples for record in stored), sum(record.media_bytes for record in stored))
    if counts != (row.fragments, row.samples, row.media_bytes):
        yield Finding(
            str(path),
            "holds {} fragments, {} samples, {} media bytes; ".format(*counts)
            + f"the index knows {row.fragments}, {row.samples}, {row.media_bytes}",
        )
    with index.read() as snapshot:
        try:
            frames = snapshot.key_frames(row.stream_id, row.start_us, max(row.end_us, row.start_us + 1))
        except DamageError as error:
            yield Finding(str(path), str(error))
            return
    known = set(frames[frames["sequence"] == row.sequence][["time_us", "offset"]].tolist())
    held = {(record.start_us, record.offset) for record in stored if record.key}
    if held - known:
        yield Finding(str(path), f"{len(held - known)} of its key frames are not in the index")
    if {frame for frame in known - held if frame[1] < row.size and row.sealed}:
        yield Finding(str(path), f"the index has {len(known - held)} key frames that the file has not")


def _check_unknown(volumes: Mapping[bytes, Volume], expected: set[Path]) -> Iterator[Finding]:
    """Chunk files that the index does not know; one that is being written may not be in it yet."""
    now = time.time()
    for volume in volumes.values():
        for files in chunk_files(volume).values():
            for file in files:
                if file.path not in expected and now - file.path.stat().st_mtime > RECENT_S:
                    yield Finding(str(file.path), "is not in the index; keyreel rebuild takes it in")


def _check_pages(index_path: Path) -> Iterator[Finding]:
    """Walk the pages of the index file, in another process: this one must not open the file a second time."""
    done = subprocess.run(
        [sys.executable, "-m", "lmdb", "verify", str(index_path)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = (done.stdout + done.stderr).strip().splitlines() or ["no message"]
        yield Finding(str(index_path / "data.mdb"), f"pages are damaged: {lines[-1]}; run keyreel rebuild")
