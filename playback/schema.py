"""The API's documents as structs; OpenAPI is made from them.

Kept true: times are RFC 3339 in UTC, durations and rates carry their unit in the name; a field is never renamed within
/api/v1, only added.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from base.status import StreamFigures, VolumeFigures
from playback.signature import MomentText, SignatureView

Name = Annotated[str, Meta(min_length=1, max_length=128)]


class _Query(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Base of all queries and bodies."""


class StreamView(StreamFigures, kw_only=True):
    """One stream: who it is, how it is doing, what it is made of."""

    id: Annotated[str, Meta(description="<camera>.<quality>; what paths name a stream by")]
    camera: str
    quality: str
    state: str  # of base.status.StreamState, or unknown without a recorder
    reason: str = ""
    detail: str = ""
    since: MomentText | None = None
    durable_until: MomentText | None = None
    mime: Annotated[str, Meta(description="MIME type with codecs of what is served now, for isTypeSupported")] = ""
    codecs: Annotated[str, Meta(description="RFC 6381 codecs of what is served now, as in `mime`")] = ""
    derived: Annotated[list[str], Meta(description="served tracks made from the recorded ones, such as audio")] = (
        msgspec.field(default_factory=list)
    )
    preview: Annotated[str, Meta(description="`transcode` of clip.mp4 to offer where this codec does not play")] = ""
    retry_at: MomentText | None = None
    last_frame: MomentText | None = None
    clock_offset_ms: float | None = None
    time_error_ms: Annotated[float, Meta(description="bound of stored time's distance to the node's clock, ms")] = 0.0
    signature: Annotated[SignatureView | None, Meta(description="null until the camera was looked at")] = None


class ClockView(msgspec.Struct, kw_only=True):
    """The node's clock and stored time, the time under which pictures are filed and asked for."""

    trusted: Annotated[bool, Meta(description="false: the age of footage cannot be told, nothing is deleted by age")]
    reason: Annotated[str, Meta(description="not-set, ahead, step-not-followed, unsynced, stepped")] = ""
    synced: Annotated[bool | None, Meta(description="the kernel's word; null when it cannot be asked")] = None
    ahead_s: Annotated[float, Meta(description="stored time minus the node's clock, s")] = 0.0
    error_s: Annotated[float, Meta(description="bound of stored time's error, s; 0 unknown")] = 0.0
    steps: Annotated[int, Meta(description="steps of the node's clock since the recorder started")] = 0
    last_step_s: Annotated[float, Meta(description="how far the last one went, s")] = 0.0


class RecorderView(msgspec.Struct, kw_only=True):
    """The recorder as last seen: all its processes together."""

    running: bool
    updated: MomentText | None = None
    started: MomentText | None = None
    version: str = ""
    workers: Annotated[int, Meta(description="recorder processes that share the streams")] = 0
    silent: Annotated[list[int], Meta(description="workers that do not report; their streams are unknown")] = (
        msgspec.field(default_factory=list)
    )
    clock: ClockView | None = None
    index_whole: bool = True  # false while the index was made again and lacks chunks; how many were looked at:
    index_chunks_done: int = 0
    index_chunks_total: int = 0
    index_behind_chunks: Annotated[int, Meta(description="chunks that the index will read again from their files")] = 0
    index_backlog_records: Annotated[int, Meta(description="records that wait for the index")] = 0
    index_hung_s: Annotated[float, Meta(description="for so long the index's disk has not answered; 0 it does")] = 0.0


class ScrubView(msgspec.Struct, kw_only=True):
    """Sealed chunks read again: the turn going on, what is damaged, and the last whole turn."""

    running: bool
    detail: Annotated[str, Meta(description="why it does not go on, though it should")] = ""
    started: MomentText | None = None
    chunks: int = 0
    bytes: int = 0
    damaged: int = 0  # fragments, in this turn
    known_damage: int = 0  # fragments and chunks that are gaps now
    findings: int = 0  # what costs no media
    last_ended: MomentText | None = None
    last_bytes: int = 0
    last_damaged: int = 0


class VolumeView(VolumeFigures, kw_only=True):
    """One volume as the recorder sees it."""

    id: str
    path: str
    state: Annotated[str, Meta(description="ok, suspect (does not answer), draining (no new chunks), quarantined")]
    reason: str = ""  # missing, eio, enospc, readonly, limit, hung, format, opening
    detail: str = ""
    since: MomentText | None = None
    streams: int = 0  # that record to it now
    free_bytes: int = 0
    total_bytes: int = 0
    queue_bytes: int = 0
    last_sync_ms: float = 0.0
    scrub: ScrubView | None = None  # null while the volume is not scrubbed


class VolumesView(msgspec.Struct, kw_only=True):
    """All volumes of the node; none while no recorder reports."""

    now: MomentText
    recorder: RecorderView
    volumes: list[VolumeView]


class OverloadView(msgspec.Struct, kw_only=True):
    """One time in which disk or CPU could not keep up, and streams were left out by priority."""

    cause: Annotated[str, Meta(description="disk or cpu")]
    volume: str = ""
    path: str = ""
    start: MomentText
    end: Annotated[MomentText | None, Meta(description="null while it lasts")] = None
    streams: Annotated[int, Meta(description="that lost something")] = 0
    waiting: Annotated[int, Meta(description="of them, not recorded at this moment")] = 0
    dropped_gops: Annotated[int, Meta(description="0 for paused cameras, of which nobody knows how many")] = 0


class OverloadsView(msgspec.Struct, kw_only=True):
    """The alarm: whether the node keeps up, and the times it did not since the recorder started, newest first."""

    now: MomentText
    recorder: RecorderView
    active: bool
    episodes: Annotated[int, Meta(description="since the recorder started; the newest are listed")] = 0
    overloads: list[OverloadView]


class StreamsView(msgspec.Struct, kw_only=True):
    """All streams of the node."""

    now: MomentText
    recorder: RecorderView
    streams: list[StreamView]


class SpanView(msgspec.Struct):
    """Footage without a hole, [start, end)."""

    start: MomentText
    end: MomentText


class GapView(msgspec.Struct):
    """Declared absence, [start, end), and why."""

    start: MomentText
    end: MomentText
    cause: str
    packets: int = 0


class HeldView(msgspec.Struct):
    """What a hold keeps, [start, end); GET /holds/{id} tells the rest."""

    id: int
    start: MomentText
    end: MomentText


class TimelineQuery(_Query):
    """Which part of a stream, and how fine: holes shorter than `resolution` seconds are not drawn."""

    start: MomentText
    end: MomentText
    resolution: Annotated[float, Meta(ge=0, le=86400 * 366, description="seconds; 0 tells every gap")] = 0.0


class TimelineBody(_Query):
    """Which part of many streams, and how fine; all streams when `streams` is absent."""

    start: MomentText
    end: MomentText
    resolution: Annotated[float, Meta(ge=0, le=86400 * 366, description="seconds; 0 tells every gap")] = 0.0
    streams: Annotated[list[Name], Meta(max_length=100_000)] | None = None


class StreamTimeline(msgspec.Struct, kw_only=True):
    """What one stream holds; `resolution` is the one used, as the whole answer's size is bounded."""

    stream: str
    resolution: float
    durable_until: MomentText | None
    spans: list[SpanView]
    gaps: list[GapView]
    holds: Annotated[list[HeldView], Meta(description="holds that touch the range, whole; they outlast retention")] = (
        msgspec.field(default_factory=list)
    )


class TimelineView(StreamTimeline, kw_only=True):
    """What a stream holds between two moments."""

    start: MomentText
    end: MomentText


class TimelinesView(msgspec.Struct, kw_only=True):
    """What streams hold between two moments, in the order asked."""

    start: MomentText
    end: MomentText
    timelines: list[StreamTimeline]


class ClipQuery(_Query):
    """Which clip; `download` names it a file to save."""

    start: MomentText
    end: MomentText
    download: bool = False
    tracks: Annotated[Literal["all", "video", "audio"], Meta(description="which of the recorded tracks")] = "all"
    format: Annotated[
        Literal["mp4", "fmp4"],
        Meta(description="fmp4: fragments as they are read, at once and without length or ranges"),
    ] = "mp4"
    transcode: Annotated[
        Literal["h264"] | None, Meta(description="a preview in this codec, without sound, made on the way")
    ] = None
    width: Annotated[int, Meta(ge=64, le=1920, description="of a preview, in pixels at most")] = 640


class RangeQuery(_Query):
    """A part of a stream."""

    start: MomentText
    end: MomentText


class MultivariantQuery(_Query):
    """A part of a stream, or without start and end what is recorded now."""

    start: MomentText | None = None
    end: MomentText | None = None


class LiveHlsQuery(_Query):
    """What a blocking reload waits for: a media sequence number, and a part of that segment."""

    msn: Annotated[int, Meta(ge=0, le=1 << 53)] | None = msgspec.field(default=None, name="_HLS_msn")
    part: Annotated[int, Meta(ge=0, le=10_000)] | None = msgspec.field(default=None, name="_HLS_part")


class FrameQuery(_Query):
    """Which picture: the last one at or before `at`; the newest without it."""

    at: MomentText | None = None
    exact: Annotated[bool, Meta(description="false: the last key frame, which takes less time")] = True
    width: Annotated[int, Meta(ge=0, le=8192, description="in pixels at most; 0 as recorded")] = 0


class ContactQuery(_Query):
    """Pictures spread evenly over a range, `width` pixels wide each."""

    start: MomentText
    end: MomentText
    count: Annotated[int, Meta(ge=1, le=100)] = 24
    columns: Annotated[int, Meta(ge=0, le=100, description="0: about as wide as high")] = 0
    width: Annotated[int, Meta(ge=32, le=1920)] = 320


class TrickQuery(_Query):
    """Key frames from `at` on, `rate` times as fast as life, negative for backward; at most `pictures` a second."""

    at: MomentText
    rate: Annotated[float, Meta(ge=-1024, le=1024)] = 8.0
    pictures: Annotated[float, Meta(ge=0.5, le=30)] = 8.0


class TrickText(msgspec.Struct, kw_only=True):
    """The text before each picture of trick play: its wall time, and its place on the play line (90 kHz, from 0)."""

    mime: str
    init_follows: bool
    wall: MomentText
    wall_us: int
    shown_90k: int


class SeekBody(_Query):
    """Many streams at one instant; all of them when `streams` is absent.

    The instant is a wall time, or `media_90k` on the media clock of one stream's fragments. `exact` also reads which
    picture is shown then, of at most 64 named streams.
    """

    at: MomentText | None = None
    media_90k: Annotated[int, Meta(ge=0, le=1 << 53)] | None = None
    streams: Annotated[list[Name], Meta(max_length=100_000)] | None = None
    exact: bool = False


class SeekResult(msgspec.Struct):
    """A stream's last key frame at or before the instant: time, and byte `offset` of `chunk`; nulls when it has none.

    `provisional`: footage still to come, after `durable_until`, may change the answer. `frame` and `media_90k` are of
    the picture shown at the instant, when asked for exactly.
    """

    stream: str
    time: MomentText | None = None
    chunk: int | None = None
    offset: int | None = None
    durable_until: MomentText | None = None
    provisional: bool = False
    frame: MomentText | None = None
    media_90k: int | None = None


class SeekView(msgspec.Struct):
    """The answers in the order asked."""

    at: MomentText
    results: list[SeekResult]


class LiveText(msgspec.Struct, kw_only=True):
    """The text before a live view's init segment, and after fragments were left out for a slow viewer.

    `wall` is the time of what follows, `media_90k` the same moment on the media clock of the fragments;
    `derived` names tracks that are not the recorded ones but made from them while serving.
    """

    mime: str
    init_follows: bool
    wall: MomentText
    wall_us: int
    media_90k: int
    skipped: int
    derived: list[str] = []


class CameraBody(_Query):
    """A camera for the register."""

    id: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
    main: Annotated[
        str,
        Meta(
            max_length=2048,
            description="rtsp(s)://, rtmp(s)://, http(s)://, srt:// or udp:// address, with user and password",
        ),
    ]
    sub: Annotated[str, Meta(max_length=2048)] | None = None
    transport: Literal["tcp", "udp"] = "tcp"
    allow_basic: bool = False
    tls_verify: bool = True
    enabled: bool = True
    note: Annotated[str, Meta(max_length=1000)] = ""
    record: Literal["continuous", "schedule", "demand"] = "continuous"
    schedule: Annotated[
        str, Meta(max_length=500, description="when to record, like mon-fri 07:00-19:00; sat,sun 09:00-12:00")
    ] = ""
    pre_record_s: Annotated[int, Meta(ge=0, le=60, description="kept before a recording begins, s")] = 0
    priority: Annotated[
        Literal["low", "normal", "high"], Meta(description="who gives way when disk or CPU cannot keep up: low first")
    ] = "normal"


class RecordBody(_Query):
    """A request to record a camera that stands by."""

    seconds: Annotated[int, Meta(ge=1, le=86400, description="for how long from now, s")] = 3600


class CameraView(msgspec.Struct, kw_only=True):
    """A camera of the register; passwords are blotted out."""

    id: str
    main: str
    sub: str | None
    transport: str
    allow_basic: bool
    tls_verify: bool
    enabled: bool
    note: str
    record: str
    schedule: str
    pre_record_s: int
    priority: str
    demanded_until: MomentText | None


class CamerasView(msgspec.Struct):
    """The register."""

    cameras: list[CameraView]


class HoldBody(_Query):
    """A range of streams that nothing deletes until it is released or expires."""

    streams: Annotated[list[Name], Meta(min_length=1, max_length=1000)]
    start: MomentText
    end: MomentText
    reason: Annotated[str, Meta(min_length=1, max_length=1000)]
    owner: Annotated[str, Meta(min_length=1, max_length=200, description="who places it")]
    case: Annotated[str, Meta(max_length=200, description="case or file number")] = ""
    expires: Annotated[MomentText | None, Meta(description="when it ends by itself; never if absent")] = None
    review: Annotated[MomentText | None, Meta(description="when somebody should look at it again")] = None


class HoldsQuery(_Query):
    """Which holds: those that hold now, or all that ever were."""

    all: bool = False


class ReleaseQuery(_Query):
    """Who releases a hold, and why."""

    by: Annotated[str, Meta(min_length=1, max_length=200)]
    reason: Annotated[str, Meta(max_length=1000)] = ""


class KeptView(msgspec.Struct, kw_only=True):
    """What holds keep of a stream on a volume, each chunk counted once."""

    stream: str
    volume: str
    chunks: int
    bytes: int


class StreamSpanView(msgspec.Struct):
    """A range of a stream, [start, end)."""

    stream: str
    start: MomentText
    end: MomentText


class HoldView(msgspec.Struct, kw_only=True):
    """A hold. `kept` and `gone` are told where one hold is asked for or placed."""

    id: int
    streams: list[str]
    start: MomentText
    end: MomentText
    reason: str
    case: str
    owner: str
    created: MomentText
    expires: MomentText | None
    review: MomentText | None
    active: bool
    released: MomentText | None
    released_by: str
    release_reason: str
    kept: list[KeptView] = []
    gone: Annotated[list[StreamSpanView], Meta(description="of its range, what was deleted before it was placed")] = (
        msgspec.field(default_factory=list)
    )


class HoldsView(msgspec.Struct):
    """Holds, and what all that hold now keep together."""

    holds: list[HoldView]
    kept: list[KeptView]


class SessionBody(_Query):
    """The API token, handed in once for a browser's session."""

    token: Annotated[str, Meta(max_length=4096)]


class SessionView(msgspec.Struct):
    """How long the session cookie holds."""

    expires_in_s: int


class HealthView(msgspec.Struct):
    """Whether the server lives, or is ready; `problems` says what is missing."""

    status: Literal["ok", "not-ready"]
    version: str
    problems: list[str] = []
