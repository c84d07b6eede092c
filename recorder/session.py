"""One supervised task per stream: call the camera, play, record until it ends, wait, call again.

Kept true: nothing a camera does ends this task or touches another stream; each failure becomes a state, a reason and
a gap's cause; a session that delivered resets the back-off; a camera is set up in a place that admission gave, and
leaves it within `HANDSHAKE_ANSWERS` times the limit of one answer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from base.clock import Clock
from base.config import RecorderConfig, RtspConfig
from base.errors import CameraError
from base.identities import Identities
from base.log import redact
from base.schemes import AV
from base.status import StreamState
from base.units import US, ticks_to_us
from chunks.records import GapCause
from evidence.ledger import Session as SessionNote
from evidence.ledger import SessionEvent
from index import Camera
from native.fragment import FragmentBuilder
from native.moof import Fragment
from native.sink import Sink
from recorder.admission import Admission, neighbourhood
from recorder.backoff import Backoff
from recorder.dial import dial
from recorder.intent import wanted
from recorder.overload import WORD, rank_of
from recorder.pipeline import Pipeline
from recorder.shedding import TEXT as PAUSED_TEXT
from rtsp.sdp import Presentation, Track
from sources.contract import Source

log = structlog.get_logger("recorder.session")

# All answers of a set-up together may take as long as this many; good cameras take a tenth of one.
HANDSHAKE_ANSWERS: Final = 2
STANDBY_TEXT: Final = {
    "continuous": "",
    "schedule": "connected; outside the camera's schedule",
    "demand": "connected; nobody asked for a recording",
}
STRANGER_TEXT: Final = (
    "another device seems to answer at this address: {differs}; "
    "if it was replaced or updated, `keyreel camera accept {camera}`"
)
Note = Callable[[SessionNote], None]  # takes what the stream's ledger is to say of its sessions
# What the absence of video is called in the ledger, by the reason a session ended with. The rest is OFFLINE.
_CAUSES: Final = {"stalled": GapCause.NO_MEDIA, "codec": GapCause.UNDECODABLE}


@dataclass(slots=True)
class Tracks:
    """What of a camera's presentation is recorded."""

    video: Track
    audio: Track | None
    counted: list[Track] = field(default_factory=list)


def choose_tracks(presentation: Presentation) -> Tracks:
    """First H.264/H.265 track, first audio track we store; ONVIF metadata is received and counted."""
    video = next((t for t in presentation.tracks if t.video is not None), None)
    if video is None:
        offered = ", ".join(t.codec for t in presentation.tracks) or "no track"
        raise CameraError(f"the camera offers {offered}; set it to H.264 or H.265", reason="codec")
    audio = next((t for t in presentation.tracks if t.audio is not None), None)
    return Tracks(video, audio, [t for t in presentation.tracks if t.kind == "metadata"])


class Session:
    """The life of one stream's camera connection."""

    def __init__(
        self,
        pipeline: Pipeline,
        camera: Camera,
        url: str,
        *,
        recorder: RecorderConfig,
        rtsp: RtspConfig,
        admission: Admission,
        identities: Identities,
        clock: Clock,
        note: Note | None = None,
    ) -> None:
        self.pipeline = pipeline
        self.camera = camera
        self._take_rank()
        self.url = url
        self.state: StreamState = "connecting"
        self.reason = ""
        self.detail = ""
        self.since_us = clock.wall_us()
        self.retry_at_us = 0
        self.reconnects = 0
        self.paused = False  # for the CPU's sake, see recorder.shedding
        self.tracks: Tracks | None = None
        self.client: Source | None = None
        self._recorder = recorder
        self._rtsp = rtsp
        self._note = note
        self._noted = False  # the session's beginning, and not yet its end
        self.stranger = ""  # how the device that answers differs from the one known
        self._identities = identities
        self._admission = admission
        self._near = neighbourhood(url)
        self._doubtful = False  # the last set-up came to nothing
        self._was_early = False  # the last wait was cut short by a neighbour's return
        self._clock = clock
        self._backoff = Backoff(recorder.backoff_min_s, recorder.backoff_max_s)
        self._builder: FragmentBuilder | None = None
        self._task: asyncio.Task[None] | None = None
        self._past_packets = (0, 0, 0, 0)
        self._void_report: tuple[int, int] | None = None  # of before the camera's clock jumped

    @property
    def transport(self) -> str:
        """How media comes: tcp or udp under RTSP, else the scheme of the address."""
        scheme = self.url.partition("://")[0].lower()
        return scheme if scheme in AV else self.camera.transport

    # -- for the recorder ---------------------------------------------------------------------------------------------

    def start(self, delay_s: float = 0.0) -> None:
        """Begin calling the camera after `delay_s`."""
        name = f"session {self.pipeline.stream.name}"
        self._task = asyncio.get_running_loop().create_task(self._supervise(delay_s), name=name)

    async def stop(self) -> None:
        """End in order: what arrived is handed to the writer, the chunk is sealed, the camera is told."""
        self._enter("stopping")
        await self._hang_up(GapCause.STOPPED)

    async def pause(self) -> None:
        """The same, for as long as the recorder cannot keep up."""
        self.paused = True
        await self._hang_up(GapCause.OVERLOAD)
        if self.state != "stopping":
            self._enter("waiting", WORD, PAUSED_TEXT)

    def resume(self) -> bool:
        """Call the camera again; False while the pause has not begun in order."""
        if self._task is not None and not self._task.done():
            return False
        self.paused = False
        self.start()
        return True

    async def _hang_up(self, cause: GapCause) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if cause is GapCause.STOPPED or self.state != "stopping":
            self.pipeline.end_run(cause)
            self.pipeline.set_absence(cause)
        self._end_noted(cause, "")

    def _end_noted(self, cause: GapCause, detail: str) -> None:
        if self._noted:
            self._noted = False
            self._tell_ledger(SessionEvent.ENDED, cause, detail)

    def _tell_ledger(self, event: SessionEvent, cause: GapCause, detail: str) -> None:
        if self._note is not None:
            self._note(SessionNote(self.pipeline.run_number, event, cause, detail))

    @property
    def connected(self) -> bool:
        """Something may come from the camera."""
        return self.client is not None

    @property
    def stream_id(self) -> int:
        """Of the stream it records."""
        return self.pipeline.stream.id

    @property
    def rank(self) -> int:
        """Of its stream when there is not enough for all."""
        return self.pipeline.standing.rank

    def tick(self, now_us: int) -> None:
        """Hand on what a silent or slow camera left unfinished; `now_us` is monotonic. Called a few times a second."""
        if self._builder is not None and self.client is not None:
            self.client.flush()
            self._builder.flush(now_us, self._recorder.fragment_ms * 1000)

    def follow_intent(self, wall_us: int) -> None:
        """Store, or stand by, as the camera's schedule and requests want it at this moment."""
        if self.paused:
            return
        if wanted(self.camera, wall_us):
            self.pipeline.go_on()
            if self.state == "standby":
                self._enter("waiting", "", "playing; no key frame has come yet")
        else:
            self.pipeline.stand_by(self.camera.pre_record_s * US)
            if self.state in ("waiting", "recording"):
                self._enter("standby", "not-wanted", STANDBY_TEXT[self.camera.record])

    def recognise(self) -> None:
        """Whether the device that plays is the one known; another one is recorded all the same, and told."""
        if self.client is None:
            return
        name = self.pipeline.stream.name
        differs = self._identities.judge(name, redact(self.url), self.client.identity)
        if differs and not self.stranger:
            log.warning("another device seems to answer", stream=name, differs=differs)
        self.stranger = STRANGER_TEXT.format(differs=differs, camera=self.camera.id) if differs else ""
        if self.state == "recording":
            self._enter("recording")

    def change(self, camera: Camera) -> None:
        """The camera is to be recorded at other times or with another priority; its connection is the same."""
        self.camera = camera
        self._take_rank()
        self.follow_intent(self._clock.wall_us())

    def _take_rank(self) -> None:
        self.pipeline.standing.rank = rank_of(self.camera.priority, self.pipeline.stream.name)

    def clock_offset_us(self) -> int | None:
        """The camera's clock minus ours, µs, when RTCP told; includes the network's delay."""
        pipeline_end_us = self.pipeline.counters.last_frame_us
        pts_90k = self.pipeline.last_pts_90k
        camera_us = self._camera_time(pts_90k) if pts_90k is not None and pipeline_end_us else 0
        return camera_us - self.pipeline.last_clock_us if camera_us else None

    def packet_totals(self) -> tuple[int, int, int, int]:
        """(packets, lost, reordered, metadata packets) over all connections of this session."""
        packets, lost, reordered, metadata = self._past_packets
        for index, stats in (self.client.tracks_stats if self.client is not None else {}).items():
            packets += stats.packets
            lost += stats.lost_packets
            reordered += stats.reordered_packets
            if self.tracks is not None and any(track.index == index for track in self.tracks.counted):
                metadata += stats.packets
        return packets, lost, reordered, metadata

    # -- the task -----------------------------------------------------------------------------------------------------

    async def _supervise(self, delay_s: float) -> None:
        await self._clock.sleep(delay_s)
        while True:
            frames = self.pipeline.counters.frames
            try:
                await self._run_once()
            except CameraError as error:
                self.reason, self.detail = error.reason, redact(str(error))
            except asyncio.CancelledError:
                raise
            except Exception as error:
                log.exception("a camera's session failed unexpectedly", stream=self.pipeline.stream.name)
                self.reason, self.detail = "internal", redact(f"{type(error).__name__}: {error}")
            if self.pipeline.counters.frames > frames:
                self._backoff.reset()
                self._was_early = False
            await self._wait()

    async def _wait(self) -> None:
        delay_s = self._backoff.next_delay_s(self._admission.spread_s())
        self.retry_at_us = self._clock.wall_us() + int(delay_s * 1e6)
        cause = _CAUSES.get(self.reason, GapCause.OFFLINE)
        self.pipeline.set_absence(cause)
        self._end_noted(cause, self.reason)
        if self._backoff.failures <= 1 or self._backoff.failures % 10 == 0:
            log.warning("camera lost", stream=self.pipeline.stream.name, reason=self.reason, detail=self.detail)
        self._enter("backing-off")
        self._was_early = await self._admission.wait(self._near, delay_s, may_be_early=not self._was_early)
        self.reconnects += 1

    async def _run_once(self) -> None:
        self._enter("connecting")
        client = dial(self.camera, self.url, self._recorder, self._rtsp)
        try:
            await client.connect()
            async with self._admission.place(doubtful=self._doubtful):
                self._doubtful = True
                await self._set_up(client)
                self._doubtful = False
            self.recognise()
            if self._backoff.failures:
                self._admission.returned(self._near)
            self._enter("waiting", "", "playing; no key frame has come yet")
            self.follow_intent(self._clock.wall_us())
            await client.run()
        finally:
            try:
                self._finish(client)
            finally:
                await client.close()

    async def _set_up(self, client: Source) -> None:
        limit_s = HANDSHAKE_ANSWERS * self._rtsp.response_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                tracks = choose_tracks(await client.open())
                builder = self._begin(client, tracks)
                await client.play(self._sinks(builder, tracks))
        except TimeoutError:
            raise CameraError(f"the camera did not begin to play within {limit_s:g} s", reason="timeout") from None

    def _begin(self, client: Source, tracks: Tracks) -> FragmentBuilder:
        assert tracks.video.video is not None
        video = tracks.video.video
        audio = tracks.audio.audio if tracks.audio is not None else None
        builder = FragmentBuilder(
            video.codec,
            self._on_fragment,
            audio_rate_hz=audio.rate_hz if audio is not None else 0,
            fragment_90k=self._recorder.fragment_ms * 90,
            unit_bytes_max=self._recorder.unit_bytes_max,
            parameter_sets=[*video.vps, *video.sps, *video.pps],
        )
        self.client, self.tracks, self._builder = client, tracks, builder
        self.pipeline.begin_run(video.codec, audio, self._sender_reports, self._camera_time)
        self._noted = True
        self._tell_ledger(SessionEvent.BEGAN, GapCause.UNKNOWN, self.transport)
        return builder

    @staticmethod
    def _sinks(builder: FragmentBuilder, tracks: Tracks) -> dict[int, Sink]:
        sinks: dict[int, Sink] = {tracks.video.index: builder.video}
        if tracks.audio is not None and builder.audio is not None:
            sinks[tracks.audio.index] = builder.audio
        for track in tracks.counted:
            sinks[track.index] = Sink()
        return sinks

    def _finish(self, client: Source) -> None:
        """Everything whole that arrived goes to the writer; the rest of the session is let go."""
        if self._builder is not None:
            client.flush()
            self._builder.finish()
        self._past_packets = self.packet_totals()
        self._builder = None
        self.client = None
        self.pipeline.end_run(GapCause.OFFLINE)

    def _on_fragment(self, fragment: Fragment) -> None:
        if fragment.discontinuity:
            self._void_report = self._video_report()
        self.pipeline.on_fragment(fragment)
        if self.state == "standby":
            return
        if self.pipeline.undecodable:
            self._enter("waiting", self.pipeline.waiting_for, self.pipeline.undecodable)
        elif self.state == "waiting" and self.pipeline.recording:
            self._enter("recording")

    def _enter(self, state: StreamState, reason: str | None = None, detail: str = "") -> None:
        if state != self.state:
            self.since_us = self._clock.wall_us()
        self.state = state
        if reason is not None:
            self.reason, self.detail = reason, detail
        elif state == "recording":
            self.reason, self.detail, self.retry_at_us = "identity-changed" if self.stranger else "", self.stranger, 0

    # -- RTCP -------------------------------------------------------------------------------------------------------

    def _sender_reports(self) -> tuple[tuple[int, int], tuple[int, int]] | None:
        """Both tracks' reports in media time."""
        builder, video = self._builder, self._video_report()
        if self.client is None or self.tracks is None or self.tracks.audio is None or builder is None:
            return None
        audio = self.client.sender_report(self.tracks.audio.index)
        if video is None or video == self._void_report or audio is None:
            return None
        return (video[0], video[1] + builder.video_shift_90k), (audio[0], audio[1] + builder.audio_shift)

    def _video_report(self) -> tuple[int, int] | None:
        return self.client.sender_report(self.tracks.video.index) if self.client and self.tracks else None

    def _camera_time(self, pts_90k: int) -> int:
        """The camera's own clock at a media time, UTC µs; 0 until RTCP told, also anew after a jump."""
        report = self._video_report()
        if report is None or report == self._void_report or self._builder is None:
            return 0
        return report[0] + ticks_to_us(pts_90k - self._builder.video_shift_90k - report[1])
