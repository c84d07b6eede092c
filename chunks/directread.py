"""Reads a file past the page cache: what comes is what the disk holds, and nothing that is needed is pushed out.

Kept true: a range that the disk cannot give raises OSError and nothing else is lost; where O_DIRECT is not to be had,
pages are given back as they are read. What `read` gives is valid until the next call.
"""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path
from types import TracebackType
from typing import Final

from chunks.filesystem import drop_cached

ALIGN: Final = 4096
BUFFER_BYTES: Final = 4 << 20
_DIRECT: Final = getattr(os, "O_DIRECT", 0)


class DirectReader:
    """One file, open for reading."""

    def __init__(self, path: Path) -> None:
        self._buffer = mmap.mmap(-1, ALIGN)
        self._direct = bool(_DIRECT)
        flags = os.O_RDONLY | os.O_CLOEXEC
        try:
            self._handle = os.open(path, flags | _DIRECT)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self._direct = False
            self._handle = os.open(path, flags)

    def __enter__(self) -> DirectReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. Idempotent."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)

    def read(self, offset: int, length: int) -> memoryview:
        """Bytes [offset, offset + length), fewer where the file ends."""
        start = offset // ALIGN * ALIGN
        wanted = -(-(offset + length - start) // ALIGN) * ALIGN
        if wanted > len(self._buffer):
            self._buffer = mmap.mmap(-1, max(wanted, BUFFER_BYTES if wanted > BUFFER_BYTES // 4 else 0))
        got = self._fill(start, wanted)
        return memoryview(self._buffer)[offset - start : max(offset - start, min(got, offset - start + length))]

    def _fill(self, start: int, wanted: int) -> int:
        got = 0
        view = memoryview(self._buffer)
        while got < wanted:
            try:
                count = os.preadv(self._handle, [view[got:wanted]], start + got)
            except OSError as error:
                if not (self._direct and error.errno == errno.EINVAL):
                    raise
                self._go_buffered()
                continue
            got += count
            if count == 0 or count % ALIGN:
                break
        if not self._direct:
            drop_cached(self._handle, start, wanted)
        return got

    def _go_buffered(self) -> None:
        """This file system opens with O_DIRECT and refuses to read so."""
        handle = os.open(f"/proc/self/fd/{self._handle}", os.O_RDONLY | os.O_CLOEXEC)
        self.close()
        self._direct, self._handle = False, handle


def read_past(handle: int, size: int, offset: int) -> bytes:
    """Bytes of an open file, past the page cache: which fails in units of up to megabytes."""
    with DirectReader(Path(f"/proc/self/fd/{handle}")) as reader:
        return bytes(reader.read(offset, size))


def read_around(handle: int, size: int, offset: int) -> bytes:
    """The same with zeros for pages that the disk cannot give."""
    end = min(offset + size, os.fstat(handle).st_size)
    parts = []
    with DirectReader(Path(f"/proc/self/fd/{handle}")) as reader:
        while offset < end:
            count = min(ALIGN - offset % ALIGN, end - offset)
            try:
                parts.append(bytes(reader.read(offset, count)))
            except OSError:
                parts.append(bytes(count))
            offset += count
    return b"".join(parts)
