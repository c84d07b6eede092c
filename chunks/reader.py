"""The read side of one chunk file, sealed or growing.

Kept true: nothing is written; no byte of a fragment is given out before its CRC, its stream, chunk, number and place
were checked; a table handed out never changes. Safe to use from many threads.
"""

from __future__ import annotations

import errno
import os
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from base.errors import DamageError, KeyreelError
from chunks.directread import read_past
from chunks.format import (
    HEADER_BYTES_MAX,
    MFRO_BYTES,
    TABLE_BYTES_MAX,
    TABLE_END,
    Header,
    Table,
    header_size,
    seed_of,
    unpack_header,
    unpack_seal,
    unpack_table,
)
from chunks.frametable import FrameTable
from chunks.records import ChunkHead
from chunks.walk import names, pread, sound_steps, walk_fragments
from native.crc import crc32c
from native.moof import SEAL_SIZE

__all__ = ["ChunkFile", "FrameTable", "head_of", "read_footer", "read_header"]

_FIRST_READ: Final = 4096
_MEND_BYTES_MAX: Final = 8192  # 65,536 bits to try: a third of a second
_FIRST_FRAGMENT: Final = b"\0\0\0\x20prft"
_END_READ: Final = 65536  # table and mfra of ten minutes


def read_header(handle: int, path: Path) -> Header:
    """A chunk file's header; DamageError when it has none: reason `unfinished` when it ends before, else `head`."""
    data = pread(handle, _FIRST_READ, 0)
    try:
        size = header_size(data)
        if size == 0 or size > len(data):
            data = pread(handle, HEADER_BYTES_MAX, 0)
            size = header_size(data)
        if size == 0 or size > len(data):
            raise DamageError("the file ends inside its head", reason="unfinished")
        return unpack_header(data[:size])
    except DamageError as error:
        mended = _mended(pread(handle, _MEND_BYTES_MAX + len(_FIRST_FRAGMENT), 0))
        if mended is not None:
            return replace(unpack_header(mended), mended=True)
        raise DamageError(f"{path}: {error}", reason=error.reason) from None


def _mended(data: bytes) -> bytes | None:
    """The header with the one bit turned back that its CRC can name: a head says for minutes of footage what they are.

    In so few bytes a CRC-32C tells every single flipped bit from every other; of random damage one case in 400,000
    passes for one, and then no fragment's checksum agrees.
    """
    end = data.find(_FIRST_FRAGMENT)
    if end < MFRO_BYTES or end > _MEND_BYTES_MAX:
        return None
    head = bytearray(data[:end])
    for bit in range(len(head) * 8):
        head[bit >> 3] ^= 1 << (bit & 7)
        if crc32c(memoryview(head)[:-4]) == int.from_bytes(head[-4:], "big"):
            return bytes(head) if header_size(bytes(head)) == end else None
        head[bit >> 3] ^= 1 << (bit & 7)
    return None


def head_of(path: Path) -> ChunkHead | None:
    """What a chunk file says it is; None when it cannot be read."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return read_header(handle, path).head
    except (KeyreelError, OSError):
        return None
    finally:
        os.close(handle)


def is_unfinished(path: Path) -> bool:
    """The file ends inside its head: its making was cut short, and nothing of it was ever told."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        read_header(handle, path)
    except DamageError as error:
        return error.reason == "unfinished"
    except (KeyreelError, OSError):
        return False
    finally:
        os.close(handle)
    return False


def read_footer(handle: int, head: ChunkHead, size: int) -> Table | None:
    """The frame table of a sealed chunk; None when the file has no end of its own, DamageError when it is spoilt."""
    start = max(0, size - _END_READ)
    data = pread(handle, size - start, start)
    if len(data) < MFRO_BYTES or data[-MFRO_BYTES + 4 : -MFRO_BYTES + 8] != b"mfro":
        return None
    end = size - int.from_bytes(data[-4:], "big")
    if end - TABLE_END.size < 0:
        raise DamageError("mfro is longer than the file", reason="table")
    offset, _ = TABLE_END.unpack(pread(handle, TABLE_END.size, end - TABLE_END.size))
    if not 0 < offset < end or end - offset > TABLE_BYTES_MAX:
        raise DamageError("the frame table is not where the chunk's end says", reason="table")
    raw = data[offset - start : end - start] if offset >= start else pread(handle, end - offset, offset)
    return unpack_table(raw, offset, head)


class ChunkFile:
    """One open chunk file. `expect` is (stream id, chunk sequence) it must be, as the index says."""

    def __init__(self, path: Path, *, expect: tuple[int, int] | None = None) -> None:
        self.path = path
        self._handle = -1
        self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        header = read_header(self._handle, path)
        self.head: Final = header.head
        self.config: Final = header.config
        self.header_bytes: Final = header.size
        if expect is not None and expect != (self.head.stream_id, self.head.sequence):
            raise DamageError(f"{path} is chunk {self.head.sequence} of stream {self.head.stream_id}, not {expect}")
        self._seed = seed_of(self.head)
        self._lock = threading.Lock()
        self._sealed = False
        self.end: tuple[int, int, int] | None = None  # file size, table offset and wall time of a chunk's sound end
        self._known = FrameTable.from_records(b"")

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)

    def fileno(self) -> int:
        """The descriptor, for reads by offset."""
        return self._handle

    @property
    def sealed(self) -> bool:
        """The chunk has its end and will not change; asked of the file until it says yes."""
        if not self._sealed:
            end = pread(self._handle, MFRO_BYTES, max(0, os.fstat(self._handle).st_size - MFRO_BYTES))
            return end[4:8] == b"mfro"
        return True

    def read_header(self) -> bytes:
        """The file's first bytes, up to its first fragment, checked; DamageError when they changed since."""
        data = pread(self._handle, self.header_bytes, 0)
        with suppress(DamageError):
            if unpack_header(data).head == self.head:
                return data
        mended = _mended(pread(self._handle, _MEND_BYTES_MAX + len(_FIRST_FRAGMENT), 0))
        if mended is None or unpack_header(mended).head != self.head:
            raise DamageError(f"{self.path}: its head is not what it was when it was opened; run `keyreel check`")
        return mended

    def table(self, *, upto: int | None = None) -> FrameTable:
        """All whole fragments, or those that end at or before file offset `upto`, which is known to be durable."""
        with self._lock:
            if not self._sealed and (upto is None or self._known.end < upto):
                self._refresh(upto)
            known = self._known
        if upto is None or known.end <= upto:
            return known
        return known.first(int((known.offset + known.length <= upto).sum()))

    def refresh(self) -> FrameTable:
        """The table as far as the file goes now; continues where the last walk stopped."""
        return self.table()

    def _refresh(self, upto: int | None) -> None:
        size = os.fstat(self._handle).st_size
        if len(self._known) == 0:
            try:
                footer = read_footer(self._handle, self.head, size)
            except DamageError:
                footer = None  # the fragments are still there; walk them
            if footer is not None:
                self._known = FrameTable.from_records(footer.records)
                self._sealed = True
                self.end = size, footer.offset, max(footer.end_us, int(self._known.end_us.max(initial=0)))
                return
        start = self._known.end or self.header_bytes
        limit = size if upto is None else min(size, upto)
        trusted = 0 if upto is None else limit
        if steps := sound_steps(list(walk_fragments(self._handle, self.head, start, limit, trusted))):
            later = FrameTable.from_records(b"".join(step.record for step in steps))
            self._known = self._known.joined(later) if len(self._known) else later

    def _read(self, size: int, offset: int) -> bytes:
        try:
            return os.pread(self._handle, size, offset)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
        return read_past(self._handle, size, offset)

    def read_fragment(self, i: int, table: FrameTable) -> bytes:
        """The i-th fragment of a table of this file, from prft to seal; DamageError when it is not what was written."""
        offset, length = int(table.offset[i]), int(table.length[i])
        try:
            data = self._read(length, offset)
        except OSError as error:
            raise DamageError(
                f"{self.path}: the disk cannot give the fragment at {offset} ({error.strerror}); the range is a gap",
                reason="eio",
            ) from None
        seal = unpack_seal(data, length - SEAL_SIZE) if len(data) == length else None
        if (
            seal is None
            or not names(seal, self.head)
            or (seal.number, seal.offset, seal.length) != (int(table.number[i]), offset, length)
            or crc32c(memoryview(data)[:-4], self._seed) != seal.crc
        ):
            raise DamageError(f"{self.path}: the fragment at {offset} is not what was written; the range is a gap")
        return data
