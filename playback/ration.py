"""Reading gives way to recording: after each read a volume rests as long as the recorder's trouble with it asks.

Kept true: a volume whose recorder syncs in time is read at full speed; one that does not is read for a share of the
time that shrinks with its distress, down to a ninth, and never nothing; nobody waits here longer than `REST_S_MAX`, and
no thread is held while waiting.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Hashable, Iterable
from typing import Final

from base.clock import wall_us
from base.status import RecorderStatus, VolumeStatus
from base.units import US

SYNC_MS_FAIR: Final = 500.0  # of the second between two syncs; a disk that takes longer is more than half busy
FACTOR_MAX: Final = 8.0  # rests so many times as long as it was read
REST_S_MAX: Final = 2.0
_LOOK_S: Final = 0.5  # between two looks at what the recorder says, which it says once a second
_STALE_US: Final = 10 * US  # a recorder that is silent for so long is not disturbed


def rest_factor(volume: VolumeStatus) -> float:
    """How many times as long as a read took its volume rests after it."""
    if volume.state == "suspect":  # the recorder waits for this disk
        return FACTOR_MAX
    return min(max(0.0, 2 * (volume.last_sync_ms / SYNC_MS_FAIR - 1)), FACTOR_MAX)


def volumes_of(lane: Hashable) -> tuple[bytes, ...]:
    """The volumes that a lane of `playback.lanes` reads."""
    if isinstance(lane, bytes):
        return (lane,)
    if isinstance(lane, frozenset):
        return tuple(volume for volume in lane if isinstance(volume, bytes))
    return volumes_of(lane[1]) if isinstance(lane, tuple) and len(lane) == 2 else ()


class Ration:
    """Rests of all volumes. `look` reads the recorder's status in a thread; the loop calls `turn`, threads `spent`."""

    def __init__(self, look: Callable[[], Awaitable[RecorderStatus | None]]) -> None:
        self._look = look
        self._looking: asyncio.Task[None] | None = None
        self._looked_s = float("-inf")
        self._factors: dict[bytes, float] = {}
        self._free_s: dict[bytes, float] = {}  # when a volume may be read again
        self._lock = threading.Lock()
        self.rested_s = 0.0  # since the start, of all readers together

    async def turn(self, volumes: Iterable[bytes]) -> None:
        """Wait until the volumes have rested."""
        now_s = time.monotonic()
        if now_s - self._looked_s > _LOOK_S and (self._looking is None or self._looking.done()):
            self._looked_s = now_s
            self._looking = asyncio.ensure_future(self._look_again())
        rest_s = self.rest_s(volumes, now_s)
        if rest_s > 0:
            self.rested_s += rest_s
            await asyncio.sleep(rest_s)

    def rest_s(self, volumes: Iterable[bytes], now_s: float) -> float:
        """How long still."""
        with self._lock:
            rests_s = [self._free_s.get(volume, 0.0) - now_s for volume in volumes]
        return min(max(0.0, *rests_s), REST_S_MAX) if rests_s else 0.0

    def spent(self, volumes: Iterable[bytes], took_s: float, now_s: float) -> None:
        """A read that ended now took so long."""
        with self._lock:
            for volume in volumes:
                if factor := self._factors.get(volume):
                    since_s = max(self._free_s.get(volume, 0.0), now_s)
                    self._free_s[volume] = min(since_s + factor * took_s, now_s + REST_S_MAX)

    def heed(self, status: RecorderStatus | None) -> None:
        """Take over what the recorder says of its volumes."""
        heard = status is not None and wall_us() - status.updated_us < _STALE_US
        with self._lock:
            self._factors = (
                {bytes.fromhex(one.id): rest_factor(one) for one in status.volumes} if heard and status else {}
            )
            if not any(self._factors.values()):
                self._free_s.clear()

    async def _look_again(self) -> None:
        try:
            self.heed(await self._look())
        except Exception:  # a data folder that does not answer: what was last heard counts
            return
