"""Is the index right: its rows among themselves, and against the chunk files.

Kept true: nothing is changed; no snapshot is held while chunk files are read; a finding says where and what. What the
recorder is doing at this moment is no finding: files may be ahead of the index by the last minute.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from base.errors import DamageError, KeyreelError
from chunks.path import chunk_path
from chunks.records import ChunkSealed, FragmentStored
from chunks.recover import scan
from chunks.volume import Volume
from index.environment import Index
from index.expire import garbage
from index.files import chunk_files
from index.rowcheck import Finding, at, check_names, check_order, check_stream, check_usage, chunk_rows
from index.rows import ChunkRow, StreamRow
from index.verify import verify

PAGES_WAIT_S: Final = 600.0
RECENT_S: Final = 60.0  # a file changed since may not be in the index yet

__all__ = ["Finding", "check"]


def check(index: Index, volumes: Iterable[Volume], deep: bool = False) -> list[Finding]:
    """Every broken invariant; `deep` also reads each chunk's own table and every page of the index file."""
    if deep:
        with index.read():  # as long as it lasts, no page that is live now is written again
            damaged = verify(index.path, PAGES_WAIT_S).pages
        if damaged:  # nothing that its rows say can be trusted
            where = str(index.path / "data.mdb")
            return [Finding(where, f"pages are damaged: {what}; run keyreel rebuild") for what in damaged]
    by_id = {volume.id: volume for volume in volumes}
    try:
        with index.read() as snapshot:
            streams = snapshot.streams()
            findings = list(check_names(snapshot, streams))
    except (KeyreelError, ValueError) as error:
        return [Finding(str(index.path), str(error))]
    expected: set[Path] = set()
    for stream in streams:
        try:
            with index.read() as snapshot:
                rows = chunk_rows(snapshot, stream.id)
                findings += [*check_order(stream, rows), *check_stream(snapshot, stream, rows)]
                condemned = [one.chunk for one in garbage(snapshot, stream.id)]
        except (KeyreelError, ValueError) as error:
            findings.append(Finding(f"stream {stream.name}", str(error)))
            continue
        for row in rows:
            findings += _check_chunk(index, stream, row, by_id, expected, deep)
        for row in condemned:
            if row.volume in by_id:
                expected.add(chunk_path(by_id[row.volume].root, stream.name, row.start_us, row.sequence))
    with index.read() as snapshot:
        findings += check_usage(snapshot)
    findings += _check_unknown(by_id, expected)
    return findings


def _check_chunk(
    index: Index, stream: StreamRow, row: ChunkRow, volumes: Mapping[bytes, Volume], expected: set[Path], deep: bool
) -> Iterator[Finding]:
    volume = volumes.get(row.volume)
    if volume is None:
        yield at(stream, row, f"lies on volume {row.volume.hex()}, which is not there")
        return
    path = chunk_path(volume.root, stream.name, row.start_us, row.sequence)
    expected.add(path)
    yield from _check_file(row, path)
    if deep:
        yield from _check_deep(index, row, path)


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
