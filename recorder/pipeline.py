"""Fragments of one stream → chunks on a volume.

Kept true: a chunk starts with a complete key frame, but for a camera that sends none (`Run.may_begin`), and holds one
run and one codec configuration; stored time ascends; whatever is not stored since the last stored picture becomes a
gap with its cause, carried by the next thing that is stored. Called once per fragment on the event loop; never waits.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from base.errors import KeyreelError
from base.media import AudioConfig, StreamConfig, VideoCodec, VideoConfig
from base.units import ticks_to_us, us_to_90k
from chunks.codecs import decodable
from chunks.records import ChunkHead, ClockState, Gap, GapCause
from chunks.writer import Held, OpenChunk, VolumeWriter
from index import StreamRow
from recorder.lipsync import anchor_audio
from recorder.overload import TEXT, WORD, Overload, Standing
from recorder.prerecord import Ring
from recorder.replay import replay, ticks_to_rate
from recorder.run import Run
from recorder.storedclock import STEP_US, StoredClock
from recorder.wallclock import WallClock

if TYPE_CHECKING:
    from native.moof import Fragment

# Of pictures whose parameter sets have not come, whole GOPs of this time are kept, and never more than these bytes.
WITHOUT_SETS_US_MAX: Final = 60_000_000
WITHOUT_SETS_BYTES_MAX: Final = 32 << 20
NO_SETS_TEXT: Final = "pictures come without SPS and PPS, which decoders need; they are kept until these come"
# A run's media time begins at its wall time; where they part by more, a new run begins, so that either finds the other.
RUN_DRIFT_US: Final = 300_000_000
_CLOCK_STATES: Final = {None: ClockState.UNKNOWN, True: ClockState.SYNCED, False: ClockState.UNSYNCED}


@dataclass(slots=True)
class Resume:
    """Where a stream's stored past ends; what the next chunk must go on from."""

    next_sequence: int = 1
    epoch: int = 0
    config: StreamConfig | None = None
    run: int = 0
    end_us: int = 0
    gap_cause: GapCause = GapCause.UNKNOWN


@dataclass(slots=True)
class Rotation:
    """When a chunk is full: every `chunk_us` of wall time, staggered over the streams, or at `bytes_max`."""

    chunk_us: int
    bytes_max: int

    def slot(self, stream_id: int, wall_us: int) -> int:
        """Number of the chunk interval a time falls in; streams' borders are spread evenly by the golden ratio."""
        stagger_us = int(stream_id * 0.6180339887498949 % 1.0 * self.chunk_us)
        return (wall_us + stagger_us) // self.chunk_us


@dataclass(slots=True)
class Counters:
    """Since the recorder started."""

    frames: int = 0
    key_frames: int = 0
    media_bytes: int = 0
    fragments: int = 0
    incomplete_units: int = 0
    dropped_gops: int = 0
    media_jumps: int = 0
    last_frame_us: int = 0


class Pipeline:
    """One stream's way to disk; owned by the recorder, outlives the stream's camera sessions."""

    def __init__(
        self,
        stream: StreamRow,
        resume: Resume,
        *,
        node: bytes,
        rotation: Rotation,
        clock: StoredClock,
        pick_volume: Callable[[VolumeWriter | None], VolumeWriter | None],
        ring: Ring | None = None,
        overload: Overload | None = None,
    ) -> None:
        self.stream = stream
        self.config = resume.config
        self.counters = Counters()
        self.last_pts_90k: int | None = None  # media time and node's clock of the newest fragment's first picture
        self.last_clock_us = 0
        self.undecodable = ""  # why the last fragment could not be stored, for status; and the word for it
        self.waiting_for = ""
        self._resume = resume
        self._node = node
        self._rotation = rotation
        self._clock = clock
        self._pick_volume = pick_volume
        self._writer: VolumeWriter | None = None
        self._orphans: list[Held] = []  # of a failed volume, until another takes them
        self._run: Run | None = None
        self._absent: GapCause | None = resume.gap_cause if resume.end_us else None
        self._slot = 0
        self._ring = ring
        self._overload = overload or Overload(clock)
        self.standing = Standing(stream.id)
        self._standby = False

    @property
    def recording(self) -> bool:
        """True while a chunk takes this stream's fragments."""
        return self._run is not None and self._run.chunk is not None

    @property
    def run_number(self) -> int:
        """Of the run now going on, or of the last one."""
        return self._resume.run

    @property
    def writer(self) -> VolumeWriter | None:
        """Of the volume that takes this stream's chunks; None before the first one."""
        return self._writer

    @property
    def time_error_us(self) -> int:
        """Bound of how far stored time is from the node's clock; 0 before the first picture."""
        if self._run is None or not self._run.wall.anchored:
            return 0
        return self._run.wall.error_us + abs(self._run.wall.offset_us - self._clock.node_offset_us)

    @property
    def end_us(self) -> int:
        """Where the stream's stored time ends, durable or not; 0 when nothing was ever stored."""
        return self._resume.end_us

    # -- runs ---------------------------------------------------------------------------------------------------------

    def begin_run(
        self,
        video_codec: VideoCodec,
        audio: AudioConfig | None,
        sender_reports: Callable[[], tuple[tuple[int, int], tuple[int, int]] | None],
        camera_time: Callable[[int], int],
    ) -> None:
        """A camera session starts.

        `sender_reports()` gives ((ntp_us, video rtp), (ntp_us, audio rtp)) once RTCP told both; `camera_time(pts_90k)`
        gives the camera's own UTC µs or 0.
        """
        assert self._run is None, "begin_run() inside a run"
        self._run = Run(video_codec, audio, sender_reports, camera_time, WallClock(), self._clock.marks)
        self._resume.run += 1

    def end_run(self, cause: GapCause) -> None:
        """The session ended; its chunk is sealed, and what follows is absent because of `cause`."""
        if self._run is None:
            return
        self._seal()
        self._run = None
        self._overload.leave(self.standing)
        if self._ring and not self._standby:
            cause = GapCause.UNDECODABLE
        self._forget_ring()
        if not self._standby:
            self._absent = cause

    def stand_by(self, length_us: int) -> None:
        """Store nothing until `go_on`: what comes is kept for `length_us` at most, and is absent by intent."""
        if not self._standby:
            self._seal()
            self._standby, self._absent = True, GapCause.NOT_WANTED
        if self._ring is not None:
            self._ring.length_us, self._ring.bytes_max = length_us, None

    def go_on(self) -> None:
        """Store again, beginning with what is kept."""
        if not self._standby:
            return
        self._standby = False
        for fragment in self._ring.take() if self._ring is not None else []:
            if self._run is not None:
                self._store(self._run, fragment)

    def _forget_ring(self) -> None:
        if self._ring is not None:
            self._ring.clear()

    def absence(self, now_us: int) -> Gap | None:
        """The gap that is open now, up to `now_us`; None while recording or when nothing was ever stored."""
        in_run = self._run is not None and not self._standby and self.standing.gate is None
        if in_run or self._absent is None or not self._resume.end_us or now_us <= self._resume.end_us:
            return None
        return Gap(self.stream.id, self._resume.end_us, now_us, self._absent)

    def set_absence(self, cause: GapCause) -> None:
        """A better cause for the absence now going on (an unreachable camera after a stall, say)."""
        if self._run is None and self._absent is not None and not self._standby:
            self._absent = cause

    def volume_failed(self, writer: VolumeWriter, held: list[Held]) -> Gap | None:
        """The volume failed: what it had not made durable is written again on another one, now or when one takes it.

        A gap to declare comes back when the stream records elsewhere already, past what is lost.
        """
        if self._writer is not writer:
            if not held:
                return None
            return Gap(self.stream.id, held[0][2].start_us, held[-1][2].end_us, GapCause.VOLUME)
        self._writer = None
        self._orphans = held
        self._writer = self._pick_volume(None)
        if self._writer is not None:
            self._replay(self._writer)
        self._lose_chunk()
        return None

    def _lose_chunk(self) -> None:
        """A chunk that lies on no working volume takes nothing more; the next key frame opens another."""
        run = self._run
        if run is not None and run.chunk is not None and run.chunk.failed:
            run.chunk = None
            self._absent = GapCause.VOLUME
        elif run is None or run.chunk is None:
            self._absent = self._absent or GapCause.VOLUME

    def _replay(self, writer: VolumeWriter) -> None:
        """Write the orphans again; the chunk in hand goes on in its copy."""
        orphans, self._orphans = self._orphans, []
        run, resume = self._run, self._resume
        again = replay(writer, orphans, resume.next_sequence, run.chunk if run is not None else None)
        resume.next_sequence = again.next_sequence
        resume.end_us = again.end_us or resume.end_us
        if not again.whole:
            self._absent = GapCause.VOLUME
        if run is not None and again.chunk is not None:
            if run.audio_base is not None and run.audio is not None:
                run.audio_base += ticks_to_rate(again.chunk.video_base_90k - run.video_base_90k, run.audio.rate_hz)
            run.chunk, run.video_base_90k = again.chunk, again.chunk.video_base_90k

    # -- fragments ----------------------------------------------------------------------------------------------------

    def on_fragment(self, fragment: Fragment) -> None:
        """Store one fragment, or let it become part of a declared gap."""
        run = self._run
        if run is None:
            return
        if fragment.discontinuity:
            self.counters.media_jumps += 1
            run.split = True
            run.wall.forget()
        run.look(fragment)
        run.wall.observe(fragment.first_pts_90k, fragment.min_delay_us)
        self._follow_clock(run, fragment)
        if not self._standby:
            self._store(run, fragment)
        elif self._ring is not None:
            self._ring.hold(fragment)

    def _store(self, run: Run, fragment: Fragment) -> None:
        if run.chunk is None and (run.may_begin(fragment) or self._ring):
            config = self._config_of(run, fragment)
            if self._lacks_sets(config, fragment):
                return
            for held in self._ring.take() if self._ring is not None else []:
                self._put(run, held, config)
            self._put(run, fragment, config)
        else:
            self._put(run, fragment, None)

    def _lacks_sets(self, config: StreamConfig, fragment: Fragment) -> bool:
        """Pictures whose parameter sets have not come are kept: with the first sets they become playable."""
        if decodable(config):
            return False
        self.undecodable, self.waiting_for = NO_SETS_TEXT, "undecodable"
        self._absent = self._absent or GapCause.UNDECODABLE
        if self._ring is not None:
            self._ring.length_us, self._ring.bytes_max = WITHOUT_SETS_US_MAX, WITHOUT_SETS_BYTES_MAX
            self._ring.hold(fragment)
        return True

    def _put(self, run: Run, fragment: Fragment, config: StreamConfig | None) -> None:
        """`config`, when given, is that of a chunk which these pictures begin, or go on in."""
        begins = run.may_begin(fragment)
        if not begins and (run.chunk is None or self._absent is not None or not run.chunk.fragments):
            self._absent = self._absent or (GapCause.UNDECODABLE if run.chunk is None else GapCause.OVERLOAD)
            run.refused(fragment)
            return
        if not self._admitted(fragment):
            self._refuse(fragment)
            return
        run.refused_90k = None
        if begins and (run.chunk is None or (config is None and self._chunk_is_over(run, fragment))):
            self._open(run, fragment, config or self._config_of(run, fragment))
        if run.chunk is not None:
            self._append(run, run.chunk, fragment)
        else:
            self._absent = self._absent or GapCause.UNDECODABLE

    def _admitted(self, fragment: Fragment) -> bool:
        """Whether its volume takes the fragment; a GOP may begin on another volume that does."""
        writer = self._writer
        if writer is None or self._overload.admits(writer, self.standing, fragment):
            return True
        other = self._pick_volume(writer) if fragment.key else None
        if other is None or other is writer or not self._overload.admits(other, self.standing, fragment):
            return False
        self._seal()
        self._writer = other
        return True

    def _refuse(self, fragment: Fragment) -> None:
        """There is no room: the whole GOP, or the rest of it, becomes part of a gap."""
        if fragment.key or self._absent is None:
            self.counters.dropped_gops += 1
            self._overload.dropped(self.standing)
        self._absent = self._absent or GapCause.OVERLOAD
        self.undecodable, self.waiting_for = TEXT, WORD

    def _follow_clock(self, run: Run, fragment: Fragment) -> None:
        """Stored time's slewing at once; its leaps, and a camera found to be later than thought, at a key frame."""
        begins = run.may_begin(fragment)
        offset_us, marks = self._clock.offset_us(), self._clock.marks
        leaps = run.wall.anchored and (run.wall.behind or offset_us - run.wall.offset_us > STEP_US)
        if not run.wall.anchored or (leaps and begins):
            run.wall.anchor(fragment.first_pts_90k, offset_us, self._resume.end_us)
        if leaps and begins:
            self._begin_media_time(run)
            if run.chunk is not None:
                self._seal()
                self._absent = self._absent or GapCause.CLOCK
        elif not leaps:
            run.wall.offset_us = offset_us
        if begins and marks != run.marks:
            run.marks, run.split = marks, True

    def _begin_media_time(self, run: Run) -> None:
        """Same camera session, new run: its media time begins at the wall time of its first picture."""
        self._resume.run += 1
        run.wall_to_media_90k = 0

    def _times(self, run: Run, fragment: Fragment) -> tuple[int, int]:
        start_us = max(run.wall.wall_us(fragment.first_dts_90k + run.lead_90k), self._resume.end_us)
        end_us = max(run.wall.wall_us(fragment.end_dts_90k + run.lead_90k), start_us + 1)
        return start_us, end_us

    def _append(self, run: Run, chunk: OpenChunk, fragment: Fragment) -> None:
        start_us, end_us = self._times(run, fragment)
        clock_us = run.wall.monotonic_us(fragment.first_pts_90k) + self._clock.node_offset_us
        assert self._writer is not None
        accepted = self._writer.append(
            chunk,
            fragment,
            start_us=start_us,
            end_us=end_us,
            video_base_90k=run.video_base_90k,
            audio_base=self._audio_base(run, fragment),
            camera_us=run.camera_time(fragment.first_pts_90k),
            clock_us=clock_us,
            gap=self._gap_before(run, fragment, start_us),
        )
        if not accepted:
            self._refuse(fragment)
            return
        self._absent, self.undecodable = None, ""
        self._resume.end_us = end_us
        self.last_pts_90k, self.last_clock_us = fragment.first_pts_90k, clock_us
        self._count(fragment, end_us)

    def _gap_before(self, run: Run, fragment: Fragment, start_us: int) -> Gap | None:
        """What this fragment declares missing: GOPs dropped before it, or packets lost in it, or both as one."""
        packets = fragment.lost_packets
        lost_us = run.wall.wall_us(fragment.loss[0]) if fragment.loss is not None else 0
        whole_us = max(run.wall.wall_us(fragment.loss[1]), lost_us + 1) if fragment.loss is not None else 0
        if self._absent is not None and run.chunk is not None:
            in_head = run.chunk.fragments == 0 and run.chunk.head.gap_start_us and start_us <= run.chunk.head.start_us
            since_us = self._resume.end_us or run.chunk.head.start_us
            if not in_head and start_us > since_us:
                return Gap(self.stream.id, since_us, max(start_us, whole_us), self._absent, packets)
        return Gap(self.stream.id, lost_us, whole_us, GapCause.PACKET_LOSS, packets) if whole_us else None

    def _count(self, fragment: Fragment, end_us: int) -> None:
        counters = self.counters
        counters.frames += fragment.video_samples
        counters.key_frames += fragment.key_frames
        counters.media_bytes += fragment.media_bytes
        counters.incomplete_units += fragment.incomplete_units
        counters.fragments += 1
        counters.last_frame_us = end_us

    # -- chunks -------------------------------------------------------------------------------------------------------

    def _chunk_is_over(self, run: Run, fragment: Fragment) -> bool:
        chunk = run.chunk
        assert chunk is not None
        if run.split or chunk.size >= self._rotation.bytes_max or self._slot != self._slot_of(run, fragment):
            return True
        return self._config_of(run, fragment) != self.config

    def _slot_of(self, run: Run, fragment: Fragment) -> int:
        return self._rotation.slot(self.stream.id, run.wall.wall_us(fragment.first_pts_90k))

    def _config_of(self, run: Run, fragment: Fragment) -> StreamConfig:
        if self.config is not None and fragment.parameter_generation == run.generation:
            return self.config
        vps, sps, pps = fragment.parameter_sets()
        return StreamConfig(VideoConfig(run.video_codec, vps, sps, pps), run.audio)

    def _open(self, run: Run, fragment: Fragment, config: StreamConfig) -> None:
        """Seal the chunk in hand and open the next one at this key fragment."""
        self._seal()
        writer = self._pick_volume(self._writer)
        if writer is not None and self._orphans:
            self._replay(writer)
        if writer is None:
            self.undecodable = "no volume takes writes; `keyreel status` tells why, free space or add a volume"
            self.waiting_for = "no-volume"
            self._absent = self._absent or GapCause.VOLUME
            return
        lead_90k = fragment.first_pts_90k - fragment.first_dts_90k
        start_us = max(run.wall.wall_us(fragment.first_pts_90k), self._resume.end_us)
        apart_us = start_us - ticks_to_us(fragment.first_pts_90k + run.wall_to_media_90k)
        if run.wall_to_media_90k and abs(apart_us) > RUN_DRIFT_US:
            self._begin_media_time(run)
        if not run.wall_to_media_90k:
            run.wall_to_media_90k = us_to_90k(start_us) - fragment.first_pts_90k
        origin_90k = fragment.first_dts_90k + run.wall_to_media_90k
        head = self._head(run, writer, config, start_us, fragment.first_pts_90k, origin_90k)
        try:
            run.chunk = writer.open_chunk(head, config)
        except KeyreelError as error:
            self.undecodable, self.waiting_for = str(error), "undecodable"
            return
        self.undecodable = ""
        self._writer = writer
        run.lead_90k = lead_90k
        run.video_base_90k = fragment.first_dts_90k
        run.audio_base = None
        run.split = False
        run.generation = fragment.parameter_generation
        self._resume.next_sequence += 1
        self._resume.epoch = head.epoch
        self._slot = self._slot_of(run, fragment)
        self.config = config

    def _head(
        self, run: Run, writer: VolumeWriter, config: StreamConfig, start_us: int, first_pts_90k: int, origin_90k: int
    ) -> ChunkHead:
        resume = self._resume
        absent = self._absent is not None and resume.end_us and start_us > resume.end_us
        clock = self._clock
        agreed = clock.synced if abs(clock.ahead_us) <= STEP_US else False
        return ChunkHead(
            node=self._node,
            volume=writer.volume.id,
            opening=os.urandom(16),
            stream_id=self.stream.id,
            stream_name=self.stream.name,
            sequence=resume.next_sequence,
            epoch=resume.epoch + (config != self.config),
            run=resume.run,
            start_us=start_us,
            monotonic_us=run.wall.monotonic_us(first_pts_90k),
            clock_state=_CLOCK_STATES[agreed],
            clock_error_us=clock.error_us,
            origin_90k=origin_90k,
            gap_start_us=resume.end_us if absent else 0,
            gap_cause=(self._absent or GapCause.UNKNOWN) if absent else GapCause.UNKNOWN,
        )

    def _seal(self) -> None:
        if self._run is not None and self._run.chunk is not None:
            assert self._writer is not None
            self._writer.seal(self._run.chunk)
            self._run.chunk = None

    def _audio_base(self, run: Run, fragment: Fragment) -> int:
        """RTP time of the audio track at the chunk's time zero; fixed for a chunk, so sound never steps inside one."""
        if run.audio is None or not fragment.audio_samples:
            return 0
        if run.audio_base is None:
            reports, rate_hz = run.sender_reports(), run.audio.rate_hz
            run.audio_base = anchor_audio(run.wall, run.video_base_90k, rate_hz, fragment, reports)
        return min(run.audio_base, fragment.audio_first_ts)
