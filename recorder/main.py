"""The recorder as a program: wires volumes, index, register and sessions, and ends them in order.

Kept true: nothing is recorded before what an earlier process left has been put right; at the end every session hands
over what it holds, chunks are sealed, volumes synced, and the index committed, in that order.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from base.claims import StreamClaims
from base.clock import Clock, SystemClock
from base.config import Config
from base.datadir import DataDir
from base.service import stop_event
from chunks.records import StoredRecord
from chunks.writer import VolumeWriter
from index import Index
from recorder.committer import Committer
from recorder.fleet import Fleet
from recorder.report import Reporter
from recorder.startup import resume, resume_of
from recorder.volumes import Volumes, open_volumes

TICK_S: Final = 0.25
REPORT_TICKS: Final = 4
ABSENCE_TICKS: Final = 20

log = structlog.get_logger("recorder")


async def run(datadir: DataDir, config: Config, clock: Clock | None = None) -> None:
    """Record until the program's stop event is set. The caller holds the data folder's lock."""
    recorder = Recorder(datadir, config, clock or SystemClock())
    await recorder.run()


class Recorder:
    """One recorder process."""

    def __init__(self, datadir: DataDir, config: Config, clock: Clock) -> None:
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        opened = open_volumes(datadir, config)
        self._index = Index.open(datadir.index_path, create=True)
        self._committer = Committer(self._index)
        self._volumes = Volumes(opened, config, self._committer.submit, self._volume_failed)
        resumed = resume(self._index, datadir.volumes)
        self._claims = StreamClaims(datadir.run_path)
        self.fleet = Fleet(
            self._index, self._committer, self._volumes, datadir.node_id, config, clock, resumed, self._claims,
            lambda snapshot, stream: resume_of(snapshot, stream, False, datadir.volumes),
        )  # fmt: skip
        self._reporter = Reporter(datadir.status_path, clock.wall_us(), self._committer, self._volumes)
        self._lag_s = 0.0

    async def run(self) -> None:
        """Record until stopped, then end in order."""
        self._committer.start()
        self._volumes.start()
        log.info("recorder ready", volumes=len(self._volumes.writers), streams=len(self.fleet.sessions))
        stop = stop_event()
        try:
            await self._ticks(stop)
        finally:
            await self._end()

    async def _ticks(self, stop: asyncio.Event) -> None:
        """The recorder's slow pulse: flush, register, absences, status. Frames do not pass here."""
        tick = 0
        while not stop.is_set():
            if tick % REPORT_TICKS == 0:
                await self.fleet.follow_register()
                self._report()
            if tick % ABSENCE_TICKS == 0:
                self._publish_absences()
            self.fleet.tick(self._clock.monotonic_us())
            before_us = self._clock.monotonic_us()
            await self._pause(stop)
            self._lag_s = max(0.0, (self._clock.monotonic_us() - before_us) / 1e6 - TICK_S)
            tick += 1

    async def _pause(self, stop: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(TICK_S):
                await stop.wait()
        except TimeoutError:
            return

    def _report(self) -> None:
        try:
            self._reporter.write(self._clock.wall_us(), self._lag_s, list(self.fleet.sessions.values()))
        except OSError as error:
            log.error("status file cannot be written; recording goes on", error=str(error))

    def _publish_absences(self) -> None:
        gaps: list[StoredRecord] = self.fleet.absences(self._clock.wall_us())
        if gaps:
            self._committer.offer(gaps)

    def _volume_failed(self, writer: VolumeWriter, error: Exception) -> None:
        """Called in the failed volume's thread."""
        log.error("volume failed; its streams go on elsewhere", volume=str(writer.volume.root), error=str(error))
        self._loop.call_soon_threadsafe(self.fleet.volume_failed, writer)

    async def _end(self) -> None:
        log.info("stopping: sealing chunks")
        await self.fleet.stop()
        await asyncio.to_thread(self._volumes.stop)
        await asyncio.to_thread(self._committer.stop)
        self._report()
        self._index.close()
        self._claims.close()
        log.info("stopped in order")
