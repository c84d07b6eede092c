"""What the standard library lacks of the file system: syncfs, and preallocation that keeps a file's size.

Kept true: a call that this machine does not have says so once and is done another way; errors are OSError.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from typing import Final

_FALLOC_FL_KEEP_SIZE: Final = 1
_libc: Final = ctypes.CDLL(None, use_errno=True) if sys.platform.startswith("linux") else None


def _kernel() -> tuple[int, int]:
    parts = platform.release().split(".")
    try:
        return int(parts[0]), int(parts[1])
    except (ValueError, IndexError):
        return 0, 0


# Before Linux 5.8 syncfs does not report write errors (man syncfs), so it proves nothing.
SYNCFS_PROVES: Final = _libc is not None and hasattr(_libc, "syncfs") and _kernel() >= (5, 8)


def syncfs(handle: int) -> None:
    """Everything written to the handle's file system is on stable storage."""
    assert _libc is not None
    if _libc.syncfs(handle) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def preallocate(handle: int, offset: int, size: int) -> bool:
    """Reserve blocks beyond a file's end without growing it; False when the file system cannot or will not."""
    if _libc is None:
        return False
    call = _libc.fallocate
    return bool(call(handle, _FALLOC_FL_KEEP_SIZE, ctypes.c_long(offset), ctypes.c_long(size)) == 0)


def drop_cached(handle: int, offset: int, size: int) -> None:
    """Let the page cache forget synced pages; size 0 means up to the file's end."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(handle, offset, size, os.POSIX_FADV_DONTNEED)


def read_once(handle: int) -> None:
    """Pages of this file that are read need not stay in the page cache; Linux heeds it from 6.3 on."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_NOREUSE)
