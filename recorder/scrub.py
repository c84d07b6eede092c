"""Sealed chunks read again, all of them in a period: what a disk lost is found before somebody asks for it.

Kept true: nothing is written to a chunk; a damaged fragment becomes a declared gap of cause damage and its neighbours
play; one that is sound again is no gap any more; a disk that left or answers nothing is no damage, and nothing is
written where its mount was; a rate is kept, and while a volume's writer or the event loop is behind nothing is read;
where a turn stands survives a restart. A thread per volume: a disk that hangs holds its own.
"""

from __future__ import annotations

import contextlib
import errno
import threading
import time
from collections.abc import Callable
from typing import Final

import structlog

from base.clock import wall_us
from base.errors import DamageError, KeyreelError
from base.priority import LAST, give_way_at_disk
from base.status import ScrubStatus
from base.units import US
from chunks.directread import DirectReader
from chunks.path import chunk_path
from chunks.scrubreport import Cycle, Damage, ScrubReport, read_report, write_report
from chunks.verify import Damaged, Verified, verify_chunk
from chunks.volume import IDENTITY_NAME, Volume, proven
from index import ChunkRow, Index, StreamRow
from index.check import contradiction
from index.suspect import tell
from recorder.committer import Committer

LOOK_S: Final = 1.0
BUSY_WAIT_S: Final = 0.2
SAVE_S: Final = 10.0  # a restart reads again what was read since
COMMIT_WAIT_S: Final = 60.0
END_WAIT_S: Final = 2.0
DAY_US: Final = 86_400 * US
AGAIN_S: Final = 86_400.0  # between two looks at what is damaged: a cable may have been put right

log = structlog.get_logger("recorder.scrub")


class _Ended(Exception):
    """The recorder stops, or the volume does not answer."""


class Scrubber:
    """The scrubs of all volumes. `busy` says that what can wait should."""

    def __init__(
        self, index: Index, committer: Committer, bytes_s_max: int, period_days: int, busy: Callable[[], bool]
    ) -> None:
        self._index = index
        self._committer = committer
        self._bytes_s_max = bytes_s_max
        self._period_us = period_days * DAY_US
        self._busy = busy
        self._scrubs: dict[bytes, VolumeScrub] = {}

    def follow(self, volumes: list[Volume]) -> None:
        """Scrub these volumes, the others not."""
        if not self._period_us:
            return
        there = {volume.id: volume for volume in volumes}
        for volume_id, scrub in list(self._scrubs.items()):
            if volume_id not in there or there[volume_id].root != scrub.root:
                self._scrubs.pop(volume_id).ended.set()
        for volume_id, volume in there.items():
            if volume_id not in self._scrubs:
                scrub = VolumeScrub(
                    volume, self._index, self._committer, self._bytes_s_max, self._period_us, self._busy
                )
                self._scrubs[volume_id] = scrub
                scrub.start()

    def status(self, volume_id: bytes) -> ScrubStatus | None:
        """For the status file."""
        scrub = self._scrubs.get(volume_id)
        return scrub.status if scrub is not None else None

    def stop(self) -> None:
        """The next start goes on where this one ends."""
        for scrub in self._scrubs.values():
            scrub.ended.set()
        for scrub in self._scrubs.values():
            scrub.join(END_WAIT_S)


class VolumeScrub:
    """One volume's scrub, in a thread of its own."""

    def __init__(
        self, volume: Volume, index: Index, committer: Committer, bytes_s_max: int, period_us: int,
        busy: Callable[[], bool],
    ) -> None:  # fmt: skip
        self.ended = threading.Event()
        self.status: ScrubStatus | None = None
        self.root = volume.root
        self._volume = volume
        self._index = index
        self._committer = committer
        self._bytes_s_max = bytes_s_max
        self._period_us = period_us
        self._busy = busy
        self._report = ScrubReport()
        self._due_s = 0.0  # when the rate allows the next read
        self._saved_s = 0.0
        self._again_s = 0.0  # when what is damaged is looked at again
        self._thread = threading.Thread(target=self._run, name=f"scrub {volume.root}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def join(self, timeout_s: float) -> None:
        """Wait for the thread's end."""
        self._thread.join(timeout_s)

    # -- the thread's own ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        give_way_at_disk(LAST)
        self._report = read_report(self._volume.root)
        self._tell()
        while not self.ended.wait(LOOK_S):
            try:
                self._turn()
                self._tell()
            except _Ended:
                break
            except Exception as error:
                known = isinstance(error, (KeyreelError, OSError))
                self._tell(str(error))
                log.error(
                    "scrubbing is tried again", volume=str(self._volume.root), error=str(error), exc_info=not known
                )
                self.ended.wait(BUSY_WAIT_S * 50)
        with contextlib.suppress(KeyreelError, OSError):
            self._save()

    def _turn(self) -> None:
        """What is damaged again, then chunk after chunk until the turn is over; nothing before the next one is due."""
        cycle = self._report.cycle
        waits = bool(cycle.ended_us) and 0 <= wall_us() - cycle.started_us < self._period_us  # a clock may go back
        again = bool(self._report.damage) and time.monotonic() >= self._again_s
        if waits and not again:
            return
        with self._index.read() as snapshot:
            if not snapshot.is_read_in():
                return
        if again:
            self._look_again()
        if waits:
            return
        if cycle.ended_us or not cycle.started_us:
            self._report.cycle = Cycle(started_us=wall_us())
            self._report.at_stream = self._report.at_us = 0
        while (following := self._next()) is not None:
            self._scrub(*following)
            self._tell()
        self._forget_deleted()
        self._report.cycle.ended_us = wall_us()
        self._report.last = self._report.cycle
        self._save()
        self._tell()
        log.info(
            "scrubbed", volume=str(self._volume.root), chunks=self._report.cycle.chunks, bytes=self._report.cycle.bytes
        )

    def _look_again(self) -> None:
        """Chunks with damage, beside the turn: what is sound again is not a gap until the turn comes by."""
        for stream_id, sequence in sorted({(one.stream_id, one.sequence) for one in self._report.damage}):
            with self._index.read() as snapshot:
                row = snapshot.chunk(stream_id, sequence)
                stream = next((one for one in snapshot.streams() if one.id == stream_id), None)
            if row is not None and stream is not None and row.sealed and row.volume == self._volume.id:
                _, damaged = self._verify(stream, row)
                if self._declare(stream, row, damaged):
                    self._save()
            self._tell()
        self._again_s = time.monotonic() + AGAIN_S

    def _forget_deleted(self) -> None:
        """Damage of chunks that were deleted is none."""
        with self._index.read() as snapshot:
            self._report.damage = [one for one in self._report.damage if snapshot.knows(one.stream_id, one.sequence)]

    def _next(self) -> tuple[StreamRow, ChunkRow] | None:
        """The first sealed chunk after the last one, by stream and time."""
        at_stream, at_us = self._report.at_stream, self._report.at_us
        with self._index.read() as snapshot:
            for stream in sorted(row for row in snapshot.streams() if row.id >= at_stream):
                after_us = at_us + 1 if stream.id == at_stream else 0
                for row in snapshot.chunks_from(stream.id, after_us):
                    if row.sealed and row.volume == self._volume.id:
                        return stream, row
        return None

    def _scrub(self, stream: StreamRow, row: ChunkRow) -> None:
        """The turn's next chunk."""
        found, damaged = self._verify(stream, row)
        is_news = self._declare(stream, row, damaged)
        report = self._report
        report.cycle.chunks += found is not None or bool(damaged)
        report.cycle.damaged += len(damaged)
        report.cycle.fragments += found.fragments if found is not None else 0
        report.cycle.bytes += found.bytes if found is not None else 0
        report.at_stream, report.at_us = row.stream_id, row.start_us
        if is_news or time.monotonic() - self._saved_s > SAVE_S:
            self._save()

    def _verify(self, stream: StreamRow, row: ChunkRow) -> tuple[Verified | None, list[Damaged]]:
        """What is wrong with a chunk; nothing with one that was deleted meanwhile."""
        path = chunk_path(self._volume.root, stream.name, row.start_us, row.sequence)
        found: Verified | None = None
        try:
            found = verify_chunk(path, pace=self._pace)
            damaged = found.damaged
        except (DamageError, OSError) as error:
            what = str(error) if isinstance(error, DamageError) else f"it cannot be read: {error.strerror}"
            damaged = [Damaged(0, 0, row.size, row.start_us, max(row.end_us, row.start_us + 1), what)]
        if damaged:
            self._prove()
            if not self._still(row):
                return None, []
        if found is not None and found.end is not None and (why := contradiction(self._index, row, found)):
            tell(self._index.path, "proven", f"{path} has {why} than the index says")
        for finding in found.findings if found is not None else []:
            self._report.note(f"{path}: {finding}")
        return found, damaged

    def _prove(self) -> None:
        """The volume is there and its disk answers, asked past the page cache: else no chunk is to blame."""
        with DirectReader(self._volume.root / IDENTITY_NAME) as reader:
            reader.read(0, 1)
        Volume.open(self._volume.root, self._volume.id)

    def _still(self, row: ChunkRow) -> bool:
        """The chunk was not deleted meanwhile."""
        with self._index.read() as snapshot:
            return snapshot.chunk(row.stream_id, row.sequence) == row

    def _declare(self, stream: StreamRow, row: ChunkRow, damaged: list[Damaged]) -> bool:
        """Let this be what is known of a chunk's damage, in the index and in the report; True when that is news."""
        now_us = wall_us()
        told = [
            Damage(
                stream.name, stream.id, row.sequence, one.offset, one.length, one.start_us, one.end_us, one.what, now_us
            )
            for one in damaged
        ]
        ranges = [(one.start_us, one.end_us) for one in damaged]
        with self._index.read() as snapshot:
            is_news = sorted(ranges) != snapshot.damage(row)
        if is_news:
            self._committer.call(lambda one: one.declare_damage(row, ranges)).result(COMMIT_WAIT_S)
        is_news = self._report.replace(row.stream_id, row.sequence, told) or is_news
        if is_news and told:
            log.error("damage was found; it is a gap now", stream=stream.name, chunk=row.sequence, fragments=len(told))
        return is_news

    def _pace(self, size: int) -> None:
        """Wait until so much may be read."""
        while self._busy():
            if self.ended.wait(BUSY_WAIT_S):
                raise _Ended
        now_s = time.monotonic()
        if self._bytes_s_max:
            wait_s, self._due_s = self._due_s - now_s, max(self._due_s, now_s) + size / self._bytes_s_max
            if wait_s > 0:
                self.ended.wait(wait_s)
        if self.ended.is_set():
            raise _Ended

    def _save(self) -> None:
        """Keep the report; on a full volume a restart reads some chunks again, and their gaps are in the index."""
        self._saved_s = time.monotonic()
        try:
            with proven(self._volume) as root:
                write_report(root, self._report)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise

    def _tell(self, detail: str = "") -> None:
        cycle, last = self._report.cycle, self._report.last
        self.status = ScrubStatus(
            running=bool(cycle.started_us and not cycle.ended_us),
            detail=detail,
            started_us=cycle.started_us,
            chunks=cycle.chunks,
            bytes=cycle.bytes,
            damaged=cycle.damaged,
            known_damage=len(self._report.damage),
            findings=len(self._report.findings),
            last_ended_us=last.ended_us if last is not None else 0,
            last_bytes=last.bytes if last is not None else 0,
            last_damaged=last.damaged if last is not None else 0,
        )
