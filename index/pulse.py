"""Does the index's disk answer? Asked by one read past the page cache, which waits without holding up other threads.

Kept true: it returns when the disk answered, well or with an error, and never earlier.

LMDB notes each reader in `lock.mdb`, a file mapped to memory. When the kernel has just written that page out, the next
note is a write to the file system, which a hung disk keeps waiting; py-lmdb begins read transactions with the
interpreter locked, so that wait would stop every thread of the process (seen on ext4, after half a minute of a hang).
So whoever must not be stopped asks first.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import random
import time
from pathlib import Path
from typing import Final

BLOCK_BYTES: Final = 4096
FRESH_S: Final = 0.02  # an answer counts for so long

_DIRECT: Final = getattr(os, "O_DIRECT", 0)


class Pulse:
    """Of the disk below one file. Asked from any thread."""

    def __init__(self, path: Path) -> None:
        self._buffer = mmap.mmap(-1, BLOCK_BYTES)  # aligned as O_DIRECT wants it; what is in it is of no interest
        self._answered_s = 0.0
        self._handle = -1
        with contextlib.suppress(OSError):  # in memory, where nothing hangs
            self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | _DIRECT)

    def wait(self) -> None:
        """Back when the disk has answered."""
        if self._handle < 0 or time.monotonic() - self._answered_s < FRESH_S:
            return
        with contextlib.suppress(OSError):
            blocks = os.fstat(self._handle).st_size // BLOCK_BYTES
            os.preadv(self._handle, [self._buffer], random.randrange(max(blocks, 1)) * BLOCK_BYTES)
        self._answered_s = time.monotonic()
