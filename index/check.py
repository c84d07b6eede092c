"""Is the index right: its rows among themselves, and against the chunk files.

Kept true: nothing is changed; no snapshot is held while chunk files are read; a finding says where and what. What the
recorder is doing at this moment is no finding: files may be ahead of the index by the last minute.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from base.errors import KeyreelError
from chunks.path import chunk_path, parse_chunk_path
from chunks.scrubreport import REPORT_NAME
from chunks.summary import summarize
from chunks.verify import Verified, verify_chunk
from chunks.volume import IDENTITY_NAME, Volume
from index.environment import Index
from index.expire import garbage
from index.files import chunk_files
from index.rowcheck import Finding, at, check_names, check_order, check_stream, chunk_rows
from index.rows import ChunkRow, StreamRow
from index.verify import verify_live

PAGES_WAIT_S: Final = 600.0
LEFTOVERS_MAX: Final = 1000
RECENT_S: Final = 60.0  # a file changed since may not be in the index yet

__all__ = ["Finding", "check", "contradiction", "leftovers"]


def check(index: Index, volumes: Iterable[Volume], deep: bool = False) -> list[Finding]:
    """Every broken invariant; `deep` also reads every byte of the chunks and every page of the index."""
    if deep:
        damaged = verify_live(index, PAGES_WAIT_S).pages
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
    """Every byte of the file, up to what the index knows of it, and what both say of the chunk."""
    try:
        found = verify_chunk(path, None if row.sealed else row.size)
        held = summarize(path, None if row.sealed else row.size)
    except (KeyreelError, OSError) as error:
        yield Finding(str(path), str(error))
        return
    for one in found.damaged:
        yield Finding(str(path), f"{one.length} bytes at {one.offset} are damaged: {one.what}")
    for what in found.findings:
        yield Finding(str(path), what)
    try:
        if what := contradiction(index, row, found):
            yield Finding(str(path), f"has {what} than the index says")
    except KeyreelError as error:
        yield Finding(str(path), str(error))
    counts = (held.fragments, held.samples, held.media_bytes)
    if counts != (row.fragments, row.samples, row.media_bytes):
        yield Finding(
            str(path),
            "holds {} fragments, {} samples, {} media bytes; ".format(*counts)
            + f"the index knows {row.fragments}, {row.samples}, {row.media_bytes}",
        )


def contradiction(index: Index, row: ChunkRow, found: Verified) -> str:
    """What a chunk that passed its checks has otherwise than its row; "" when they agree, or the row has changed."""
    head = found.head
    for what in ("stream_id", "sequence", "start_us", "epoch", "run", "origin_90k"):
        if getattr(head, what) != getattr(row, what):
            return f"another {what}"
    if row.sealed and found.end is None:  # its end is spoilt, and proves nothing
        return ""
    if row.sealed and found.end != (row.size, row.table_offset, row.end_us):
        return "another end"
    with index.read() as snapshot:
        if snapshot.chunk(row.stream_id, row.sequence) != row:
            return ""
        if snapshot.config(row.stream_id, row.epoch) != found.config:
            return "another codec configuration"
        frames = snapshot.key_frames(row.stream_id, row.start_us, max(row.end_us, row.start_us + 1))
    known = frames[frames["sequence"] == row.sequence][["time_us", "offset"]].tolist()
    lacking, wrong = set(found.keys) - set(known), set(known) - set(found.keys)
    return f"{len(lacking)} key frames more and {len(wrong)} fewer" if lacking or wrong else ""


def _check_unknown(volumes: Mapping[bytes, Volume], expected: set[Path]) -> Iterator[Finding]:
    """Chunk files that the index does not know; one that is being written may not be in it yet."""
    now = time.time()
    numbers = {(path.parts[-3], parsed.sequence) for path in expected if (parsed := parse_chunk_path(path))}
    for volume in volumes.values():
        for files in chunk_files(volume).values():
            for file in files:
                if file.path in expected or now - file.path.stat().st_mtime < RECENT_S:
                    continue
                if (file.stream, file.sequence) in numbers:
                    yield Finding(str(file.path), "has the number of another chunk file; keep one of them")
                else:
                    yield Finding(str(file.path), "is not in the index; keyreel rebuild takes it in")


def leftovers(index_path: Path, volumes: Iterable[Volume]) -> list[Finding]:
    """What lies about and is no fault: cut tails, indexes that were set aside, and what is not ours on a volume."""
    found = [Finding(str(path), "an index that was set aside") for path in sorted(index_path.parent.glob("index.*"))
             if path.is_dir()]  # fmt: skip
    for volume in volumes:
        for path in sorted(volume.root.rglob("*")):
            depth = len(path.relative_to(volume.root).parts)
            if path.is_dir() or path.name in (IDENTITY_NAME, REPORT_NAME) or (parse_chunk_path(path) and depth == 3):
                continue
            side = ".mp4.torn-" in path.name
            found.append(Finding(str(path), "a torn tail, kept for forensics" if side else "not a file of this system"))
            if len(found) >= LEFTOVERS_MAX:
                return found
    return found
