"""One simulated camera: its clock, its place in the loop, the viewers it sends to, and the log of what it sent.

Kept true: pictures are numbered by one sequence that never goes back, whoever watches; a picture's number, media time
and bytes are the same for all viewers; the log holds exactly the pictures handed to at least one viewer, and
`damaged` those of them that a fault spoiled on the way.
"""

from __future__ import annotations

import hashlib
import time
from array import array
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import msgspec

from base.errors import UserError
from simcam.cursor import NEVER, Cursor
from simcam.encode import LoopSpec
from simcam.loop import VIDEO_HZ, Track, make_track
from simcam.sender import Sender
from simcam.spec import CameraSpec, LoopSource, resolve
from simcam.stamps import Stamper

REPORT_INTERVAL_US: Final = 5_000_000
VIDEO, AUDIO, METADATA = range(3)
_METADATA_XML: Final = b'<?xml version="1.0"?><tt:MetadataStream xmlns:tt="http://www.onvif.org/ver10/schema"/>'
_LOG_FIELDS: Final = 4  # sequence, pts, time sent, loop number and picture


class Viewer(Protocol):
    """A playing session, as its camera sees it."""

    senders: dict[int, Sender]

    def end(self, *, abrupt: bool) -> None:
        """Stops the session: with a BYE, or by breaking its connection."""


@dataclass(frozen=True, slots=True)
class SentPicture:
    """One picture as it was sent; `pts_90k` counts from the camera's start, `sent_us` is unix time."""

    sequence: int
    pts_90k: int
    sent_us: int
    damaged: bool
    key: bool
    track: Track
    index: int
    stamp: bytes | None

    @property
    def sample(self) -> bytes:
        """Its NAL units with 4-byte lengths, the stamp included."""
        return self.track.table.sample(self.index, self.stamp)

    @property
    def sha256(self) -> bytes:
        """SHA-256 of the sample."""
        return hashlib.sha256(self.sample).digest()


class Camera:
    """A camera while its server runs."""

    def __init__(self, spec: CameraSpec) -> None:
        self.spec = spec
        self.name = spec.name
        self.faults = spec.faults
        self.loop = resolve(spec.loop)
        self.viewers: list[Viewer] = []
        self.sequence = 0
        self.damaged: set[int] = set()
        self.overruns = 0
        self.sessions = 0
        self.credentials: deque[str] = deque(maxlen=64)  # Authorization headers as they came
        self.clock_offset_us = 0  # camera's clock minus the machine's
        self._loops = [self.loop]
        self._stampers = {codec: Stamper(spec.name, codec) for codec in ("h264", "h265")}
        self._log = array("q")
        self._cursors: list[Cursor] = []
        self._start_us = 0
        self._report_us = 0
        self._jump_us = 0

    # The clock

    def join(self, viewer: Viewer, now_us: int) -> None:
        """Begins to send to a viewer; the first one starts the camera's clock."""
        if not self.viewers:
            if not self._cursors or all(cursor.due_us == NEVER for cursor in self._cursors):
                self._begin(now_us)
            self._catch_up(now_us)
            self._report_us = now_us + REPORT_INTERVAL_US
        self.viewers.append(viewer)
        self.sessions += 1

    def leave(self, viewer: Viewer) -> None:
        """Stops sending to a viewer."""
        if viewer in self.viewers:
            self.viewers.remove(viewer)

    def _begin(self, now_us: int) -> None:
        self._start_us = now_us
        tracks: list[tuple[int, Track | None, int]] = [
            (VIDEO, self.loop.video, self.spec.repeat),
            (AUDIO, self.loop.audio, self.spec.repeat),
        ]
        if self.spec.metadata and not self.spec.repeat:
            tracks.append((METADATA, _METADATA_TRACK, 0))
        self._cursors = [Cursor(kind, track, now_us, self.spec.rate, n) for kind, track, n in tracks if track]
        self._cursors[0].loop_number = len(self._loops) - 1

    def _catch_up(self, now_us: int) -> None:
        for cursor in self._cursors:
            skipped = cursor.skip_until(now_us)
            if cursor.kind == VIDEO:
                self.sequence += skipped

    def first_ticks(self, kind: int) -> int:
        """Media time of the first unit that a viewer who joins now will get."""
        for cursor in self._cursors:
            if cursor.kind == kind:
                ticks = cursor.key_pts if self.faults.join == "key" and self.faults.key_frames else cursor.pts
                return ticks + self._jump_us * cursor.track.clock_hz // 1_000_000
        return 0

    def tick(self, now_us: int) -> int:
        """Sends all that is due; returns when to come again (monotonic µs), NEVER when there is nobody to send to."""
        if not self.viewers:
            return NEVER
        if now_us >= self._report_us:
            self._report(now_us)
        due_us = NEVER
        for cursor in self._cursors:
            while cursor.due_us <= now_us:
                if not self.faults.stall:
                    self._send(cursor)
                if cursor.kind == VIDEO:
                    self.sequence += 1
                cursor.step()
            due_us = min(due_us, cursor.due_us)
        if due_us == NEVER:
            self.end_sessions()
        return due_us

    def _send(self, cursor: Cursor) -> None:
        kind, track, index = cursor.kind, cursor.track, cursor.index
        key, join = track.keys[index], self.faults.join
        if kind == VIDEO and key and not self.faults.key_frames:
            return
        ticks = cursor.turn_ticks + track.pts[index]
        time_us = time.time_ns() // 1000
        stamp = self._stamp(track, index, self.sequence, time_us) if kind == VIDEO and self.spec.stamped else None
        time_ticks = ticks + self._jump_us * track.clock_hz // 1_000_000 if self._jump_us else ticks
        sent = damaged = False
        for viewer in self.viewers:
            sender = viewer.senders.get(kind)
            if sender is None:
                continue
            cut = False
            if not sender.started:
                if not key and join == "key" and self.faults.key_frames:
                    continue
                sender.started = True
                cut = join == "cut" and kind == VIDEO
            damaged |= sender.send(track.table, index, time_ticks, stamp, cut)
            sent = True
        if sent and kind == VIDEO:
            if damaged:
                self.damaged.add(self.sequence)
            if self.spec.log:
                self._log.extend((self.sequence, ticks, time_us, cursor.loop_number << 32 | index))

    def _stamp(self, track: Track, index: int, sequence: int, time_us: int) -> bytes:
        return self._stampers[track.codec].nal(sequence, time_us, track.digests[index])

    # RTCP

    def _report(self, now_us: int) -> None:
        self._report_us = now_us + REPORT_INTERVAL_US
        for viewer in self.viewers:
            self.report_to(viewer, now_us)

    def report_to(self, viewer: Viewer, now_us: int) -> None:
        """Sends a sender report for each track: what is sent now was shot now by the camera's clock."""
        if not self.faults.sender_reports or self.faults.stall:
            return
        media_us = int((now_us - self._start_us) * self.spec.rate) + self._jump_us
        camera_us = time.time_ns() // 1000 + self.clock_offset_us
        for cursor in self._cursors:
            sender = viewer.senders.get(cursor.kind)
            if sender is not None:
                track = cursor.track
                sender.report(media_us + track.delay_ticks * 1_000_000 // track.clock_hz, camera_us)

    # Events

    def end_sessions(self, *, abrupt: bool = False) -> None:
        """Ends all sessions: with BYE, or by breaking their connections."""
        for viewer in list(self.viewers):
            viewer.end(abrupt=abrupt)
            self.leave(viewer)

    def step_clock(self, seconds: float) -> None:
        """Steps the camera's wall clock, as its sender reports tell it; RTP timestamps go on."""
        self.clock_offset_us += int(seconds * 1_000_000)
        self._report_us = 0

    def jump_time(self, seconds: float) -> None:
        """Jumps the RTP timestamps of all tracks, forward or back."""
        self._jump_us += int(seconds * 1_000_000)
        self._report_us = 0

    def jump_sequence(self, packets: int) -> None:
        """Leaves out RTP sequence numbers of the video of each session, as a network that lost packets."""
        for viewer in self.viewers:
            if VIDEO in viewer.senders:
                stream = viewer.senders[VIDEO].stream
                stream.jump(stream.ssrc, stream.next_sequence + packets & 0xFFFF)

    def switch(self, source: LoopSource, *, unsaid: bool = False) -> None:
        """Goes on with another loop: in mid-stream when the codec stays, else by ending all sessions.

        `unsaid` sends the other codec within the sessions, as a camera does whose settings were changed under way.
        """
        loop = resolve(source)
        same = unsaid or loop.video.codec == self.loop.video.codec
        self.loop = loop
        self._loops.append(loop)
        if not same:
            self.end_sessions()
            self._cursors = []
        elif self._cursors:
            self._cursors[0].switch(loop.video, len(self._loops) - 1)

    def control(self, values: Mapping[str, str]) -> None:
        """Sets faults and triggers events from text: see `EVENTS`; UserError names what is wrong."""
        events = {name: text for name, text in values.items() if name in EVENTS}
        self.faults.set({name: text for name, text in values.items() if name not in EVENTS})
        for name, text in events.items():
            try:
                EVENTS[name](self, text)
            except (ValueError, msgspec.MsgspecError) as error:
                raise UserError(f"event {name} cannot take {text[:64]!r}: {error}") from None

    def _named_loop(self, text: str) -> LoopSource:
        if not text.startswith("{"):
            return Path(text)
        made = self.spec.loop if isinstance(self.spec.loop, LoopSpec) else LoopSpec()
        return msgspec.convert(msgspec.to_builtins(made) | msgspec.json.decode(text, type=dict), LoopSpec)

    # The log

    def sent(self) -> list[SentPicture]:
        """All pictures handed to at least one viewer, in order."""
        log, pictures = self._log, []
        for at in range(0, len(log), _LOG_FIELDS):
            sequence, pts, sent_us, place = log[at : at + _LOG_FIELDS]
            track, index = self._loops[place >> 32].video, place & 0xFFFFFFFF
            stamp = self._stamp(track, index, sequence, sent_us) if self.spec.stamped else None
            pictures.append(
                SentPicture(sequence, pts, sent_us, sequence in self.damaged, track.keys[index], track, index, stamp)
            )
        return pictures


EVENTS: Final[dict[str, Callable[[Camera, str], None]]] = {
    "drop": lambda camera, _: camera.end_sessions(abrupt=True),
    "bye": lambda camera, _: camera.end_sessions(),
    "step_clock": lambda camera, text: camera.step_clock(float(text)),
    "jump_time": lambda camera, text: camera.jump_time(float(text)),
    "jump_sequence": lambda camera, text: camera.jump_sequence(int(text)),
    "switch": lambda camera, text: camera.switch(camera._named_loop(text)),
    "switch_unsaid": lambda camera, text: camera.switch(camera._named_loop(text), unsaid=True),
}
_METADATA_TRACK: Final = make_track(None, VIDEO_HZ, [[_METADATA_XML]], [0], [0], VIDEO_HZ)
