"""All streams of this recorder process: the cameras wanted by the register against the sessions that run.

Kept true: within a second of a register change there is exactly one session per enabled stream of this process's share,
and none for others; removing a camera ends its session in order and never touches what it recorded; the register, the
claims and where a stream goes on are asked in a thread, as the event loop waits for no disk.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from functools import partial

import msgspec
import structlog

from base.claims import StreamClaims
from base.clock import Clock
from base.config import Config
from base.identities import Identities
from chunks.records import StoredRecord
from chunks.writer import Held, VolumeWriter
from index import Camera, Index, Snapshot, StreamRow
from recorder.admission import SPREAD_S_PER_100, Admission
from recorder.aside import Aside
from recorder.committer import Committer
from recorder.ledgers import Ledgers
from recorder.overload import Overload
from recorder.pipeline import Pipeline, Resume, Rotation
from recorder.prerecord import Ring, RingBudget
from recorder.session import Session
from recorder.share import Share
from recorder.shedding import Shedding
from recorder.storedclock import StoredClock
from recorder.volumes import Volumes

log = structlog.get_logger("recorder.fleet")


class Fleet:
    """Sessions by stream name."""

    def __init__(
        self,
        index: Index,
        committer: Committer,
        volumes: Volumes,
        node: bytes,
        config: Config,
        clock: Clock,
        stored: StoredClock,
        resumed: dict[int, Resume],
        claims: StreamClaims,
        identities: Identities,
        past: Callable[[Snapshot, StreamRow], Resume],
        share: Share,
        aside: Aside,
        ledgers: Ledgers | None = None,
    ) -> None:
        self._ledgers = ledgers
        self.sessions: dict[str, Session] = {}
        self.overload = Overload(clock)
        self._shedding = Shedding(
            clock, self.overload.alarms, self.sessions.values, config.recorder.loop_lag_ms_max * 1000
        )
        self._shedding.start()
        self._index = index
        self._committer = committer
        self._volumes = volumes
        self._node = node
        self._config = config
        self._clock = clock
        self.stored = stored
        self._resumed = resumed
        self._claims = claims
        self._identities = identities
        self._past = past
        self._share = share
        self._aside = aside
        self._pipelines: dict[int, Pipeline] = {}
        self.admission = Admission(config.recorder.handshakes_max, clock)
        self._rotation = Rotation(config.recorder.chunk_s * 1_000_000, config.recorder.chunk_bytes_max)
        self._ring_budget = RingBudget(config.recorder.pre_record_bytes_max)
        self._register_version = -1
        self._busy: list[str] = []  # wanted, and claimed by another process

    async def follow_register(self) -> None:
        """Start, restart and stop sessions so that they match the register; cheap when nothing changed."""
        if await self._aside.call(self._identities.follow):
            for session in self.sessions.values():
                session.recognise()
        found = await self._aside.call(self._read_register)
        if found is None:
            return
        version, wanted, known = found
        rows = known | await self._make_streams([name for name in wanted if name not in known])
        wanted = {name: one for name, one in wanted.items() if self._share.owns(rows[name].id)}
        over = [name for name, one in self.sessions.items() if not _same_call(one, wanted.get(name))]
        await asyncio.gather(*(self._stop_session(name) for name in over))
        for name, session in self.sessions.items():
            session.change(wanted[name][0])
        fresh = [name for name in wanted if name not in self.sessions]
        resumes = await self._aside.call(lambda: self._take([rows[name] for name in fresh]))
        busy = [name for name in fresh if rows[name].id not in resumes]
        fresh = [name for name in fresh if name not in busy]
        spread_s = SPREAD_S_PER_100 * len(fresh) / 100
        for name in fresh:
            stream = rows[name]
            self._start_session(stream, resumes[stream.id], *wanted[name], delay_s=random.uniform(0, spread_s))
        if busy != self._busy:
            log.warning("streams that an import writes are recorded when it ends", streams=busy)
            self._busy = busy
        self._register_version = -1 if busy else version

    def _read_register(self) -> tuple[int, dict[str, tuple[Camera, str]], dict[str, StreamRow]] | None:
        """Its version, what it wants, and the streams of that which there are; None when nothing changed."""
        with self._index.read() as snapshot:
            version = snapshot.register_version()
            if version == self._register_version:
                return None
            wanted = _wanted(snapshot.cameras())
            return version, wanted, {name: row for name in wanted if (row := snapshot.stream(name)) is not None}

    def _take(self, streams: list[StreamRow]) -> dict[int, Resume]:
        """Claim them; where those go on that no other process has."""
        mine = [one for one in streams if self._claims.take(one.id)]
        if not mine:
            return {}
        with self._index.read() as snapshot:
            return {one.id: self._resume(snapshot, one) for one in mine}

    async def _make_streams(self, names: list[str]) -> dict[str, StreamRow]:
        if not names:
            return {}
        future = self._committer.call(lambda transaction: {name: transaction.ensure_stream(name) for name in names})
        return await asyncio.wrap_future(future)

    def _start_session(self, stream: StreamRow, resume: Resume, camera: Camera, url: str, delay_s: float) -> None:
        pipeline = self._pipelines.get(stream.id)
        if pipeline is None:
            pipeline = self._pipelines[stream.id] = Pipeline(
                stream,
                resume,
                node=self._node,
                rotation=self._rotation,
                clock=self.stored,
                pick_volume=self._volumes.pick,
                ring=Ring(0, self._ring_budget),
                overload=self.overload,
            )
        session = Session(
            pipeline,
            camera,
            url,
            recorder=self._config.recorder,
            rtsp=self._config.rtsp,
            admission=self.admission,
            identities=self._identities,
            clock=self._clock,
            note=partial(self._ledgers.note, stream.id, stream.name) if self._ledgers is not None else None,
        )
        self.sessions[stream.name] = session
        session.start(delay_s)
        log.info("stream added", stream=stream.name)

    def _resume(self, snapshot: Snapshot, stream: StreamRow) -> Resume:
        """Where the stream goes on: as found at the start, unless a file was imported since."""
        resumed = self._resumed.get(stream.id, Resume())
        if stream.id in self._pipelines or snapshot.next_sequence(stream.id) <= resumed.next_sequence:
            return resumed  # a pipeline knows it by itself
        return self._past(snapshot, stream)

    async def _stop_session(self, name: str) -> None:
        await self.sessions.pop(name).stop()
        log.info("stream removed", stream=name)

    def tick(self, monotonic_us: int) -> None:
        """Flush silent cameras' fragments."""
        for session in self.sessions.values():
            session.tick(monotonic_us)

    def follow_intents(self, wall_us: int) -> None:
        """Begin and end recordings by schedule and request; called about once a second."""
        self.overload.tick()
        for session in self.sessions.values():
            session.follow_intent(wall_us)

    def absences(self, now_us: int) -> list[StoredRecord]:
        """The gaps that are open now, for streams that should record."""
        gaps = (session.pipeline.absence(now_us) for session in self.sessions.values())
        return [gap for gap in gaps if gap is not None]

    def recording(self) -> list[StreamRow]:
        """The streams of which something is stored now."""
        return [one.pipeline.stream for one in self.sessions.values() if one.pipeline.recording]

    def writers(self) -> list[VolumeWriter]:
        """The writer of each stream that has a session and one."""
        found = (session.pipeline.writer for session in self.sessions.values())
        return [writer for writer in found if writer is not None]

    def volume_failed(self, writer: VolumeWriter) -> None:
        """Move the failed volume's streams, with what it had not made durable."""
        held: dict[int, list[Held]] = {}
        for item in writer.unsynced():
            held.setdefault(item[2].stream_id, []).append(item)
        gaps: list[StoredRecord] = []
        for pipeline in self._pipelines.values():
            gap = pipeline.volume_failed(writer, held.get(pipeline.stream.id, []))
            if gap is not None:
                gaps.append(gap)
                if self._ledgers is not None:
                    self._ledgers.gap(pipeline.stream.name, gap)
        if gaps:
            self._committer.offer(gaps)

    async def stop(self) -> None:
        """End all sessions in order."""
        await self._shedding.stop()
        results = await asyncio.gather(*(one.stop() for one in self.sessions.values()), return_exceptions=True)
        for error in (result for result in results if isinstance(result, BaseException)):
            log.error("a session failed while it was stopped", error=repr(error))


def _same_call(session: Session, wanted: tuple[Camera, str] | None) -> bool:
    """Whether a session's connection serves what is wanted now; when it is recorded makes no difference."""
    if wanted is None or wanted[1] != session.url:
        return False
    return _connection(wanted[0]) == _connection(session.camera)


def _connection(camera: Camera) -> Camera:
    return msgspec.structs.replace(
        camera, record="continuous", schedule="", pre_record_s=0, demanded_until_us=0, priority="normal"
    )


def _wanted(cameras: list[Camera]) -> dict[str, tuple[Camera, str]]:
    """Stream name → (camera, url) of every stream that should record."""
    wanted: dict[str, tuple[Camera, str]] = {}
    for camera in cameras:
        if not camera.enabled:
            continue
        wanted[f"{camera.id}.main"] = (camera, camera.main)
        if camera.sub:
            wanted[f"{camera.id}.sub"] = (camera, camera.sub)
    return wanted
