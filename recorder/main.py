"""A recorder process as a program: wires volumes, index, register and sessions, and ends them in order.

Kept true: nothing is recorded before it is known what an earlier process left on the volumes that answer; a volume that
does not answer is not waited for, nor the data folder's disk while it records; at the end every session hands over what
it holds, chunks are sealed, volumes synced, and the index committed, in that order.
"""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Final

import structlog

from base.claims import StreamClaims
from base.clock import Clock, SystemClock
from base.config import Config
from base.datadir import DataDir
from base.history import history_path
from base.identities import Identities
from base.service import stop_event
from base.units import US
from chunks.records import StoredRecord
from chunks.volume import Volume
from chunks.writer import VolumeWriter
from index import Index
from index.pulse import Pulse
from index.schema import TIME_MAX_US
from recorder.aside import Aside
from recorder.carried import CarriedOffset
from recorder.committer import Committer
from recorder.fleet import Fleet
from recorder.historian import Historian
from recorder.indexcare import IndexCare
from recorder.ledgers import Ledgers, make_keys
from recorder.report import Reporter, package_version
from recorder.retention import Retention
from recorder.scrub import Scrubber
from recorder.share import WHOLE, Share
from recorder.signing import Look, SignatureWatch, entry_of
from recorder.startup import Past, chunk_reader, resume_of
from recorder.storedclock import StoredClock
from recorder.takein import TakeIn
from recorder.volumes import Volumes, all_volumes, draining_volumes

TICK_S: Final = 0.25
REPORT_TICKS: Final = 4
ABSENCE_TICKS: Final = 20
BUSY_LAG_S: Final = 0.1  # an event loop this late has no time to give away

log = structlog.get_logger("recorder")


async def run(datadir: DataDir, config: Config, share: Share = WHOLE, clock: Clock | None = None) -> None:
    """Record this share of the streams until the stop event is set. The caller holds the data folder's lock."""
    recorder = Recorder(datadir, share.part_of(config), share, clock or SystemClock())
    await recorder.run()


class Recorder:
    """One recorder process."""

    def __init__(self, datadir: DataDir, config: Config, share: Share, clock: Clock) -> None:
        self._share = share
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._config = config
        self._node = datadir.node_id
        self._index = Index.open(datadir.index_path, create=True)
        self._datadir = datadir
        self._committer = Committer(self._index, chunk_reader(self._index, lambda: self._datadir.volumes))
        self._past = Past(self._index, self._committer, share)
        self._ledgers = Ledgers(datadir, config, share, package_version()) if config.evidence.ledger else None
        self._volumes = Volumes(
            all_volumes(datadir, config),
            draining_volumes(datadir, config),
            config,
            on_commit=self._committer.submit,
            on_failed=self._volume_failed,
            settle=self._past.settle,
            share=share,
            witness=self._ledgers.witness if self._ledgers is not None else None,
        )
        self._claims = StreamClaims(datadir.run_path)
        self._carried = CarriedOffset(datadir.run_path)
        self._lag_s = 0.0
        self._care = IndexCare(
            self._index, self._node, self._committer, self._past,
            TakeIn(self._index, self._committer, self._is_busy), self._present, share.first,
        )  # fmt: skip
        self._scrubber = Scrubber(
            self._index, self._committer, config.recorder.scrub_bytes_s_max,
            config.recorder.scrub_days if share.first else 0, self._is_busy,
        )  # fmt: skip
        self._signing = SignatureWatch(
            self._index, datadir.path, config.evidence.camera_signature_s, config.evidence.camera_trust, self._is_busy,
            self._note_signature,
        )  # fmt: skip
        self._reporter = Reporter(
            datadir.run_path, share, clock.wall_us(), self._committer, self._volumes, self._care, self._scrubber,
            self._carried, self._signing, self._ledgers,
        )  # fmt: skip
        self._aside = Aside("follower")
        self._reporter.recoveries = self._past.recoveries
        self._historian = Historian(history_path(datadir.path), share.worker)
        self._reporter.listener = self._historian.take
        self._following: asyncio.Task[None] | None = None
        self._retention: Retention | None = None

    async def run(self) -> None:
        """Record until stopped, then end in order."""
        self._committer.start()
        await self._volumes.start()
        resumed = self._past.resume(self._volumes.complete)
        stored = StoredClock(
            self._clock,
            newest_us=self._past.newest_us(),
            carried_us=self._carried.read(),
            step_max_us=self._config.recorder.clock_step_max_s * US,
            vouched=self._config.recorder.clock_vouched,
        )
        self.fleet = Fleet(
            self._index, self._committer, self._volumes, self._node, self._config, self._clock, stored, resumed,
            self._claims, Identities(self._datadir.path),
            lambda snapshot, stream: resume_of(snapshot, stream, False, self._datadir.volumes),
            self._share, self._aside, self._ledgers,
        )  # fmt: skip
        self._index.pulse = Pulse(self._index.path / "data.mdb")
        if self._ledgers is not None:
            self._ledgers.start(stored, lambda: self._datadir.volumes, self._oldest_us)
        else:
            threading.Thread(
                target=make_keys, args=(self._datadir, self._config, self._clock.wall_us()), name="keys", daemon=True
            ).start()
        self._start_retention(stored)
        self._care.start()
        self._signing.start()
        self._historian.start()
        log.info("recorder ready", volumes=len(self._volumes.slots), complete=self._volumes.complete)
        stop = stop_event()
        try:
            await self._ticks(stop)
        finally:
            await self._end()

    def _oldest_us(self, stream: str) -> int:
        """Where the footage of a stream begins; as late as can be when there is none, 0 when nobody knows yet."""
        with self._index.read() as snapshot:
            if not (snapshot.is_whole() and snapshot.is_read_in()):
                return 0
            row = snapshot.stream(stream)
            first = next(snapshot.chunks_from(row.id, 0), None) if row is not None else None
            return first.start_us if first is not None else TIME_MAX_US

    def _start_retention(self, stored: StoredClock) -> None:
        """One worker deletes, of all streams."""
        self._retention = self._reporter.retention = Retention(
            self._index, self._committer, self._config, self._datadir, stored, deletes=self._share.first
        )
        self._retention.start()

    async def _ticks(self, stop: asyncio.Event) -> None:
        """The recorder's slow pulse: flush, register, absences, status. Frames do not pass here."""
        tick = 0
        while not stop.is_set():
            self._volumes.tick()
            if self._retention is not None:
                self._retention.follow(self._volumes.slots)
            if tick % REPORT_TICKS == 0:
                self._start_following()
                answering = self._volumes.answering()
                self._scrubber.follow(self._volumes.readable())
                self._signing.follow(self.fleet.recording(), {volume.id: volume.root for volume in answering})
                self.fleet.follow_intents(self._clock.wall_us())
                self._volumes.count_streams(self.fleet.writers())
                self._report()
            if tick % ABSENCE_TICKS == 0:
                self._publish_absences()
            self.fleet.tick(self._clock.monotonic_us())
            before_us = self._clock.monotonic_us()
            await self._pause(stop)
            self._lag_s = max(self._lag_s, (self._clock.monotonic_us() - before_us) / 1e6 - TICK_S)
            tick += 1

    def _start_following(self) -> None:
        """Beside the pulse, as it waits for the index and the data folder."""
        if self._following is not None and self._following.done():
            error = self._following.exception()
            if error is not None:
                log.error("cameras and volumes cannot be followed; it is tried again", error=str(error))
            self._following = None
        if self._following is None:
            self._following = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        """What the operator changed: cameras, and volumes."""
        await self.fleet.follow_register()
        self._datadir, volumes, draining = await self._aside.call(self._look_at_folder)
        self._volumes.follow(volumes, draining)

    def _look_at_folder(self) -> tuple[DataDir, dict[bytes, Path], frozenset[bytes]]:
        """In a thread, as names are looked up on the folder's disk and the volumes'."""
        datadir, config = DataDir.open(self._datadir.path), self._config
        return datadir, all_volumes(datadir, config), draining_volumes(datadir, config)

    def _present(self) -> tuple[list[Volume], bool]:
        return self._volumes.answering(), self._volumes.complete

    def _note_signature(self, look: Look) -> None:
        """Called in the thread that looks."""
        if self._ledgers is not None:
            self._ledgers.note(look.stream.id, look.stream.name, entry_of(look))

    def _is_busy(self) -> bool:
        return self._lag_s > BUSY_LAG_S or self._volumes.busy

    async def _pause(self, stop: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(TICK_S):
                await stop.wait()
        except TimeoutError:
            return

    def _report(self) -> None:
        if self._reporter.tell(self._clock.wall_us(), self._lag_s, self.fleet):
            self._lag_s = 0.0

    def _publish_absences(self) -> None:
        gaps: list[StoredRecord] = self.fleet.absences(self.fleet.stored.wall_us())
        if gaps:
            self._committer.offer(gaps)

    def _volume_failed(self, writer: VolumeWriter, error: Exception) -> None:
        """Called in the failed volume's thread."""
        log.error("volume failed; its streams go on elsewhere", volume=str(writer.volume.root), error=str(error))
        if self._ledgers is not None:
            self._ledgers.volume_failed(writer.volume.id)
        self._loop.call_soon_threadsafe(self.fleet.volume_failed, writer)

    async def _end(self) -> None:
        log.info("stopping: sealing chunks")
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        if self._retention is not None:
            await asyncio.to_thread(self._retention.end)
        await asyncio.to_thread(self._scrubber.stop)
        await asyncio.to_thread(self._signing.stop)
        await asyncio.to_thread(self._care.stop)
        await asyncio.to_thread(self._past.end)
        await asyncio.to_thread(self._historian.end)
        await self.fleet.stop()
        await asyncio.to_thread(self._volumes.stop)
        if self._ledgers is not None:
            await asyncio.to_thread(self._ledgers.stop)
        answers = await asyncio.to_thread(self._committer.stop)
        await self._reporter.end(self._clock.wall_us(), self._lag_s, self.fleet)
        self._aside.end()
        if answers:
            self._index.close()
        self._claims.close()
        log.info("stopped in order")
