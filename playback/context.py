"""What every call of the API needs: the index, the chunk store, the recorder's status, the limits and the threads.

Kept true: one context per process and data folder; each kind of costly request has its own bound, and a request that
would pass a bound is refused at once instead of waiting without end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from aiohttp import web

from base.config import ApiConfig
from base.history import history_path
from base.leases import Leases
from base.status import RecorderStatus, read_status
from clips.hlslive import LivePlaylists
from clips.store import ChunkStore
from index import Index, Snapshot
from playback.clipcache import ClipCache
from playback.problems import Problem
from playback.ration import Ration, volumes_of
from playback.workers import HUNG_S, Workers

T = TypeVar("T")
INDEX_LANE: Final = "index"
STATUS_LANE: Final = "status"
WRITE_LANE: Final = "register"  # one thread, as the index asks of its writers
_STATUS_KEPT_S: Final = 0.25  # each recorder process writes it once a second


@dataclass
class Context:
    """The parts of one node's playback. `stall_s`: a reader who takes nothing for so long is cut off."""

    index: Index
    store: ChunkStore
    run_path: Path
    api: ApiConfig
    version: str
    stall_s: float = 60.0
    hung_s: float = HUNG_S
    started_s: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        self.history_path = history_path(self.run_path)
        self.workers = Workers(self.api.read_threads, hung_s=self.hung_s)
        self.requests = Bound("requests", self.api.requests_max)
        self.clips = Bound("clips", self.api.clips_max)
        self.previews = Bound("previews", self.api.previews_max)
        self.live = Bound("live views", self.api.live_max)
        self.camera_tests = Bound("camera tests", self.api.camera_tests_max)
        self.ration = Ration(self._look_at_recorder)
        self.leases = Leases(self.run_path)
        self.laid = ClipCache()
        self.live_playlists = LivePlaylists(self.store)
        self._status: tuple[float, RecorderStatus | None] = (float("-inf"), None)

    async def read(self, call: Callable[[Snapshot], T]) -> T:
        """`call(snapshot)` in one read transaction, in a thread."""

        def inside() -> T:
            with self.index.read() as snapshot:
                return call(snapshot)

        return await self.workers.run(INDEX_LANE, inside)

    async def read_media(self, lane: Hashable, call: Callable[[], T], *, threads: int | None = None) -> T:
        """`call()` in the threads of a lane, when its volumes have rested from what was read before."""
        volumes = volumes_of(lane)

        def timed() -> T:
            began_s = time.monotonic()
            try:
                return call()
            finally:
                now_s = time.monotonic()
                self.ration.spent(volumes, now_s - began_s, now_s)

        await self.ration.turn(volumes)
        return await self.workers.run(lane, timed, threads=threads)

    async def _look_at_recorder(self) -> RecorderStatus | None:
        return await self.workers.run(STATUS_LANE, lambda: read_status(self.run_path), threads=1)

    def recorder_status(self) -> RecorderStatus | None:
        """What the recorder last told; None before its first word."""
        taken_s, status = self._status
        if time.monotonic() - taken_s > _STATUS_KEPT_S:
            status = read_status(self.run_path)
            self._status = (time.monotonic(), status)
        return status


class Bound:
    """At most `limit` holders at a time; the next one is told to come back."""

    def __init__(self, what: str, limit: int) -> None:
        self.what = what
        self.limit = limit
        self.held = 0

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Count as a holder inside."""
        if self.held >= self.limit:
            raise Problem(
                503,
                "busy",
                f"all {self.limit} {self.what} allowed at a time are taken; ask again in a few seconds",
                retry_after_s=5,
            )
        self.held += 1
        try:
            yield
        finally:
            self.held -= 1


CONTEXT: Final = web.AppKey("context", Context)
