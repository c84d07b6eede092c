"""The one thread that writes the index.

Kept true: nobody waits for it, neither a volume's thread nor the event loop; records are applied in the order their
volume made them durable, many in one transaction; a stream's watermark is published only after the transaction that
holds it was committed; the backlog is bounded in records. What does not fit, or what a commit refused, is forgotten but
for the chunk's name and its durable size: such a chunk is *behind*, and is read again from its file when the index
works. Names are bounded too: what is beyond is looked for among all files, as the index is told that it lacks chunks.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Final, TypeVar

import structlog

from base.errors import KeyreelError, VolumeError
from chunks.records import ChunkOpened, FragmentStored, Gap, StoredRecord
from index import Index, Transaction

BACKLOG_RECORDS_MAX: Final = 100_000  # some 40 MB
BEHIND_CHUNKS_MAX: Final = 100_000  # some 25 MB; of 2,000 streams those of eight hours
JOBS_MAX: Final = 256
# One write transaction takes at most this many records, so that a backlog cannot make one commit endless.
RECORDS_PER_COMMIT_MAX: Final = 20_000
STOP_MAX_S: Final = 20.0  # an orderly end waits so long for the index's disk
CATCH_UP_S: Final = 1.0  # between two attempts to read chunks again

T = TypeVar("T")
ChunkKey = tuple[int, int]  # stream id, sequence
ReadAgain = Callable[[ChunkKey, int], list[StoredRecord]]
log = structlog.get_logger("recorder.committer")


class _Job:
    """A call inside a write transaction, and who waits for it."""

    __slots__ = ("call", "future")

    def __init__(self, call: Callable[[Transaction], object], future: Future[object]) -> None:
        self.call = call
        self.future = future


def stream_of(record: StoredRecord) -> int:
    """The stream a record belongs to."""
    return record.head.stream_id if isinstance(record, ChunkOpened) else record.stream_id


def _chunk_of(record: StoredRecord) -> tuple[ChunkKey, int] | None:
    """The chunk a record tells of, and how far it is durable with it; None for a gap that stands alone."""
    if isinstance(record, ChunkOpened):
        return (record.head.stream_id, record.head.sequence), record.size
    if isinstance(record, FragmentStored):
        return (record.stream_id, record.sequence), record.offset + record.length
    return None if isinstance(record, Gap) else ((record.stream_id, record.sequence), record.size)


def _of_content(error: Exception) -> bool:
    """The records are wrong, not the disk."""
    return isinstance(error, KeyreelError) and not isinstance(error, VolumeError)


class Committer:
    """Owns the write side of the index in a recorder process."""

    def __init__(self, index: Index, read_again: ReadAgain | None = None) -> None:
        self._index = index
        self._read_again = read_again
        self._ready = threading.Condition()
        self._queue: deque[list[StoredRecord] | _Job] = deque()
        self._records = 0
        self._jobs = 0
        self._stopping = False
        self._behind: dict[ChunkKey, int] = {}
        self._lacks = False  # more than these
        self._busy_since_s = 0.0  # monotonic time at which the index was last asked and has not answered; 0.0 idle
        self._catching_up: threading.Thread | None = None
        self._next_attempt_s = 0.0
        self._thread = threading.Thread(target=self._run, name="index-writer", daemon=True)
        self.durable_until_us: dict[int, int] = {}
        self.commits = 0
        self.failed_commits = 0

    @property
    def behind(self) -> int:
        """Chunks that the index has yet to read again."""
        return len(self._behind)

    @property
    def backlog_records(self) -> int:
        """Records that wait for the index."""
        return self._records

    @property
    def hung_s(self) -> float:
        """For how long the index has not answered; 0.0 when nothing is asked of it."""
        since_s = self._busy_since_s
        return time.monotonic() - since_s if since_s else 0.0

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, batch: list[StoredRecord]) -> None:
        """Hand over what just became durable; never waits. What passes the bound is read again from its chunk later."""
        with self._ready:
            if self._records + len(batch) > BACKLOG_RECORDS_MAX:
                self._fall_behind(batch)
                return
            self._queue.append(batch)
            self._records += len(batch)
            self._ready.notify()

    def offer(self, batch: list[StoredRecord]) -> None:
        """Hand over what will be told again: left out when the backlog is full."""
        with self._ready:
            if self._records + len(batch) <= BACKLOG_RECORDS_MAX // 2:
                self._queue.append(batch)
                self._records += len(batch)
                self._ready.notify()

    def call(self, job: Callable[[Transaction], T]) -> Future[T]:
        """Run `job` inside a write transaction, after everything submitted before it; refused at the bound."""
        future: Future[T] = Future()
        with self._ready:
            if self._jobs >= JOBS_MAX or self._stopping:
                future.set_exception(VolumeError("the index does not keep up; check its disk", reason="hung"))
                return future
            self._jobs += 1
            self._queue.append(_Job(job, future))  # type: ignore[arg-type]
            self._ready.notify()
        return future

    def fall_behind(self, chunks: Iterable[tuple[ChunkKey, int]]) -> None:
        """Let these chunks (key, durable size) be read again from their files."""
        with self._ready:
            for key, size in chunks:
                self._note_behind(key, size)

    def stop(self) -> bool:
        """Commit all that was submitted, then end the thread; False when it hangs, which is not waited for long."""
        with self._ready:
            self._stopping = True
            self._ready.notify()
        self._thread.join(STOP_MAX_S)
        if self._thread.is_alive():
            log.error("the index's disk does not answer; the next start reads the chunks instead")
        return not self._thread.is_alive()

    # -- the thread's own ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            records, job = self._next()
            self._busy_since_s = time.monotonic()
            if records:
                self._commit(self._in_step(records))
            if job is not None:
                self._run_job(job)
            self._busy_since_s = 0.0
            if not records and job is None and self._stopping:
                return
            self._catch_up()

    def _next(self) -> tuple[list[StoredRecord], _Job | None]:
        """What waits: records up to the bound of one commit, or up to the next job, and that job."""
        records: list[StoredRecord] = []
        with self._ready:
            if not self._queue and not self._stopping:
                self._ready.wait(CATCH_UP_S)
            while self._queue and len(records) < RECORDS_PER_COMMIT_MAX:
                item = self._queue.popleft()
                if isinstance(item, _Job):
                    self._jobs -= 1
                    return records, item
                self._records -= len(item)
                records.extend(item)
        return records, None

    def _in_step(self, records: list[StoredRecord]) -> list[StoredRecord]:
        """Those of chunks that are not behind; the others only move the size up to which these will be read."""
        if not self._behind:
            return records
        with self._ready:
            late = [record for record in records if (chunk := _chunk_of(record)) and chunk[0] in self._behind]
            self._fall_behind(late)
            return [record for record in records if not ((chunk := _chunk_of(record)) and chunk[0] in self._behind)]

    def _fall_behind(self, records: list[StoredRecord]) -> None:
        for record in records:
            if (chunk := _chunk_of(record)) is not None:
                self._note_behind(*chunk)

    def _note_behind(self, key: ChunkKey, size: int) -> None:
        if key in self._behind or len(self._behind) < BEHIND_CHUNKS_MAX:
            self._behind[key] = max(size, self._behind.get(key, 0))
        else:
            self._lacks = True

    def _commit(self, records: list[StoredRecord]) -> None:
        """Apply all in one transaction; when that fails, stream by stream, so that one bad record costs one stream."""
        error = self._apply(records) if records else None
        if error is None:
            return
        streams: dict[int, list[StoredRecord]] = {}
        for record in records:
            streams.setdefault(stream_of(record), []).append(record)
        for some in streams.values():
            if len(streams) == 1 or not _of_content(error) or self._apply(some) is not None:
                with self._ready:
                    self._fall_behind(some)
                self._next_attempt_s = time.monotonic() + CATCH_UP_S

    def _apply(self, records: list[StoredRecord]) -> Exception | None:
        try:
            with self._index.write() as transaction:
                transaction.apply(records)
        except Exception as error:
            # The media is safe in its chunks, which are read again. Recording goes on.
            self.failed_commits += 1
            log.error(
                "index commit failed; recording goes on, the chunks are read again",
                records=len(records),
                error=str(error),
                exc_info=not isinstance(error, KeyreelError),
            )
            return error
        self.commits += 1
        for record in records:
            if isinstance(record, FragmentStored):
                self.durable_until_us[record.stream_id] = record.end_us
        return None

    def _run_job(self, job: _Job) -> None:
        if not job.future.set_running_or_notify_cancel():
            return
        try:
            with self._index.write() as transaction:
                result = job.call(transaction)
        except Exception as error:
            job.future.set_exception(error)
        else:
            job.future.set_result(result)

    # -- chunks that are behind ---------------------------------------------------------------------------------------

    def _catch_up(self) -> None:
        """Have chunks read by a thread of its own, as its disk may hang where the index's does not."""
        reader = self._read_again
        if reader is None or not (self._behind or self._lacks):
            return
        if self._stopping or time.monotonic() < self._next_attempt_s:
            return
        if self._catching_up is not None and self._catching_up.is_alive():
            return
        self._catching_up = threading.Thread(target=self._read, args=(reader,), name="index-catch-up", daemon=True)
        self._catching_up.start()

    def _read(self, reader: ReadAgain) -> None:
        """Read what is behind, oldest first, and hand it to the writing thread; ends at the first that fails."""
        if self._lacks and not self._tell_lack():
            return
        while not self._stopping:
            with self._ready:
                if not self._behind:
                    return
                key = next(iter(self._behind))
                size = self._behind[key]
            try:
                records = reader(key, size)
            except Exception as error:
                log.error("a chunk could not be read again; it is tried later", chunk=key, error=str(error))
                self._postpone(key)
                return
            try:
                self.call(lambda transaction, records=records: transaction.apply(records)).result()  # type: ignore[misc]
            except KeyreelError as error:
                if not _of_content(error):
                    self._postpone(key)
                    return
                log.error("a chunk contradicts the index; `keyreel check` tells more", chunk=key, error=str(error))
                with self._ready:
                    self._behind.pop(key, None)
            except Exception as error:
                log.error("the index still refuses a chunk; it is tried again", chunk=key, error=str(error))
                self._postpone(key)
                return
            with self._ready:
                if self._behind.get(key, 0) == size:  # else more became durable meanwhile, and is read in the next turn
                    del self._behind[key]

    def _tell_lack(self) -> bool:
        """Have the index say that it lacks chunks, so that their files are looked for (`indexcare`)."""
        self._lacks = False
        try:
            self.call(lambda transaction: transaction.set_whole(read_in=False)).result()
        except Exception as error:
            log.error("the index cannot be told yet that it lacks chunks", error=str(error))
            self._lacks = True
            self._next_attempt_s = time.monotonic() + CATCH_UP_S
        return not self._lacks

    def _postpone(self, key: ChunkKey) -> None:
        """Let the others have their turn first."""
        self._next_attempt_s = time.monotonic() + CATCH_UP_S
        with self._ready, contextlib.suppress(KeyError):
            self._behind[key] = self._behind.pop(key)
