"""Where a chunk file's footage ends, from its head and its last bytes: what a stream needs to go on after it.

Kept true: the answer costs a few reads whatever the chunk's size; it is never earlier than the end of what counts in
the file, and at most the last fragment later, as checksums are not computed here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from base.errors import DamageError
from base.media import StreamConfig
from chunks.format import UUID_BOX, unpack_seal
from chunks.reader import read_footer, read_header
from chunks.records import ChunkHead
from chunks.walk import names, pread
from native.moof import SEAL_SIZE, SEAL_UUID

_WINDOW_BYTES: Final = 1 << 20
_SEARCH_BYTES_MAX: Final = 64 << 20  # more than one torn fragment and what was preallocated behind it


@dataclass(frozen=True, slots=True)
class Tail:
    """The chunk, and where it ends; `sealed` says that nothing is to be put right in it."""

    head: ChunkHead
    config: StreamConfig
    end_us: int
    sealed: bool


def read_tail(path: Path) -> Tail:
    """The tail of a chunk file; `DamageError` when its head cannot be read."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        header = read_header(handle, path)
        size = os.fstat(handle).st_size
        try:
            table = read_footer(handle, header.head, size)
        except DamageError:
            table = None
        if table is not None:
            return Tail(header.head, header.config, table.end_us, True)
        end_us = _last_end(handle, header.head, header.size, size)
        return Tail(header.head, header.config, max(end_us, header.head.start_us), False)
    finally:
        os.close(handle)


def _last_end(handle: int, head: ChunkHead, start: int, size: int) -> int:
    """End of the last fragment whose seal is whole; 0 when there is none."""
    end = size
    while end > start and size - end < _SEARCH_BYTES_MAX:
        at = max(start, end - _WINDOW_BYTES)
        data = pread(handle, min(size, end + SEAL_SIZE) - at, at)  # a seal may lie across the border
        found = data.rfind(SEAL_UUID)
        while found >= 0:
            box = at + found - (UUID_BOX.size - len(SEAL_UUID))
            seal = unpack_seal(pread(handle, SEAL_SIZE, box))
            if seal is not None and names(seal, head) and seal.offset + seal.length == box + SEAL_SIZE:
                return seal.end_us
            found = data.rfind(SEAL_UUID, 0, found)
        end = at
    return 0
