"""What the recorder tells of itself once a second, as one JSON file beside the index.

Kept true: the file is replaced atomically; a reader never sees half of it; nothing in it is needed to play video.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Literal

import msgspec

StreamState = Literal["connecting", "recording", "waiting", "backing-off", "standby", "disabled", "stopping"]


class StreamFigures(msgspec.Struct, kw_only=True):
    """What a stream is made of and its counters, under the same names wherever a stream is described."""

    codec: str = ""
    audio: str = ""
    width: int = 0
    height: int = 0
    transport: str = ""
    bitrate_bps: float = 0.0
    frame_rate: float = 0.0
    frames: int = 0
    key_frames: int = 0
    media_bytes: int = 0
    packets: int = 0
    lost_packets: int = 0
    reordered_packets: int = 0
    dropped_gops: int = 0
    reconnects: int = 0
    stored_bytes: int = 0
    held_bytes: int = 0  # of that, what holds keep
    stored_bytes_s: float = 0.0  # mean of some hours
    days_left: float | None = None  # until footage on its volume has to be deleted to make room
    days_kept: float | None = None  # of footage, when its volume is as full as it may be


class StreamStatus(StreamFigures, omit_defaults=False, kw_only=True):
    """One stream's life: counters run from the recorder's start; rates are over the last few seconds."""

    name: str
    state: StreamState
    reason: str = ""  # short stable word: unauthorized, not-found, unreachable, not-rtsp, codec, stalled, …
    detail: str = ""  # one sentence for people, without secrets
    since_us: int = 0  # when the state was entered
    metadata_packets: int = 0
    retry_at_us: int = 0
    last_frame_us: int = 0
    durable_until_us: int = 0
    clock_offset_us: int | None = None  # camera's clock minus ours, when RTCP told


VolumeState = Literal["ok", "suspect", "draining", "quarantined"]


class VolumeFigures(msgspec.Struct, kw_only=True):
    """What is stored on a volume, how long there is room, and how deleting goes; named alike wherever it is told."""

    floor_bytes: int = 0  # stays free
    stored_bytes: int = 0  # of footage
    held_bytes: int = 0  # of that, what holds keep
    ingest_bytes_s: float = 0.0  # mean of some hours
    days_left: float | None = None  # until footage has to be deleted to make room
    days_kept: float | None = None  # of footage at this rate, when the volume is as full as it may be
    days_held: float | None = None  # of that, what holds cost
    streams_short: int = 0  # whose guaranteed days do not fit at this rate
    short_bytes: int = 0  # lacking to the floor, and nothing may go
    deleting_paused: str = ""  # short stable word: clock (for age alone), index, volume, free-space, fault
    deleting_detail: str = ""
    condemned_chunks: int = 0
    deleted_chunks: int = 0
    deleted_bytes: int = 0


class VolumeStatus(VolumeFigures, kw_only=True):
    """One volume: ok takes new chunks; suspect does not answer; draining takes no new ones; quarantined failed."""

    id: str
    path: str
    state: VolumeState
    reason: str = ""  # short stable word: missing, eio, enospc, readonly, limit, hung, opening, format
    detail: str = ""  # one sentence for people
    since_us: int = 0  # when the state was entered
    streams: int = 0  # that record to it now
    free_bytes: int = 0
    total_bytes: int = 0
    queue_bytes: int = 0
    written_bytes: int = 0
    syncs: int = 0
    last_sync_ms: float = 0.0


class ClockStatus(msgspec.Struct, kw_only=True):
    """The node's clock and stored time: not trusted means that nothing is deleted by age."""

    trusted: bool
    reason: str = ""  # short stable word: not-set, ahead, step-not-followed, unsynced, stepped
    synced: bool | None = None  # the kernel's word; null when it cannot be asked
    ahead_us: int = 0  # stored time minus the node's clock
    error_us: int = 0  # bound of stored time's error, 0 unknown
    steps: int = 0  # seen since the recorder started
    last_step_us: int = 0  # by so much


OverloadCause = Literal["disk", "cpu"]


class OverloadStatus(msgspec.Struct, kw_only=True):
    """One time in which disk or CPU could not keep up."""

    cause: OverloadCause
    volume: str = ""  # id and path of the one that was too slow
    path: str = ""
    since_us: int
    until_us: int = 0  # 0 while it lasts
    streams: int = 0  # that lost something
    waiting: int = 0  # of them, not recorded at this moment
    dropped_gops: int = 0  # of paused cameras nobody knows how many


class IndexStatus(msgspec.Struct, kw_only=True):
    """The index: `whole` when every chunk is in it; else how many of those on the volumes were looked at."""

    whole: bool = True
    read_in: bool = True  # all that lies on volumes that are there
    chunks_done: int = 0
    chunks_total: int = 0
    findings: int = 0  # files that could not be taken in
    renewals: int = 0  # since the recorder started
    made_us: int = 0  # when it was last made again, and why; 0 not since the recorder started
    why: str = ""
    verified_us: int = 0


class RecorderStatus(msgspec.Struct, kw_only=True):
    """The recorder process as a whole."""

    pid: int
    started_us: int
    updated_us: int
    version: str
    loop_lag_ms: float = 0.0  # the longest since the report before
    handshakes: int = 0  # cameras being set up now, and the most at a time since the start
    handshakes_peak: int = 0
    index_commits: int = 0
    index_behind_chunks: int = 0  # chunks that the index will read again from their files
    clock: ClockStatus | None = None
    index: IndexStatus = msgspec.field(default_factory=IndexStatus)
    streams: list[StreamStatus] = []
    volumes: list[VolumeStatus] = []
    media_bytes: int = 0  # media in memory, and the bound of it
    media_bytes_max: int = 0
    overload_episodes: int = 0  # since the recorder started
    overloads: list[OverloadStatus] = []  # of now, then those that are over, newest first


def write_status(path: Path, status: RecorderStatus) -> None:
    """Replace the status file; not synced, as it describes only this moment."""
    fresh = path.with_suffix(".new")
    fresh.write_bytes(msgspec.json.encode(status))
    os.replace(fresh, path)


def read_status(path: Path) -> RecorderStatus | None:
    """The last status, or None when there is none or it cannot be read."""
    with contextlib.suppress(OSError, msgspec.DecodeError, msgspec.ValidationError):
        return msgspec.json.decode(path.read_bytes(), type=RecorderStatus)
    return None
