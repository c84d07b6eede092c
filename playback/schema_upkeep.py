"""The API's documents for the node's upkeep: changing, importing and testing cameras, history, alarms and reports.

Kept true: as for `playback.schema`.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from playback.schema import Name, RecorderView
from playback.signature import MomentText

Address = Annotated[str, Meta(min_length=1, max_length=2048)]


class _Body(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Base of all bodies."""


class CameraChange(_Body):
    """What to change of a camera; what is left out stays.

    An address as the API shows it, with *** for the password, keeps the password while scheme, host and port stay.
    """

    main: Address | UnsetType = UNSET
    sub: Annotated[Address | None, Meta(description="null removes the sub stream")] | UnsetType = UNSET
    transport: Literal["tcp", "udp"] | UnsetType = UNSET
    allow_basic: bool | UnsetType = UNSET
    tls_verify: bool | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    note: Annotated[str, Meta(max_length=1000)] | UnsetType = UNSET
    record: Literal["continuous", "schedule", "demand"] | UnsetType = UNSET
    schedule: Annotated[str, Meta(max_length=500)] | UnsetType = UNSET
    pre_record_s: Annotated[int, Meta(ge=0, le=60)] | UnsetType = UNSET
    priority: Literal["low", "normal", "high"] | UnsetType = UNSET


class ImportBody(_Body):
    """Cameras as CSV, with a head line that names their fields: all of them are registered, or none.

    Without `apply` nothing is changed, and the answer tells what would be. `register` is that answer's; with it, a
    register that was changed meanwhile is left alone.
    """

    csv: Annotated[str, Meta(max_length=1_000_000)]
    replace: Annotated[bool, Meta(description="change cameras that are registered already")] = False
    apply: bool = False
    register: int | None = None


class ImportRow(msgspec.Struct, kw_only=True):
    """One row of the file."""

    line: Annotated[int, Meta(description="of the file, from 1; the head line is 1")]
    id: str
    change: Annotated[
        Literal["add", "change", "same", "exists", "wrong"],
        Meta(description="exists: registered otherwise, and `replace` was not asked for"),
    ]
    fields: Annotated[list[str], Meta(description="what would change")] = []
    detail: Annotated[str, Meta(description="what is wrong with the row")] = ""


class ImportView(msgspec.Struct, kw_only=True):
    """What an import does, row by row."""

    applied: bool
    register: Annotated[int, Meta(description="the register's version that this was judged by")]
    added: int
    changed: int
    same: int
    refused: Annotated[int, Meta(description="rows that are wrong or exist; with one of these nothing is applied")]
    rows: list[ImportRow]


class CameraTestBody(_Body):
    """An address to call, or a registered camera, or both: then the camera's password and settings are used."""

    address: Annotated[Address | None, Meta(description="as in `main` of a camera")] = None
    camera: Annotated[str, Meta(max_length=63)] | None = None
    quality: Literal["main", "sub"] = "main"
    transport: Literal["tcp", "udp"] | None = None
    allow_basic: bool | None = None
    tls_verify: bool | None = None
    seconds: Annotated[int, Meta(ge=1, le=20, description="how long it may take in all, s")] = 10


class RtspAnswer(msgspec.Struct):
    """What the camera answered to one request."""

    method: str
    status: int
    phrase: str


class TrackView(msgspec.Struct, kw_only=True):
    """A track that the camera offers."""

    kind: Annotated[str, Meta(description="video, audio, metadata, other")]
    codec: str
    clock_hz: int
    channels: int
    recorded: Annotated[bool, Meta(description="whether Keyreel would record it")]


class CameraTestView(msgspec.Struct, kw_only=True):
    """What a camera answered; times are from the beginning of the test, but for the key frame's."""

    ok: Annotated[bool, Meta(description="pictures came, a key frame among them")]
    reason: Annotated[str, Meta(description="why not: a reason as of a stream, no-key-frame, refused-address")] = ""
    detail: str = ""
    address: Annotated[str, Meta(description="what was called, without password")] = ""
    took_s: float = 0.0
    connected_s: Annotated[float | None, Meta(description="until the camera's TCP stood, s")] = None
    playing_s: Annotated[float | None, Meta(description="until it played, s")] = None
    key_frame_s: Annotated[float | None, Meta(description="from play to its first key frame, s")] = None
    key_frame_every_s: Annotated[float | None, Meta(description="between its first two key frames, s")] = None
    answers: Annotated[list[RtspAnswer], Meta(description="of RTSP, the newest 16")] = []
    told: Annotated[dict[str, str], Meta(description="of itself: server, realm, name, certificate (SHA-256)")] = {}
    tracks: list[TrackView] = []
    codec: str = ""
    codecs: Annotated[str, Meta(description="RFC 6381")] = ""
    width: int = 0
    height: int = 0
    frame_rate: Annotated[float, Meta(description="of the pictures that came, 1/s")] = 0.0
    frame_rate_told: Annotated[float, Meta(description="by the parameter sets, 0 if they do not say")] = 0.0
    bitrate_bps: float = 0.0
    frames: int = 0
    lost_packets: int = 0
    clock_offset_ms: Annotated[
        float | None, Meta(description="the camera's clock minus the node's, with the network's delay; null: not told")
    ] = None


class HistoryQuery(_Body):
    """An hour in readings of 10 s, or a day in readings of 5 min."""

    span: Literal["hour", "day"] = "hour"


Figures = Annotated[list[float | None], Meta(description="one for each reading, oldest first; null: nobody told")]


class VolumeHistory(msgspec.Struct, kw_only=True):
    """A volume's figures; `sync_ms` and `queue_bytes` are the most within a reading."""

    id: str
    path: Annotated[str, Meta(description="empty for one that the recorder does not tell of now")]
    write_bytes_s: Figures
    sync_ms: Figures
    queue_bytes: Figures
    free_bytes: Figures


class HistoryView(msgspec.Struct, kw_only=True):
    """Figures of the node; reading number i is of the `step_s` seconds from `start` + i × `step_s` on."""

    now: MomentText
    start: MomentText
    step_s: int
    count: int
    ingest_bytes_s: Figures
    streams: Annotated[Figures, Meta(description="that were recorded")]
    dropped_gops: Figures
    loop_lag_ms: Annotated[Figures, Meta(description="the most within a reading")]
    volumes: list[VolumeHistory]


class StatesQuery(_Body):
    """From when on; a week if absent."""

    start: MomentText | None = None


class StatesBody(_Body):
    """Which streams, and from when on; a week if absent."""

    streams: Annotated[list[Name], Meta(min_length=1, max_length=100)]
    start: MomentText | None = None


class StateView(msgspec.Struct):
    """A stream's condition from `time` on, until the next one's."""

    time: MomentText
    state: Annotated[
        str,
        Meta(
            description="recording, standby, waiting (connected, nothing to store), offline, paused (overload), "
            "removed, down (no recorder)"
        ),
    ]
    reason: str


class StreamStates(msgspec.Struct, kw_only=True):
    """A stream's comings and goings; before `whole_from` older ones were let go."""

    stream: str
    whole_from: MomentText | None
    states: Annotated[list[StateView], Meta(description="oldest first; the first is what held at `start`")]


class StatesView(msgspec.Struct, kw_only=True):
    """Comings and goings of streams, in the order asked."""

    start: MomentText
    end: MomentText
    streams: list[StreamStates]


class AlarmView(msgspec.Struct, kw_only=True):
    """Something that somebody should look at now."""

    kind: Annotated[
        str,
        Meta(
            description="recorder, volume, volume-full, deleting-paused, guarantee, overload, clock, ledger, index, "
            "damage, streams, identity, signature"
        ),
    ]
    level: Literal["critical", "warning"]
    subject: Annotated[str, Meta(description="path of a volume, names of streams")] = ""
    count: Annotated[int, Meta(description="of streams or fragments")] = 0
    since: Annotated[
        MomentText | None, Meta(description="of streams the last picture of the one that is away longest")
    ] = None
    reason: str = ""
    detail: str = ""


class AlarmsView(msgspec.Struct, kw_only=True):
    """All that holds now, critical first."""

    now: MomentText
    recorder: RecorderView
    alarms: list[AlarmView]


class IndexView(msgspec.Struct, kw_only=True):
    """The index: `whole` when every chunk is in it."""

    whole: bool
    chunks_done: int
    chunks_total: int
    findings: Annotated[int, Meta(description="files that could not be taken in")]
    renewals: Annotated[int, Meta(description="since the recorder started")]
    made: MomentText | None
    why: str
    verified: MomentText | None


class RecoveryView(msgspec.Struct, kw_only=True):
    """What was found on a volume when the recorder took it, and what became of it."""

    volume: str
    path: str
    time: MomentText | None
    done: bool
    torn: Annotated[int, Meta(description="chunks that nobody had sealed")]
    sealed: int
    cut_bytes: Annotated[int, Meta(description="of torn tails, kept in side files")]
    aside: Annotated[int, Meta(description="chunks of which nothing counts, kept aside")]
    missed: Annotated[int, Meta(description="chunks that the index lacked")]
    failed: Annotated[int, Meta(description="chunks that could not be sealed, and are left as they are")]


class DamageView(msgspec.Struct, kw_only=True):
    """A range of a stream that cannot be played, found by scrubbing."""

    volume: str
    stream: str
    start: MomentText
    end: MomentText
    bytes: int
    what: str
    found: MomentText


class ReportsView(msgspec.Struct, kw_only=True):
    """What was found and put right; a volume's own scrub is in GET /volumes."""

    now: MomentText
    recorder: RecorderView
    index: IndexView | None
    recoveries: list[RecoveryView]
    damage: Annotated[list[DamageView], Meta(description="the newest 200 of those that are known")]
    unread: Annotated[list[str], Meta(description="paths of volumes whose list of damage could not be read")] = []
