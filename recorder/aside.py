"""Work on the data folder's disk, for an event loop that must not wait for it.

Kept true: one job at a time, in a thread of its own that the process's end does not wait for; what is offered while the
last job has not returned is refused, so nothing piles up behind a disk that hangs; a disk that does not answer is told
once, and once when it does again.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Final, TypeVar

import structlog

HUNG_S: Final = 3.0  # a disk that has not answered for so long is told, as a volume's is
TURN_S: Final = 0.01

T = TypeVar("T")
log = structlog.get_logger("recorder.aside")


class Patience:
    """Tells once that something hangs, and once that it no longer does."""

    def __init__(self, hangs: str, answers: str) -> None:
        self._hangs = hangs
        self._answers = answers
        self._longest_s = 0.0

    def look(self, waits_s: float) -> None:
        """`waits_s` is how long it has been waited for, 0.0 when nothing waits; called about once a second."""
        if waits_s >= HUNG_S:
            if not self._longest_s:
                log.error(self._hangs, waited_s=round(waits_s, 1))
            self._longest_s = waits_s
        elif self._longest_s:
            log.warning(self._answers, waited_s=round(self._longest_s, 1))
            self._longest_s = 0.0


class Aside:
    """One thread, one job; offered and awaited by the event loop alone."""

    def __init__(self, name: str) -> None:
        self._since_s = 0.0
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def waits_s(self) -> float:
        """For how long the job that runs has not returned; 0.0 when none runs."""
        since_s = self._since_s
        return time.monotonic() - since_s if since_s else 0.0

    def offer(self, job: Callable[[], None]) -> bool:
        """Have it done; False, and nothing is, while the last one has not returned. What it raises is logged."""
        if self._since_s:
            return False
        self._since_s = time.monotonic()
        self._jobs.put(job)
        return True

    async def call(self, job: Callable[[], T]) -> T:
        """The job's result, when its turn has come."""
        future: Future[T] = Future()
        while not self.offer(lambda: _fulfil(future, job)):
            await asyncio.sleep(TURN_S)
        return await asyncio.wrap_future(future)

    def end(self) -> None:
        """Take no more jobs; one that hangs is left behind."""
        self._jobs.put(None)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except OSError as error:
                log.error("the data folder cannot be written; recording goes on", error=str(error))
            except Exception:
                log.exception("work beside the event loop failed unexpectedly")
            self._since_s = 0.0


def _fulfil(future: Future[T], job: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(job())
    except BaseException as error:
        future.set_exception(error)
