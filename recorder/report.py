"""What this recorder process tells of itself: one status file, replaced once a second.

Kept true: the event loop never waits for the file's disk: it makes the word, a thread of its own writes it, and while
one has not been written the next ones are left out and counted; rates are averages over the last `WINDOW` reports; no
secret is in the file.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from base.clock import monotonic_us
from base.media import VideoConfig
from base.status import RecorderStatus, RecoveryStatus, StreamStatus, VolumeStatus, status_writer
from base.units import format_time
from chunks.codecs import codec_string, dimensions
from evidence.mediasigning import Verdict
from native.slab import pool
from recorder.aside import Aside, Patience
from recorder.carried import CarriedOffset
from recorder.committer import Committer
from recorder.fleet import Fleet
from recorder.indexcare import IndexCare
from recorder.ledgers import Ledgers
from recorder.retention import Retention
from recorder.scrub import Scrubber
from recorder.session import Session
from recorder.share import Share
from recorder.signing import SignatureWatch
from recorder.slot import Slot
from recorder.volumes import Volumes

WINDOW: Final = 6
END_WAIT_S: Final = 2.0
HANGS: Final = "{} does not answer; recording goes on, nothing is lost; check its disk"
STOPPED: Final = (
    "the camera signed its pictures until {until} and does not any more; if that is meant, "
    "`keyreel camera accept {camera}`"
)
ANSWERS: Final = "{} answers again"


def package_version() -> str:
    """Version of the installed distribution."""
    try:
        return version("keyreel")
    except PackageNotFoundError:
        return "0+unknown"


@lru_cache(maxsize=4096)  # one parse per epoch, not one per stream and second
def _describe(video: VideoConfig) -> tuple[str, int, int]:
    return codec_string(video), *dimensions(video)


class Reporter:
    """Assembles and writes the status file."""

    def __init__(
        self,
        run_path: Path,
        share: Share,
        started_us: int,
        committer: Committer,
        volumes: Volumes,
        care: IndexCare,
        scrubber: Scrubber,
        carried: CarriedOffset,
        signing: SignatureWatch,
        ledgers: Ledgers | None = None,
    ) -> None:
        self._ledgers = ledgers
        self._run_path = run_path
        self._carried = carried
        self._signing = signing
        self._aside = Aside("reporter")
        self._dropped = 0
        self._patient = [
            Patience(HANGS.format(what), ANSWERS.format(what)) for what in ("the data folder", "the index")
        ]
        self._share = share
        self._started_us = started_us
        self._version = package_version()
        self._committer = committer
        self._volumes = volumes
        self.retention: Retention | None = None
        self.recoveries: Mapping[bytes, RecoveryStatus] = {}
        self.listener: Callable[[RecorderStatus], None] = lambda _status: None
        self._care = care
        self._scrubber = scrubber
        self._history: dict[str, deque[tuple[int, int, int]]] = {}

    def tell(self, now_us: int, loop_lag_s: float, fleet: Fleet) -> bool:
        """Have the state of this moment written; False, and nothing is, while the last one has not been."""
        waits_s = self._aside.waits_s
        for patience, one_s in zip(self._patient, (waits_s, self._committer.hung_s), strict=True):
            patience.look(one_s)
        if waits_s:
            self._dropped += 1
            return False
        status = self._status(now_us, loop_lag_s, fleet)
        self.listener(status)
        return self._aside.offer(self._word(status, fleet))

    async def end(self, now_us: int, loop_lag_s: float, fleet: Fleet) -> None:
        """The last word; not waited for without end."""
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(END_WAIT_S):
                await self._aside.call(self._word(self._status(now_us, loop_lag_s, fleet), fleet))
        self._aside.end()

    def _word(self, status: RecorderStatus, fleet: Fleet) -> Callable[[], None]:
        """Writes, when it is called, what is so now."""
        write = status_writer(self._run_path, status)
        offset_us = fleet.stored.offset_us()

        def job() -> None:
            write()
            self._carried.write(offset_us)

        return job

    def _status(self, now_us: int, loop_lag_s: float, fleet: Fleet) -> RecorderStatus:
        used_bytes, _, bound_bytes = pool()
        return RecorderStatus(
            worker=self._share.worker,
            workers=self._share.workers,
            pid=os.getpid(),
            started_us=self._started_us,
            updated_us=now_us,
            version=self._version,
            loop_lag_ms=round(loop_lag_s * 1e3, 3),
            handshakes=fleet.admission.taken,
            handshakes_peak=fleet.admission.taken_max,
            index_commits=self._committer.commits,
            index_behind_chunks=self._committer.behind,
            index_backlog_records=self._committer.backlog_records,
            index_hung_s=round(self._committer.hung_s, 1),
            reports_dropped=self._dropped,
            clock=fleet.stored.status(),
            ledger=self._ledgers.status if self._ledgers is not None else None,
            index=self._care.status,
            streams=[self._stream(session) for session in fleet.sessions.values()],
            volumes=self._volume_states(),
            media_bytes=used_bytes,
            media_bytes_max=bound_bytes,
            overload_episodes=fleet.overload.alarms.count,
            overloads=fleet.overload.alarms.told(),
            recoveries=list(self.recoveries.values()),
        )

    def _stream(self, session: Session) -> StreamStatus:
        pipeline = session.pipeline
        counters = pipeline.counters
        bitrate, frame_rate = self._rates(pipeline.stream.name, monotonic_us(), counters.media_bytes, counters.frames)
        status = StreamStatus(
            name=pipeline.stream.name,
            state=session.state,
            reason=session.reason,
            detail=session.detail,
            since_us=session.since_us,
            bitrate_bps=bitrate,
            frame_rate=frame_rate,
            frames=counters.frames,
            key_frames=counters.key_frames,
            media_bytes=counters.media_bytes,
            dropped_gops=counters.dropped_gops,
            reconnects=session.reconnects,
            retry_at_us=session.retry_at_us,
            last_frame_us=counters.last_frame_us,
            transport=session.transport,
            durable_until_us=self._committer.durable_until_us.get(pipeline.stream.id, 0),
            clock_offset_us=session.clock_offset_us(),
            time_error_us=pipeline.time_error_us,
            media_jumps=counters.media_jumps,
        )
        if self.retention is not None:
            self.retention.describe_stream(pipeline.stream.id, pipeline.writer, status)
        self._add_codecs(status, session)
        self._add_network(status, session)
        self._add_signature(status)
        return status

    def _add_signature(self, status: StreamStatus) -> None:
        """What the camera signs; where nothing worse is to be told, that it stopped is the stream's reason."""
        status.signature = seen = self._signing.told(status.name)
        if seen is None or status.state != "recording" or status.reason:
            return
        if seen.stopped_us:
            status.reason = "signature-stopped"
            status.detail = STOPPED.format(until=format_time(seen.signed_us), camera=status.name.rpartition(".")[0])
        elif seen.verdict == Verdict.NOT_AUTHENTIC:
            status.reason, status.detail = "signature-wrong", f"the camera's signature: {seen.detail}"

    @staticmethod
    def _add_codecs(status: StreamStatus, session: Session) -> None:
        config = session.pipeline.config
        if config is not None:
            status.codec, status.width, status.height = _describe(config.video)
            status.audio = config.audio.codec if config.audio is not None else ""

    @staticmethod
    def _add_network(status: StreamStatus, session: Session) -> None:
        """Packet counters over all of the session's connections."""
        status.packets, status.lost_packets, status.reordered_packets, status.metadata_packets = session.packet_totals()

    def _rates(self, name: str, now_us: int, media_bytes: int, frames: int) -> tuple[float, float]:
        history = self._history.setdefault(name, deque(maxlen=WINDOW))
        history.append((now_us, media_bytes, frames))
        then_us, bytes_then, frames_then = history[0]
        span_s = (now_us - then_us) / 1e6
        if span_s <= 0:
            return 0.0, 0.0
        return round((media_bytes - bytes_then) * 8 / span_s, 1), round((frames - frames_then) / span_s, 2)

    def _volume_states(self) -> list[VolumeStatus]:
        return [self._volume(slot) for slot in self._volumes.slots.values()]

    def _volume(self, slot: Slot) -> VolumeStatus:
        status = VolumeStatus(
            id=slot.id.hex(),
            path=str(slot.path),
            state=slot.state,
            reason=slot.reason,
            detail=slot.detail,
            since_us=slot.since_us,
            streams=self._volumes.streams(slot),
            free_bytes=slot.free_bytes,
            total_bytes=slot.total_bytes,
            scrub=self._scrubber.status(slot.id),
        )
        if self.retention is not None:
            self.retention.describe(slot, status)
        writer = slot.writer
        if writer is not None:
            status.queue_bytes = writer.queue_bytes
            status.written_bytes = writer.written_bytes
            status.syncs = writer.syncs
            status.last_sync_ms = round(writer.last_sync_s * 1e3, 2)
        return status
