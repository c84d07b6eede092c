"""One timer for all cameras of a server.

Kept true: a camera is called at or after its due time and at most `TICK_US` plus the length of a round late; the loop
wakes at most once per `TICK_US` however many cameras there are.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from typing import Final

from simcam.camera import Camera
from simcam.cursor import NEVER

TICK_US: Final = 4000


def monotonic_us() -> int:
    """CLOCK_MONOTONIC in µs, the clock of every `due_us`."""
    return time.monotonic_ns() // 1000


class Ticker:
    """Calls `Camera.tick` when something is due."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._due: list[tuple[int, int, Camera]] = []
        self._known: set[Camera] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._count = 0
        self.late_us_max = 0

    def add(self, camera: Camera) -> None:
        """Begins to call a camera that has viewers."""
        if camera not in self._known:
            self._known.add(camera)
            self._push(monotonic_us(), camera)
            self._arm(0)

    def _push(self, due_us: int, camera: Camera) -> None:
        self._count += 1
        heapq.heappush(self._due, (due_us, self._count, camera))

    def _arm(self, wait_us: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(wait_us / 1_000_000, self._run)

    def _run(self) -> None:
        self._timer = None
        now_us = monotonic_us()
        while self._due and self._due[0][0] <= now_us:
            due_us, _, camera = heapq.heappop(self._due)
            self.late_us_max = max(self.late_us_max, now_us - due_us)
            next_us = camera.tick(now_us)
            if next_us == NEVER:
                self._known.discard(camera)
            else:
                self._push(next_us, camera)
        if self._due:
            self._arm(max(self._due[0][0] - monotonic_us(), TICK_US))

    def close(self) -> None:
        """Calls nobody any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._due.clear()
        self._known.clear()
