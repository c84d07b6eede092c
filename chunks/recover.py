"""What an earlier process left: records of a chunk file from the file alone, and the sealing of a torn one.

Kept true: a sealed chunk is never written to; what a torn tail holds is kept in `<name>.torn-<offset>` beside the
chunk before it is cut off, and synced first; doing it again changes nothing, and keeps the first copy. What is read is
what the disk holds, not what a failed write left in memory. Below `from_offset`, which the index knows to be durable,
damage does not end the chunk; from there on the first fragment that fails its CRC does. What was written again
elsewhere lies beyond the `Bounds` and is cut like a torn tail, so no moment is stored twice.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from base.errors import DamageError
from chunks.filesystem import drop_cached
from chunks.format import Table, TableBuilder, seed_of, stored_record, unpack_seal
from chunks.frametable import FrameTable
from chunks.reader import read_footer, read_header
from chunks.records import ChunkHead, ChunkOpened, ChunkSealed, FragmentStored, StoredRecord
from chunks.volume import sync_directory
from chunks.walk import Step, pread, sound_steps, walk_fragments
from native.crc import crc32c
from native.moof import SEAL_SIZE

_COPY_BYTES: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class Bounds:
    """How far a chunk is this stream's: bytes that were told (None: all), and where the stream's next chunk begins."""

    size: int | None = None
    until_us: int | None = None

    def hold(self, record: FragmentStored) -> bool:
        """The fragment lies within."""
        fits = self.size is None or record.offset + record.length <= self.size
        return fits and (self.until_us is None or record.start_us < self.until_us)


UNBOUNDED: Final = Bounds()


@dataclass(frozen=True, slots=True)
class Recovered:
    """What is in the chunk now; `cut_bytes` went to `side_path`."""

    records: list[StoredRecord]
    cut_bytes: int = 0
    side_path: Path | None = None


def scan(path: Path) -> list[StoredRecord]:
    """The records of a chunk, read-only: by its frame table when sealed, else by a walk of its fragments."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        header = read_header(handle, path)
        size = os.fstat(handle).st_size
        opened = ChunkOpened(header.head, header.config, header.size)
        try:
            table = read_footer(handle, header.head, size)
        except DamageError:
            table = None
        if table is not None:
            return _sealed_records(opened, table, size)
        steps = walk_fragments(handle, header.head, header.size, size)
        return [opened, *(stored_record(step.seal) for step in steps)]
    finally:
        os.close(handle)


def peek(path: Path, from_offset: int, bounds: Bounds = UNBOUNDED, durable: int = 0) -> list[StoredRecord]:
    """What a torn chunk holds from `from_offset` on, each fragment checked; writes nothing, reads little.

    `recover` comes to the same later, and seals. The caller makes durable what it tells of; what lies before `durable`
    is known to be, and is not read for its checksum.
    """
    handle = _open(path, os.O_RDONLY, from_offset)
    try:
        header = read_header(handle, path)
        opened = ChunkOpened(header.head, header.config, header.size)
        size = os.fstat(handle).st_size
        whole = _whole(handle, opened, size, bounds)
        if whole is not None:
            return whole
        start = max(header.size, min(from_offset, size))
        steps = _sound_steps(handle, header.head, start, size, max(from_offset, durable), bounds)
        return [opened, *(stored_record(step.seal) for step in steps)]
    finally:
        os.close(handle)


def set_aside(path: Path) -> Path:
    """Keep a file of which nothing was ever told under a name that is no chunk's."""
    aside = path.with_name(f"{path.name}.torn-0")
    path.rename(aside)
    sync_directory(path.parent)
    return aside


def recover(path: Path, from_offset: int = 0, bounds: Bounds = UNBOUNDED) -> Recovered:
    """Cut the torn tail and seal what an earlier process left open; records of the whole chunk."""
    handle = _open(path, os.O_RDWR, from_offset)
    try:
        header = read_header(handle, path)
        opened = ChunkOpened(header.head, header.config, header.size)
        size = os.fstat(handle).st_size
        whole = _whole(handle, opened, size, bounds)
        if whole is not None:
            return Recovered(whole)
        steps = _sound_steps(handle, header.head, header.size, size, from_offset, bounds)
        end = max(steps[-1].seal.offset + steps[-1].seal.length if steps else header.size, min(from_offset, size))
        side_path = _keep_tail(handle, path, end, size)
        return Recovered(_seal(handle, opened, steps, end), size - end, side_path)
    finally:
        os.close(handle)


def _open(path: Path, mode: int, from_offset: int) -> int:
    """Open, and forget what is cached beyond `from_offset`: pages whose write failed stay there as if it had not."""
    handle = os.open(path, mode | os.O_CLOEXEC)
    drop_cached(handle, from_offset, 0)
    return handle


def _whole(handle: int, opened: ChunkOpened, size: int, bounds: Bounds) -> list[StoredRecord] | None:
    """Records of a sealed chunk; None when it is not sealed, or reaches beyond the bounds: that seal was never told."""
    try:
        table = read_footer(handle, opened.head, size)
    except DamageError:
        return None
    if table is None:
        return None
    records = _sealed_records(opened, table, size)
    held = all(bounds.hold(record) for record in records if isinstance(record, FragmentStored))
    return records if held else None


def _sealed_records(opened: ChunkOpened, table: Table, size: int) -> list[StoredRecord]:
    columns = FrameTable.from_records(table.records)
    records: list[StoredRecord] = [opened]
    at = 0
    for head_length in columns.head_length.tolist():
        seal = unpack_seal(table.records, at + head_length)
        assert seal is not None
        records.append(stored_record(seal))
        at += head_length + SEAL_SIZE
    head = opened.head
    return [*records, ChunkSealed(head.stream_id, head.sequence, table.end_us, size, table.offset)]


def _sound_steps(handle: int, head: ChunkHead, start: int, size: int, trusted: int, bounds: Bounds) -> list[Step]:
    """Fragments the file holds; those the index does not know have their CRC checked, the first bad one ends them."""
    seed = seed_of(head)
    steps: list[Step] = []
    for step in walk_fragments(handle, head, start, size, trusted):
        seal = step.seal
        if seal.offset >= trusted:
            if not bounds.hold(stored_record(seal)):
                break
            data = pread(handle, seal.length, seal.offset)
            if len(data) != seal.length or crc32c(memoryview(data)[:-4], seed) != seal.crc:
                break
        steps.append(step)
    return sound_steps(steps)


def _keep_tail(handle: int, path: Path, end: int, size: int) -> Path | None:
    """Copy [end, size) beside the chunk and make the copy durable."""
    if end >= size:
        return None
    side_path = path.with_name(f"{path.name}.torn-{end}")
    if side_path.exists():  # it is whole: the tail was cut before, and what is here now is our own end, torn
        return side_path
    fresh = side_path.with_name(f"{side_path.name}.new")
    with fresh.open("wb") as side:
        at = end
        while at < size:
            data = pread(handle, min(_COPY_BYTES, size - at), at)
            if not data:
                break
            side.write(data)
            at += len(data)
        side.flush()
        os.fsync(side.fileno())
    fresh.rename(side_path)
    sync_directory(path.parent)
    return side_path


def _seal(handle: int, opened: ChunkOpened, steps: list[Step], end: int) -> list[StoredRecord]:
    """Cut at end, write table and mfra, sync."""
    head = opened.head
    builder = TableBuilder()
    for step in steps:
        builder.add(step.record, step.seal.offset, key=bool(step.seal.flags & 1))
    end_us = steps[-1].seal.end_us if steps else head.start_us
    footer = builder.footer(head, end, end_us)
    os.ftruncate(handle, end)
    written = 0
    while written < len(footer):
        written += os.pwrite(handle, footer[written:], end + written)
    os.fsync(handle)
    sealed = ChunkSealed(head.stream_id, head.sequence, end_us, end + len(footer), end)
    return [opened, *(stored_record(step.seal) for step in steps), sealed]
