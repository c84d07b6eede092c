"""Who writes a stream: one byte of `DATA/run/streams.lock` per stream, locked in the kernel.

Kept true: at most one process writes chunks of a stream; a claim ends with the process that made it, however that ends
(open file description locks, fcntl(2)). Nothing is ever written into the file.
"""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path
from typing import Final

_FLOCK: Final = struct.Struct("@hhqqi4x")  # struct flock of a 64-bit Linux: type, whence, start, length, pid


class StreamClaims:
    """The claims of this process; kept until `close`."""

    def __init__(self, run_path: Path) -> None:
        run_path.mkdir(parents=True, exist_ok=True)
        self._handle = os.open(run_path / "streams.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def take(self, stream_id: int) -> bool:
        """Claim a stream; False when another process has it. Taking twice is taking once."""
        try:
            fcntl.fcntl(self._handle, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, stream_id, 1, 0))
        except (BlockingIOError, PermissionError):
            return False
        return True

    def close(self) -> None:
        """Give all claims back. Idempotent."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)
