"""Threads for calls that may block on a disk, a few per lane; a lane is a volume, the index, or the picture decoder.

Kept true: the event loop never waits for a disk; a lane whose disk hangs loses its own threads and nothing else; the
number of calls waiting in a lane is bounded. The threads are daemons, so a hung one never holds up the process's end.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Hashable
from queue import SimpleQueue
from typing import Any, Final, TypeVar

from playback.problems import Problem

T = TypeVar("T")
_WAITING_MAX: Final = 256  # calls waiting in one lane


class Workers:
    """Runs blocking calls; `threads` of them at a time in each lane."""

    def __init__(self, threads: int, waiting_max: int = _WAITING_MAX) -> None:
        self._threads = threads
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
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        found.put(_Job(loop, future, call))
        return await future

    def close(self) -> None:
        """Let idle threads end; running calls are left to finish."""
        self._closed = True
        for lane in self._lanes.values():
            lane.close()
        self._lanes.clear()


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
        self._busy = 0
        self.waiting = 0

    def put(self, job: _Job) -> None:
        with self._lock:
            self.waiting += 1
            start = self._busy + self.waiting > self._threads < self._threads_max
            self._threads += start
        self._queue.put(job)
        if start:
            threading.Thread(target=self._work, name="playback-worker", daemon=True).start()

    def close(self) -> None:
        for _ in range(self._threads):
            self._queue.put(None)

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            with self._lock:
                self.waiting -= 1
                self._busy += 1
            job.run()
            del job  # a result must not live on in an idle thread
            with self._lock:
                self._busy -= 1
