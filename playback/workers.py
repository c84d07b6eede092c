"""Threads for calls that may block on a disk, a few per lane; a lane is a volume, the index, or the picture decoder.

Kept true: the event loop never waits for a disk; a lane whose disk hangs loses its own threads and nothing else; the
number of calls waiting in a lane is bounded, and nobody waits for a hung disk longer than `hung_s`. The threads are
daemons, so a hung one never holds up the process's end. They ask the disk after everybody else.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Hashable
from queue import SimpleQueue
from typing import Any, Final, TypeVar

from base.priority import LAST, give_way_at_disk
from playback.problems import Problem

T = TypeVar("T")
_WAITING_MAX: Final = 256  # calls waiting in one lane
HUNG_S: Final = 20.0  # the slowest disk that still works answers sooner


class Workers:
    """Runs blocking calls; `threads` of them at a time in each lane."""

    def __init__(self, threads: int, waiting_max: int = _WAITING_MAX, hung_s: float = HUNG_S) -> None:
        self._threads = threads
        self._hung_s = hung_s
        self._waiting_max = waiting_max
        self._lanes: dict[Hashable, _Lane] = {}
        self._closed = False

    async def run(self, lane: Hashable, call: Callable[[], T], *, threads: int | None = None) -> T:
        """`call()` in one of the lane's threads; what it raises is raised here."""
        if self._closed:
            raise Problem(503, "stopping", "the server is stopping; ask again in a moment", retry_after_s=5)
        found = self._lanes.get(lane)
        if found is None:
            found = self._lanes[lane] = _Lane(threads or self._threads)
        if found.waiting >= self._waiting_max:
            raise Problem(503, "busy", "too many reads are waiting for one disk; ask again later", retry_after_s=2)
        if found.stuck_s() > self._hung_s:
            raise _hung(found.stuck_s())
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        found.put(_Job(loop, future, call))
        try:
            async with asyncio.timeout(self._hung_s) as limit:
                return await future
        except TimeoutError:
            if limit.expired():
                raise _hung(self._hung_s) from None
            raise

    def close(self) -> None:
        """Let idle threads end; running calls are left to finish."""
        self._closed = True
        for lane in self._lanes.values():
            lane.close()
        self._lanes.clear()


def _hung(seconds: float) -> Problem:
    detail = f"the disk of this footage has not answered for {seconds:.0f} s; check it, other disks go on"
    return Problem(503, "disk-hung", detail, retry_after_s=30)


class _Job:
    """One call and the future that waits for it."""

    __slots__ = ("call", "future", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any], call: Callable[[], Any]) -> None:
        self.loop = loop
        self.future = future
        self.call = call

    def run(self) -> None:
        if self.future.cancelled():  # nobody waits any more
            return
        result, error = None, None
        try:
            result = self.call()
        except BaseException as raised:
            error = raised
        try:
            self.loop.call_soon_threadsafe(self._settle, result, error)
        except RuntimeError:  # the loop has ended meanwhile
            return

    def _settle(self, result: Any, error: BaseException | None) -> None:
        if self.future.done():
            return
        if error is None:
            self.future.set_result(result)
        elif isinstance(error, StopIteration):  # asyncio refuses it
            self.future.set_exception(RuntimeError("StopIteration in a worker"))
        else:
            self.future.set_exception(error)


class _Lane:
    """A queue and its threads, started as they are needed."""

    def __init__(self, threads: int) -> None:
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads_max = threads
        self._threads = 0
        self._lock = threading.Lock()
        self._since: dict[int, float] = {}  # what each working thread began when
        self.waiting = 0

    def stuck_s(self) -> float:
        """How long every thread of the lane has been at its call; 0 when one is free or could be started."""
        with self._lock:
            if len(self._since) < self._threads_max:
                return 0.0
            return time.monotonic() - max(self._since.values())

    def put(self, job: _Job) -> None:
        with self._lock:
            self.waiting += 1
            start = len(self._since) + self.waiting > self._threads < self._threads_max
            self._threads += start
        self._queue.put(job)
        if start:
            threading.Thread(target=self._work, name="playback-worker", daemon=True).start()

    def close(self) -> None:
        for _ in range(self._threads):
            self._queue.put(None)

    def _work(self) -> None:
        give_way_at_disk(LAST)
        while (job := self._queue.get()) is not None:
            with self._lock:
                self.waiting -= 1
                self._since[threading.get_ident()] = time.monotonic()
            job.run()
            del job  # a result must not live on in an idle thread
            with self._lock:
                del self._since[threading.get_ident()]
