"""How this process's allocator treats the buffers that media passes through.

Kept true: a buffer of a fragment's size is taken from memory freed before, not mapped anew; what is kept for that is
bounded. Mapping and clearing fresh pages for each fragment took as much processor time as reading and sending them.
"""

from __future__ import annotations

import ctypes
from typing import Final

_TRIM_THRESHOLD: Final = -1  # numbers of mallopt(3)
_MMAP_THRESHOLD: Final = -3
_ARENA_MAX: Final = -8
_MAPPED_BYTES_MIN: Final = 16 << 20
_KEPT_BYTES_MAX: Final = 64 << 20  # per arena
_ARENAS_MAX: Final = 2


def keep_buffers() -> bool:
    """Let glibc keep freed buffers for the next ones; False on other C libraries, where nothing changes."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    wanted = {_MMAP_THRESHOLD: _MAPPED_BYTES_MIN, _TRIM_THRESHOLD: _KEPT_BYTES_MAX, _ARENA_MAX: _ARENAS_MAX}
    return all(mallopt(what, value) for what, value in wanted.items())
