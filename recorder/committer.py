"""The one thread that writes the index.

Kept true: records are applied in the order their volume made them durable, many in one transaction; a stream's
watermark is published only after the transaction that holds it was committed; the backlog is bounded in records
(then the volume's thread waits, its queue fills, and streams drop whole GOPs by the declared rule).
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, TypeVar

import structlog

from chunks.records import ChunkOpened, FragmentStored, StoredRecord
from index import Index, Transaction

BACKLOG_BATCHES_MAX: Final = 256
# One write transaction takes at most this many records, so that a backlog cannot make one commit endless.
RECORDS_PER_COMMIT_MAX: Final = 20_000

T = TypeVar("T")
_Job = tuple[Callable[[Transaction], object], "Future[object]"]
log = structlog.get_logger("recorder.committer")


def stream_of(record: StoredRecord) -> int:
    """The stream a record belongs to."""
    return record.head.stream_id if isinstance(record, ChunkOpened) else record.stream_id


class Committer:
    """Owns the write side of the index in a recorder process."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._queue: queue.Queue[list[StoredRecord] | _Job | None] = queue.Queue(BACKLOG_BATCHES_MAX)
        self._thread = threading.Thread(target=self._run, name="index-writer", daemon=True)
        self.durable_until_us: dict[int, int] = {}
        self.commits = 0
        self.failed_commits = 0

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, batch: list[StoredRecord]) -> None:
        """Hand over what just became durable; called from volume threads, waits when the backlog is full."""
        self._queue.put(batch)

    def offer(self, batch: list[StoredRecord]) -> None:
        """Hand over what will be told again: left out when the backlog is full, as the event loop never waits."""
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(batch)

    def call(self, job: Callable[[Transaction], T]) -> Future[T]:
        """Run `job` inside a write transaction, after everything submitted before it."""
        future: Future[T] = Future()
        self._queue.put((job, future))  # type: ignore[arg-type]
        return future

    def stop(self) -> None:
        """Commit all that was submitted, then end the thread."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while True:
            item = self._queue.get()
            if item is None:
                return
            if isinstance(item, tuple):
                self._run_job(*item)
            elif not self._commit_with_followers(item):
                return

    def _commit_with_followers(self, records: list[StoredRecord]) -> bool:
        """Commit `records` and whatever batches already wait behind them; False when the end was among them."""
        records = list(records)
        job: _Job | None = None
        ended = False
        while len(records) < RECORDS_PER_COMMIT_MAX and job is None and not ended:
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                break
            if item is None:
                ended = True
            elif isinstance(item, tuple):
                job = item
            else:
                records.extend(item)
        self._commit(records)
        if job is not None:
            self._run_job(*job)
        return not ended

    def _commit(self, records: list[StoredRecord]) -> None:
        """Apply all in one transaction; when that fails, stream by stream, so that one bad record costs one stream."""
        if self._apply(records):
            return
        for stream_id in {stream_of(record) for record in records}:
            self._apply([record for record in records if stream_of(record) == stream_id])

    def _apply(self, records: list[StoredRecord]) -> bool:
        try:
            with self._index.write() as transaction:
                transaction.apply(records)
        except Exception:
            # The media is safe in its chunks; `keyreel rebuild` reads what the index lacks. Recording goes on.
            self.failed_commits += 1
            log.exception(
                "index commit failed; recording goes on, `keyreel rebuild` reads the chunks", records=len(records)
            )
            return False
        self.commits += 1
        for record in records:
            if isinstance(record, FragmentStored):
                self.durable_until_us[record.stream_id] = record.end_us
        return True

    def _run_job(self, job: Callable[[Transaction], object], future: Future[object]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            with self._index.write() as transaction:
                result = job(transaction)
        except Exception as error:
            future.set_exception(error)
        else:
            future.set_result(result)
