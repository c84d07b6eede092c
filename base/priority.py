"""Giving way to others at the disk: Linux's I/O priorities, of the calling thread.

Kept true: where the kernel or the disk's scheduler knows no priorities, nothing happens and nothing is said; they are
a help, and no promise rests on them.
"""

from __future__ import annotations

import ctypes
import platform
import sys
from typing import Final

LAST: Final = 2 << 13 | 7  # linux/ioprio.h: best effort, after all others of that class
IDLE: Final = 3 << 13  # when nobody else wants the disk
_IOPRIO_SET: Final = {"x86_64": 251, "aarch64": 30}  # system call numbers


def give_way_at_disk(priority: int) -> None:
    """Set the calling thread's I/O priority; a thread started by it takes it over."""
    number = _IOPRIO_SET.get(platform.machine())
    if number is not None and sys.platform == "linux":
        ctypes.CDLL(None).syscall(number, 1, 0, priority)
