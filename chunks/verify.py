"""Is a chunk file what was written: its head, every fragment's checksum and identity, its frame table and mfra.

Kept true: nothing is written; media are read past the page cache; each damaged fragment is told with the wall time it
covers, and costs no other one; a range that the disk cannot give is damage like any other. The caller is asked before
each read, so it sets the pace and may end it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from base.errors import DamageError
from base.media import StreamConfig
from chunks.directread import ALIGN, BUFFER_BYTES, DirectReader
from chunks.filesystem import drop_cached
from chunks.format import PRFT_TIME, Header, Table, pack_mfra, seed_of, unpack_seal
from chunks.frametable import FrameTable
from chunks.reader import read_footer, read_header
from chunks.records import ChunkHead
from chunks.walk import names, pread, sound_steps, walk_fragments
from native.crc import crc32c
from native.moof import SEAL_SIZE

END_BYTES: Final = 1 << 20  # more than frame table and mfra of an hour
Pace = Callable[[int], object]  # told how many bytes are about to be read
FINDINGS_MAX: Final = 20


@dataclass(frozen=True, slots=True)
class Damaged:
    """A fragment that is not what was written; `number` 0 when it is not known which, or the whole chunk."""

    number: int
    offset: int
    length: int
    start_us: int
    end_us: int
    what: str


@dataclass(slots=True)
class Verified:
    """What was read of a chunk, and what is wrong; `findings` cost no media. `end` as `ChunkFile.end`."""

    head: ChunkHead
    config: StreamConfig
    end: tuple[int, int, int] | None = None
    bytes: int = 0
    fragments: int = 0
    damaged: list[Damaged] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    keys: list[tuple[int, int]] = field(default_factory=list)  # (wall time, offset) of each key frame


def verify_chunk(path: Path, upto: int | None = None, pace: Pace = lambda size: None) -> Verified:
    """Read all of a sealed chunk, or `upto` so many bytes of one that grows; `DamageError` when its head is spoilt."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        drop_cached(handle, 0, ALIGN)  # head and end are few pages and are read through memory, which proves nothing
        drop_cached(handle, max(0, os.fstat(handle).st_size - END_BYTES) // ALIGN * ALIGN, 0)
        header = read_header(handle, path)
        found = Verified(header.head, header.config)
        if header.mended:
            found.findings.append("a bit of its head is flipped; it is read as it was written")
        size = os.fstat(handle).st_size
        table = _table(handle, header, size, upto, found)
        media_end = table.end or header.size
        with DirectReader(path) as reader:
            for first, last in _groups(table):
                _check_group(reader, header.head, table, first, last, pace, found)
        _check_order(header, table, found)
        if found.end is not None:
            _check_mfra(handle, table, found.end, media_end, found)
    finally:
        os.close(handle)
    found.fragments = len(table)
    found.keys = list(zip(table.wall_us[table.key].tolist(), table.offset[table.key].tolist(), strict=True))
    del found.findings[FINDINGS_MAX:]
    return found


def _table(handle: int, header: Header, size: int, upto: int | None, found: Verified) -> FrameTable:
    """By the chunk's own table, or by a walk when it has none that is sound."""
    footer: Table | None = None
    try:
        footer = read_footer(handle, header.head, size) if upto is None else None
        if footer is not None:
            table = FrameTable.from_records(footer.records)
            found.end = size, footer.offset, max(footer.end_us, int(table.end_us.max(initial=0)))
            return table
        if upto is None:
            found.findings.append("it has no frame table at its end")
    except DamageError as error:
        found.findings.append(str(error))
    limit = size if upto is None else min(size, upto)
    steps = sound_steps(list(walk_fragments(handle, header.head, header.size, limit, limit)))
    return FrameTable.from_records(b"".join([step.record for step in steps]))


def _groups(table: FrameTable) -> Iterator[tuple[int, int]]:
    """Fragments [first, last) that are read at once."""
    first, count = 0, len(table)
    offset, length = table.offset.tolist(), table.length.tolist()
    while first < count:
        last = first + 1
        while last < count and offset[last] + length[last] - offset[first] <= BUFFER_BYTES - 8192:
            last += 1
        yield first, last
        first = last


def _check_group(
    reader: DirectReader, head: ChunkHead, table: FrameTable, first: int, last: int, pace: Pace, found: Verified
) -> None:
    start = int(table.offset[first])
    size = int(table.offset[last - 1] + table.length[last - 1]) - start
    pace(size)
    try:
        data = reader.read(start, size)
    except OSError as error:
        if last - first > 1:  # the others are there
            for i in range(first, last):
                _check_group(reader, head, table, i, i + 1, lambda _: None, found)
        else:
            found.damaged.append(_damaged(table, first, f"the disk cannot give it: {error.strerror}"))
        return
    found.bytes += len(data)
    seed = seed_of(head)
    for i in range(first, last):
        at = int(table.offset[i]) - start
        if not _is_sound(data[at : at + int(table.length[i])], head, seed, table, i):
            found.damaged.append(_damaged(table, i, "it is not what was written"))


def _is_sound(data: memoryview, head: ChunkHead, seed: int, table: FrameTable, i: int) -> bool:
    length = int(table.length[i])
    seal = unpack_seal(bytes(data[-SEAL_SIZE:])) if len(data) == length else None
    return (
        seal is not None
        and names(seal, head)
        and (seal.number, seal.offset, seal.length) == (int(table.number[i]), int(table.offset[i]), length)
        and crc32c(data[:-4], seed) == seal.crc
    )


def _damaged(table: FrameTable, i: int, what: str) -> Damaged:
    return Damaged(
        int(table.number[i]), int(table.offset[i]), int(table.length[i]), int(table.wall_us[i]), int(table.end_us[i]),
        what,
    )  # fmt: skip


def _check_order(header: Header, table: FrameTable, found: Verified) -> None:
    """Fragments follow one another; where a walk passed over some, those are damaged."""
    offset, number = header.size, 1
    end_us = header.head.start_us
    for i in range(len(table)):
        if int(table.offset[i]) != offset:
            length = int(table.offset[i]) - offset
            lost = int(table.number[i]) - number
            what = f"{lost} fragments are not where they were written" if lost > 0 else "bytes belong to no fragment"
            found.damaged.append(Damaged(0, offset, length, end_us, max(int(table.wall_us[i]), end_us), what))
        offset, number = int(table.offset[i] + table.length[i]), int(table.number[i]) + 1
        end_us = int(table.end_us[i])


def _check_mfra(handle: int, table: FrameTable, end: tuple[int, int, int], media_end: int, found: Verified) -> None:
    """Players' own index says what the frame table says."""
    size, table_offset, _ = end
    if table_offset != media_end:
        found.findings.append(f"{table_offset - media_end} bytes before its frame table belong to no fragment")
    tfdt, offset = table.tfdt_90k, table.offset
    first = table.video_first
    keys = [
        (int(tfdt[i]) + int(table.video_cts[first[i]]), int(offset[i]) + PRFT_TIME.stop)
        for i in range(len(table))
        if table.key[i]
    ]
    mfra = pack_mfra(keys)
    if pread(handle, len(mfra), size - len(mfra)) != mfra:
        found.findings.append("its mfra is not what was written; the frame table is, and is what this system uses")
