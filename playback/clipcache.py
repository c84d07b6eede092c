"""Clips laid out lately, as a player asks for one clip in many ranges.

Kept true: only a clip that can no longer grow is kept, and not for longer than a minute; a clip whose reading failed is
forgotten at once, so the next request plans anew; the kept bytes are bounded.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Hashable
from contextlib import suppress
from typing import Final, NamedTuple

from base.leases import Lease
from clips.mp4 import ClipFile

KEPT_S: Final = 60.0
KEPT_BYTES_MAX: Final = 64 << 20

Key = tuple[str, int, int, str]  # stream, start_us, end_us, tracks


class Laid(NamedTuple):
    """A clip, the threads to read it in, and the lease that keeps its chunks while somebody refers to it."""

    file: ClipFile
    lane: Hashable
    lease: Lease | None = None


class ClipCache:
    """The last used clips; belongs to the event loop's thread."""

    def __init__(self, bytes_max: int = KEPT_BYTES_MAX, kept_s: float = KEPT_S) -> None:
        self._bytes_max = bytes_max
        self._kept_s = kept_s
        self._clips: OrderedDict[Key, tuple[Laid, float]] = OrderedDict()
        self._is_sweeping = False
        self.held_bytes = 0

    def get(self, key: Key) -> Laid | None:
        """The clip, if it is here and fresh."""
        found = self._clips.get(key)
        if found is None:
            return None
        laid, until_s = found
        if time.monotonic() > until_s:
            self.drop(key)
            return None
        self._clips.move_to_end(key)
        return laid

    def put(self, key: Key, laid: Laid) -> None:
        """Keep a clip that will not grow."""
        self.drop(key)
        if laid.file.nbytes > self._bytes_max // 2:
            return
        self._clips[key] = laid, time.monotonic() + self._kept_s
        self.held_bytes += laid.file.nbytes
        while self.held_bytes > self._bytes_max:
            self.drop(next(iter(self._clips)))
        self._sweep_later()

    def _sweep_later(self) -> None:
        """What nobody asks for again is let go too, as its lease keeps chunks from being deleted."""
        if self._clips and not self._is_sweeping:
            with suppress(RuntimeError):  # without an event loop
                asyncio.get_running_loop().call_later(self._kept_s, self._sweep)
                self._is_sweeping = True

    def _sweep(self) -> None:
        self._is_sweeping = False
        now_s = time.monotonic()
        for key in [key for key, (_, until_s) in self._clips.items() if now_s >= until_s]:
            self.drop(key)
        self._sweep_later()

    def drop(self, key: Key) -> None:
        """Forget a clip."""
        found = self._clips.pop(key, None)
        if found is not None:
            self.held_bytes -= found[0].file.nbytes
