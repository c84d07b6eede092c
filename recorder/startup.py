"""What a crash left behind, put right before the first camera is called.

Kept true: after `resume()` every whole fragment that any earlier process handed to the kernel is in the index, no
chunk is left open, and for every stream it is known where to go on: sequence, epoch, run, and the end of its past.
Running it twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import structlog

from base.errors import KeyreelError
from base.units import utc
from chunks.path import chunk_path, parse_chunk_path
from chunks.records import GapCause, StoredRecord
from chunks.recover import recover
from index import Index, Snapshot, StreamRow
from recorder.committer import stream_of
from recorder.pipeline import Resume

log = structlog.get_logger("recorder.startup")


def resume(index: Index, volumes: Mapping[bytes, Path]) -> dict[int, Resume]:
    """Recover torn chunks on all volumes, index them, and say per stream where to go on."""
    crashed = _recover_all(index, volumes)
    with index.read() as snapshot:
        return {row.id: resume_of(snapshot, row, row.id in crashed, volumes) for row in snapshot.streams()}


def _recover_all(index: Index, volumes: Mapping[bytes, Path]) -> set[int]:
    """Streams whose last chunk had not been sealed in order."""
    with index.read() as snapshot:
        torn = list(_torn_chunks(snapshot, volumes))
    if not torn:
        return set()
    crashed: set[int] = set()
    with ThreadPoolExecutor(max_workers=min(8, 2 * max(len(volumes), 1)), thread_name_prefix="recover") as pool:
        for records in pool.map(lambda item: _recover_one(*item), torn):
            if records and _index(index, records):
                crashed.update(map(stream_of, records))
    log.info("recovered chunks of an earlier process", chunks=len(torn))
    return crashed


def _index(index: Index, records: list[StoredRecord]) -> bool:
    """Apply one chunk's records; one that contradicts the index is told, left out, and keeps nobody waiting."""
    try:
        with index.write() as transaction:
            transaction.apply(records)
    except KeyreelError as error:
        log.error("a recovered chunk contradicts the index; `keyreel check` tells more", error=str(error))
        return False
    return True


def _torn_chunks(snapshot: Snapshot, volumes: Mapping[bytes, Path]) -> Iterator[tuple[Path, int]]:
    """(file, first byte the index does not know) of each chunk that is open in the index or missing from it."""
    names = {row.id: row.name for row in snapshot.streams()}
    for chunk in snapshot.open_chunks():
        root = volumes.get(chunk.volume)
        if root is not None:
            yield chunk_path(root, names[chunk.stream_id], chunk.start_us, chunk.sequence), chunk.size
    for row in snapshot.streams():
        last = snapshot.last_chunk(row.id)
        known = last.sequence if last is not None else 0
        since = last.start_us if last is not None else 0
        for root in volumes.values():
            for path in newer_chunks(root, row, known, since):
                yield path, 0


def newer_chunks(root: Path, stream: StreamRow, sequence: int, since_us: int) -> Iterator[Path]:
    """Chunk files of a stream on a volume with a sequence above `sequence`, oldest first."""
    folder = root / stream.name
    if not folder.is_dir():
        return
    first_day = utc(since_us).strftime("%Y-%m-%d")
    for day in sorted(path for path in folder.iterdir() if path.name >= first_day):
        for path in sorted(day.glob("*.mp4")):
            parsed = parse_chunk_path(path)
            if parsed is not None and parsed.sequence > sequence:
                yield path


def _recover_one(path: Path, from_offset: int) -> list[StoredRecord]:
    try:
        recovered = recover(path, from_offset)
    except FileNotFoundError:
        log.error("a chunk that the index knows is gone", path=str(path))
        return []
    except Exception:
        log.exception("a chunk could not be recovered; it is left as it is", path=str(path))
        return []
    if recovered.cut_bytes:
        log.warning("torn tail cut into a side file", path=str(path), cut_bytes=recovered.cut_bytes)
    return recovered.records


def resume_of(snapshot: Snapshot, stream: StreamRow, crashed: bool, volumes: Mapping[bytes, Path]) -> Resume:
    """Where a stream goes on. Sequences come from file names too: a file that could not be read keeps its number."""
    last = snapshot.last_chunk(stream.id)
    known, since_us = (last.sequence, last.start_us) if last is not None else (0, 0)
    newer = (
        parse_chunk_path(path) for root in volumes.values() for path in newer_chunks(root, stream, known, since_us)
    )
    next_sequence = max([known, *(name.sequence for name in newer if name is not None)]) + 1
    if last is None:
        return Resume(next_sequence=next_sequence)
    return Resume(
        next_sequence=next_sequence,
        epoch=last.epoch,
        config=snapshot.config(stream.id, last.epoch),
        run=last.run,
        end_us=max(last.end_us, last.start_us + 1),
        gap_cause=GapCause.CRASH if crashed else GapCause.STOPPED,
    )
