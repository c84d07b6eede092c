"""Stored time over a restart of the recorder, in one small file of the run folder.

Kept true: what is read was written since the machine started, so the monotonic clock is the same; the file is replaced
whole, and without it a start goes on where the newest footage ends.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

import msgspec

FILE_NAME: Final = "stored-clock.json"
WRITE_OVER_US: Final = 1_000  # a smaller change is not written
BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
MOVED: Final = Path("/proc/self/timens_offsets")


class _Carried(msgspec.Struct):
    boot: str
    offset_us: int


class CarriedOffset:
    """Stored minus monotonic time, as the last process of this boot had it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME
        self._boot = _boot()
        self._written_us: int | None = None

    def read(self) -> int | None:
        """None when no process of this boot wrote one."""
        with contextlib.suppress(OSError, msgspec.DecodeError, msgspec.ValidationError):
            found = msgspec.json.decode(self._path.read_bytes(), type=_Carried)
            return found.offset_us if self._boot and found.boot == self._boot else None
        return None

    def write(self, offset_us: int) -> None:
        """Remember it, if it changed; not synced, as it is worth nothing after a power cut."""
        if self._written_us is not None and abs(offset_us - self._written_us) < WRITE_OVER_US:
            return
        fresh = self._path.with_suffix(f".{os.getpid()}")
        fresh.write_bytes(msgspec.json.encode(_Carried(self._boot, offset_us)))
        os.replace(fresh, self._path)
        self._written_us = offset_us


def _boot() -> str:
    """Which monotonic clock this is: of which boot, and moved by which time namespace. Empty when unknown."""
    try:
        return " ".join([BOOT_ID.read_text().strip(), *(MOVED.read_text().split() if MOVED.exists() else [])])
    except OSError:
        return ""
