"""Walking a chunk's fragments by their box headers, without reading the media.

Kept true: a fragment counts only when its seal lies where its boxes say and names this stream, chunk and place; the
walk stops at the first that does not, except below `trusted`, the offset the index knows to be durable: there it
looks for the next seal and goes on behind it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from chunks.directread import read_around
from chunks.format import UUID_BOX, Seal, unpack_seal
from chunks.records import ChunkHead
from native.moof import SEAL_SIZE, SEAL_UUID
from native.table import decode

_FIRST_READ: Final = 2048  # covers the boxes of a second at 25 pictures with audio
_MOOF_BYTES_MAX: Final = 1 << 20
_SEARCH_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Step:
    """One fragment: its seal, and its boxes and seal as the frame table keeps them."""

    seal: Seal
    record: bytes


def read_step(handle: int, head: ChunkHead, offset: int, limit: int) -> Step | None:
    """The fragment at offset, if it ends at or before limit."""
    data = pread(handle, _FIRST_READ, offset)
    if len(data) < 40 or data[:8] != b"\0\0\0\x20prft" or data[36:40] != b"moof":
        return None
    moof = int.from_bytes(data[32:36], "big")
    boxes = 32 + moof + 8
    if moof > _MOOF_BYTES_MAX:
        return None
    if boxes > len(data):
        data = pread(handle, boxes, offset)
    if len(data) < boxes or data[boxes - 4 : boxes] != b"mdat":
        return None
    end = offset + 32 + moof + int.from_bytes(data[boxes - 8 : boxes - 4], "big") + SEAL_SIZE
    if end > limit:
        return None
    sealed = pread(handle, SEAL_SIZE, end - SEAL_SIZE)
    seal = unpack_seal(sealed)
    if seal is None or not names(seal, head) or (seal.offset, seal.length) != (offset, end - offset):
        return None
    return Step(seal, data[:boxes] + sealed)


def pread(handle: int, size: int, offset: int) -> bytes:
    """Bytes of a file, zeros for pages that its disk cannot give: those are damage, what is around them is not."""
    try:
        return os.pread(handle, size, offset)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
    return read_around(handle, size, offset)


def names(seal: Seal, head: ChunkHead) -> bool:
    """The seal belongs to this chunk."""
    return (seal.stream_id, seal.sequence) == (head.stream_id, head.sequence)


def walk_fragments(handle: int, head: ChunkHead, start: int, limit: int, trusted: int = 0) -> Iterator[Step]:
    """Fragments from start on that end at or before limit."""
    offset, number = start, 0
    while offset < limit:
        step = read_step(handle, head, offset, limit)
        if step is None or step.seal.number <= number:
            if offset >= trusted:
                return
            offset = _after_next_seal(handle, head, offset, min(trusted, limit))
            continue
        yield step
        offset += step.seal.length
        number = step.seal.number


def sound_steps(steps: list[Step]) -> list[Step]:
    """Those whose boxes agree with their seal; all of them, unless the disk spoilt some."""
    if _decodes(b"".join(step.record for step in steps)):
        return steps
    return [step for step in steps if _decodes(step.record)]


def _decodes(records: bytes) -> bool:
    try:
        decode(records)
    except ValueError:
        return False
    return True


def _after_next_seal(handle: int, head: ChunkHead, offset: int, trusted: int) -> int:
    """Where the first fragment behind a damaged one begins; `trusted` when no seal tells."""
    at = offset
    while at < trusted:
        data = pread(handle, _SEARCH_BYTES, at)
        found = data.find(SEAL_UUID)
        while found >= 0:
            seal_at = at + found - (UUID_BOX.size - 16)
            seal = unpack_seal(pread(handle, SEAL_SIZE, seal_at))
            if seal and names(seal, head) and seal.offset + seal.length == seal_at + SEAL_SIZE > offset:
                return seal_at + SEAL_SIZE
            found = data.find(SEAL_UUID, found + 1)
        if len(data) < _SEARCH_BYTES:
            break
        at += _SEARCH_BYTES - len(SEAL_UUID)
    return trusted
